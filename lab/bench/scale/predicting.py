"""``bench.py scale``: time, bytes and efficiency with up to thousands of workers, by the model."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from lab.bench.progress import Numbers
from lab.bench.scale import costs as costs_file
from lab.bench.scale.costs import NAMES, NEEDED, Calibration, with_given
from lab.bench.scale.model import Step, crossover, star, tree
from lab.bench.scale.running import calibrate, written
from lab.bench.scale.sharing import Network
from lab.condition_texts import ConditionError, read_conditions
from lab.conditions import Link
from microgpt.support import cli

MOST_WORKERS = 100_000
VERSION = 2  # of the file
#: Costs that are no seconds.
PLAIN = ("crowding", "turns", "vector", "document_down", "document_up")
REPEATS = 5  # of each run of the calibration


@dataclass(frozen=True)
class Question:
    """What is asked: ``batch`` documents in all, or ``per_worker`` of them for each worker.

    ``processors``: that all processes share, None where each has a machine of its own.
    """

    workers: tuple[int, ...]
    per_worker: int
    batch: int | None
    network: Network
    fan_out: int
    processors: int | None

    def documents(self, workers: int) -> int:
        """Of a step."""
        return self.batch or self.per_worker * workers


class Cost(click.ParamType[tuple[str, float]]):
    """``NAME=VALUE``: microseconds, but for bytes and factors."""

    name = "cost"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float]:
        """The name, and seconds or bytes."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).partition("=")
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if name not in NAMES or not 0.0 <= number < 1e12:
            self.fail(f"{value!r} is not one of {', '.join(NAMES)} with a number behind =")
        return name, number if name in PLAIN else 1e-6 * number


@click.command(context_settings={"show_default": True})
@click.option(
    "--workers", type=Numbers(), default="1,3,10,30,100,300,1000,3000,10000",
    help="Numbers of workers, with commas.",
)  # fmt: skip
@click.option("--per-worker", type=cli.Whole(1), default=32, help="Documents for each in a step.")
@click.option(
    "--batch-size", type=cli.Whole(1), help="Documents of a step, however many workers there are.",
)  # fmt: skip
@click.option(
    "--link", default="", help="Of each worker, as for train: latency=1ms,bandwidth=1Gbit."
)
@click.option("--trunk", default="", help="What the coordinator's own line carries: 10Gbit.")
@click.option("--fan-out", type=cli.Whole(2), default=32, help="Children of an aggregator.")
@click.option("--processors", type=cli.Whole(1), help="That all share.  [default: each its own]")
@click.option(
    "--costs", "costs_path", type=click.Path(path_type=Path),
    help="Read what was measured, or measure and write it.",
)  # fmt: skip
@click.option(
    "--cost", "given", type=Cost(), multiple=True, show_default=False,
    help="NAME=MICROSECONDS in place of what was measured. May be given several times.",
)  # fmt: skip
@click.option("--width", type=cli.Whole(1), default=16, help="Embedding width, where measured.")
@click.option("--data", default="names", help="Documents, where measured.")
@click.option("--seconds", type=cli.Number(0.01), default=1.0, help="For each measurement.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def scale(
    workers: tuple[int, ...],
    per_worker: int,
    batch_size: int | None,
    link: str,
    trunk: str,
    fan_out: int,
    processors: int | None,
    costs_path: Path | None,
    given: tuple[tuple[str, float], ...],
    width: int,
    data: str,
    seconds: float,
    json_file: Path | None,
) -> None:
    """Predict a step with many workers from what its parts cost here; trees of aggregators, too.

    An aggregator is taken to cost what the coordinator and a worker do for a shard.
    """
    if max(workers) > MOST_WORKERS:
        raise click.UsageError(f"--workers: at most {MOST_WORKERS:,}")
    network = Network(_link(link, "--link"), _link(f"bandwidth={trunk}", "--trunk").rate
                      if trunk else None)  # fmt: skip
    question = Question(
        tuple(sorted(set(workers))), per_worker, batch_size, network, fan_out, processors
    )
    calibration = _calibration(costs_path, {name for name, _ in given}, width, data, seconds)
    costs = with_given(calibration.costs if calibration else None, given)
    stars = [star(costs, network, n, question.documents(n), processors) for n in question.workers]
    trees = [] if processors else [
        tree(costs, network, n, question.documents(n), fan_out) for n in question.workers
    ]  # fmt: skip
    one = star(costs, network, 1, question.documents(1), processors)
    Console(width=140).print(shown(stars, trees, one, fan_out), highlight=False)
    Console(width=140).print(explained(stars, trees, fan_out), highlight=False, soft_wrap=True)
    if json_file is not None:
        plain = {
            "version": VERSION, "costs": asdict(costs), "per_worker": per_worker,
            "batch_size": batch_size, "link": link, "trunk": trunk, "fan_out": fan_out,
            "processors": processors, "crossover": crossover(stars, trees) if trees else None,
            "star": [_plain(each, one) for each in stars],
            "tree": [_plain(each, one) for each in trees],
        }  # fmt: skip
        with written(json_file):
            json_file.write_text(json.dumps(plain, indent=2) + "\n")


