"""Ways to train at equal documents and at equal bytes: ``python scripts/compare_strategies.py``.

Each way trains on the same documents with 8 replicas, in one process: who asks for work gets it at
once, so that in the asynchronous ways a gradient is as old as there are replicas. What differs from
seed to seed is the order of the documents, the weights at the start and what is held out.

What a loss takes is told in bytes that replicas send and in processor seconds of this one process,
which computes for all of them; evaluations are not in it.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import click

from lab.counting import Counted, Watched
from microgpt.compression.feedback import size_of
from microgpt.compression.registry import load_compressor
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.dataset import load_dataset
from microgpt.engine import make_engine
from microgpt.engine.base import Engine
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import num_params
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.parts import make_distribution
from microgpt.strategies.registry import STRATEGIES, load_strategy, options_of
from microgpt.support import cli
from microgpt.support.progress import Progress
from microgpt.support.user_class import OwnCodeError, absolute
from microgpt.training import TrainingState, initial_state

REPLICAS, BATCH = 8, 32
HELD_OUT = 0.1
FIRST_SEED = 42
PROBE = 16  # updates that show what an update takes
#: The bytes of the second comparison: what ``sync`` sends for this share of the documents.
BYTES_SHARE = 8
GOALS = (2.2, 2.1)  # validation losses, in nats
GRAIN = 30  # about so many evaluations of a training
#: What is compared beside all strategies: ``sync`` with one of these.
COMPRESSED = (
    "f16", "int8", "qsgd", "sign", "sign:vote=true", "onebit", "topk:0.01", "randomk:0.01",
    "powersgd:2",
)  # fmt: skip
AGGREGATED = ("median", "trimmed-mean", "krum", "multi-krum", "bulyan", "centered-clip")


@dataclass(frozen=True)
class Way:
    """A strategy with what it is combined with."""

    strategy: str
    compress: str = ""
    aggregate: str = "mean"

    @property
    def name(self) -> str:
        """For the table."""
        more = [self.compress, self.aggregate if self.aggregate != "mean" else ""]
        return " ".join([self.strategy, *filter(None, more)])


class Training(NamedTuple):
    """Held-out loss at the end; of each of ``GOALS`` the update and the processor seconds at which
    it was reached, None if it was not.
    """

    loss: float
    reached: tuple[tuple[int, float] | None, ...]


class Cost(NamedTuple):
    """What one update takes: documents computed, and bytes sent by all replicas together."""

    documents: float
    bytes: float


@dataclass
class Row:
    """What a way has come to, one training for each seed."""

    way: Way
    promise: str
    cost: Cost
    updates: tuple[int, int] = (0, 0)
    at_equal_documents: list[Training] = field(default_factory=list)
    at_equal_bytes: list[Training] = field(default_factory=list)

    def cells(self) -> list[str]:
        """As the columns of ``HEADINGS``."""
        found = [self.way.name, self.promise, f"{self.cost.bytes:,.0f}"]
        trained = self.at_equal_documents, self.at_equal_bytes
        for updates, trainings in zip(self.updates, trained, strict=True):
            found += [f"{updates:,}", spread([each.loss for each in trainings])]
            for at in range(len(GOALS)):
                found.append(taken([each.reached[at] for each in trainings], self.cost.bytes))
        return found


TO_GOALS = tuple(f"to {goal:g}" for goal in GOALS)
HEADINGS = (
    "way", "promise", "bytes of an update", "updates", "loss at equal documents", *TO_GOALS,
    "updates", "loss at equal bytes", *TO_GOALS,
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seeds", type=cli.Whole(1), default=3, show_default=True, help="How many.")
@click.option(
    "--steps", type=cli.Whole(PROBE), default=300, show_default=True,
    help=f"Updates of sync, of {BATCH} documents each.",
)  # fmt: skip
@click.option("--quick", is_flag=True, help="One seed and 64 updates: to see that it runs.")
@click.option("--only", multiple=True, help="Only ways with this in their names.")
@click.option(
    "--also",
    multiple=True,
    metavar="FILE.py:CLASS",
    help="A strategy of your own, too.",
)
@click.option(
    "--format", "form", type=click.Choice(["markdown", "csv"]), default="markdown",
    show_default=True,
)  # fmt: skip
def main(
    seeds: int, steps: int, quick: bool, only: tuple[str, ...], also: tuple[str, ...], form: str
) -> int:
    """Compare all strategies, and sync with compressors and rules, in one process."""
    if quick:
        seeds, steps = 1, 64
    found = [way for way in ways(also) if not only or any(part in way.name for part in only)]
    try:
        rows = compare(found, range(FIRST_SEED, FIRST_SEED + seeds), steps)
    except (StrategyError, OwnCodeError) as error:
        raise cli.UserError(str(error)) from error
    print("\n".join(table(rows, form)))
    return 0


def ways(also: Sequence[str] = ()) -> Iterator[Way]:
    """All that is compared, by name."""
    yield from map(Way, (*STRATEGIES, *map(absolute, also)))
    yield from (Way("sync", compress=spec) for spec in COMPRESSED)
    yield from (Way("sync", aggregate=name) for name in AGGREGATED)


def compare(found: Sequence[Way], seeds: Sequence[int], steps: int) -> list[Row]:
    """Train each way with each seed, twice. Raises StrategyError and OwnCodeError."""
    documents = steps * BATCH
    sync = cost(Way("sync"))
    budget = sync.bytes * steps / BYTES_SHARE
    rows = []
    progress = Progress("comparing", lambda line: print(line, file=sys.stderr, flush=True))
    for number, way in enumerate(found):
        takes = cost(way)
        updates = max(2, round(documents / takes.documents)), max(2, round(budget / takes.bytes))
        row = Row(way, str(_strategy(way).promise), takes, updates=updates)
        for place, seed in enumerate(seeds):
            row.at_equal_documents.append(train(way, updates[0], seed))
            row.at_equal_bytes.append(train(way, updates[1], seed))
            progress(number + (place + 1) / len(seeds), len(found), way.name)
        rows.append(row)
    return rows


def cost(way: Way) -> Cost:
    """What an update of a way takes, seen in a short training."""
    counted, done = Counted(_strategy(way), REPLICAS), 1
    model = GPTConfig(_corpus(FIRST_SEED).tokenizer.vocab_size)
    with contextlib.suppress(ArithmeticError):  # it diverges: the table will say so
        for state in _run(way, counted, PROBE, FIRST_SEED, _engine(model), PROBE):
            done = state.step
    shapes = parameter_shapes(model)
    compressor = load_compressor(way.compress) if way.compress else None
    size = size_of(compressor, shapes) if compressor else 8 * num_params(shapes)
    return Cost(counted.documents / done, counted.vectors / done * size)


def train(way: Way, updates: int, seed: int) -> Training:
    """One training of so many updates. Its loss is infinite if it diverges."""
    loss, reached = math.inf, dict[float, tuple[int, float]]()
    corpus = _corpus(seed)
    engine = Watched(_engine(GPTConfig(corpus.tokenizer.vocab_size)))
    began = time.process_time()
    with contextlib.suppress(ArithmeticError):
        for state in _run(way, _strategy(way), updates, seed, engine, max(1, updates // GRAIN)):
            if state.validation is not None and state.validation.step == state.step:
                loss = state.validation.loss
                seconds = time.process_time() - began - engine.evaluating
                for goal in GOALS:
                    if loss <= goal:
                        reached.setdefault(goal, (state.step, seconds))
        return Training(loss, tuple(map(reached.get, GOALS)))
    return Training(math.inf, tuple(map(reached.get, GOALS)))


def _run(
    way: Way, strategy: Any, updates: int, seed: int, engine: Any, every: int
) -> Iterator[TrainingState]:
    """Train, and evaluate ``every`` so many updates, and after the last."""
    corpus = _corpus(seed)
    distribution = make_distribution(REPLICAS, way.aggregate, way.compress)
    config = TrainingConfig(
        GPTConfig(corpus.tokenizer.vocab_size), steps=updates, batch_size=BATCH, seed=seed,
        validation_fraction=HELD_OUT, strategy=way.strategy,
        strategy_options=options_of(_strategy(way)), distribution=distribution,
    )  # fmt: skip
    return serial.run(
        strategy, config, corpus, initial_state(config, corpus), engine, workers=REPLICAS,
        evaluates=lambda step: step == updates or step % every == 0,
    )  # fmt: skip


@cache
def _strategy(way: Way) -> Strategy:
    return load_strategy(way.strategy)


@cache
def _corpus(seed: int) -> Corpus:
    return Corpus(load_dataset("embedded").documents, seed, HELD_OUT)


@cache
def _engine(model: GPTConfig) -> Engine:
    return make_engine("tape", model)


def spread(losses: Sequence[float]) -> str:
    """Mean and standard deviation: "2.41 ± 0.02"; or how many of the trainings diverge."""
    diverged = sum(map(math.isinf, losses))
    if diverged:
        return f"{diverged} of {len(losses)} diverge"
    mean = statistics.fmean(losses)
    return f"{mean:.3f} ± {statistics.stdev(losses):.3f}" if len(losses) > 1 else f"{mean:.3f}"


def taken(reached: Sequence[tuple[int, float] | None], size: float) -> str:
    """Means of the bytes and seconds to a loss: "31.4 MB, 0.41 s"; or how many have reached it.

    ``size``: bytes of an update.
    """
    found = [each for each in reached if each is not None]
    if len(found) < len(reached) or not found:
        return f"{len(found)} of {len(reached)}" if found else "-"
    updates, seconds = (statistics.fmean(column) for column in zip(*found, strict=True))
    return f"{size * updates / 1e6:,.3g} MB, {seconds:.2f} s"


def table(rows: Sequence[Row], form: str) -> Iterator[str]:
    """The lines of the table."""
    if form == "csv":
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows([HEADINGS, *(row.cells() for row in rows)])
        yield out.getvalue().rstrip("\n")
        return
    for cells in (HEADINGS, ("---",) * len(HEADINGS), *(row.cells() for row in rows)):
        yield f"| {' | '.join(cells)} |"