def _calibration(
    path: Path | None, given: set[str], width: int, data: str, seconds: float
) -> Calibration | None:
    """Read, or measured and written if there is a place for it; None if nothing is missing."""
    if given >= NEEDED:
        return None
    if path is not None and path.exists():
        return costs_file.read(path)
    measured = calibrate(width, data, seconds, REPEATS)
    if path is not None:
        with written(path):
            path.write_text(measured.to_json())
    return measured


def _link(text: str, flag: str) -> Link:
    try:
        return read_conditions(1, link=(text,) if text else ()).of(1).link
    except ConditionError as error:
        raise click.UsageError(str(error).replace("--link", flag)) from error


def efficiency(step: Step, one: Step) -> float:
    """Documents per second for each worker, as a share of what one worker alone does."""
    return step.documents_per_second / (step.workers * one.documents_per_second)


def _plain(step: Step, one: Step) -> dict[str, Any]:
    more = {"bound": step.bound, "efficiency": efficiency(step, one)}
    return {**asdict(step), "documents_per_second": step.documents_per_second, **more}


def shown(stars: list[Step], trees: list[Step], one: Step, fan_out: int) -> Table:
    """A row for each number of workers."""
    columns = ["workers", "batch", "star: ms", "docs/s", "eff.", "bound by", "MB sent", "received"]
    if trees:
        columns += [f"tree of {fan_out}: ms", "docs/s", "eff.", "MB sent"]
    table = Table(*columns, title="a step, predicted")
    for place, step in enumerate(stars):
        row = [f"{step.workers:,}", f"{step.documents:,}", *_speed(step, one), step.bound,
               f"{step.sent / 1e6:,.2f}", f"{step.received / 1e6:,.2f}"]  # fmt: skip
        if trees:
            row += [*_speed(trees[place], one), f"{trees[place].sent / 1e6:,.2f}"]
        table.add_row(*row)
    return table


def _speed(step: Step, one: Step) -> list[str]:
    return [
        f"{1e3 * step.seconds:,.2f}",
        f"{step.documents_per_second:,.0f}",
        f"{efficiency(step, one):.0%}",
    ]


def explained(stars: list[Step], trees: list[Step], fan_out: int) -> str:
    """What the columns come to, in sentences."""
    lines = []
    for step, before in zip(stars[1:], stars, strict=False):
        if step.bound != before.bound:
            lines.append(f"from {step.workers:,} workers on a star's step is bound by its "
                         f"{step.bound}, before by its {before.bound}")  # fmt: skip
    if trees:
        where = crossover(stars, trees)
        if where is None:
            lines.append(f"a tree of {fan_out} is never faster than the star here")
        else:
            lines.append(f"a tree of {fan_out} is faster from {where:,} workers on")
    return "\n".join(lines)
