"""The coordinator's flags, for its own command line and for whoever starts it.

``lab.launch`` shows and passes them on: nothing is imported here that takes long.
"""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from coordinator.core.level import Level
from microgpt.config import BOUNDS, TrainingConfig
from microgpt.distribution import MAX_REPLICAS, SHARD_BY
from microgpt.support.cli import MAX_SECONDS, Bytes, Number, Whole, option
from microgpt.support.invocation import call_of

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_BIND = "tcp://127.0.0.1:5555"
AT_LEAST_ONE = Whole()


class Named(click.Option):
    """An option that takes one of the names of a table, ``names`` (``MODULE:TABLE``).

    The table is imported where ``{names}`` in the help text is shown, and nowhere else. Those of
    strategies are shown with their options, which other names are given after a colon.
    """

    def __init__(self, *args: Any, names: str, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self._module, _, self._table = names.partition(":")

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """As any option's, with the names."""
        table = getattr(importlib.import_module(self._module), self._table)
        shown = [name + self._options(kind) for name, kind in table.items()]
        self.help = (self.help or "").replace("{names}", ", ".join(shown))
        return super().get_help_record(ctx)

    def _options(self, kind: Any) -> str:
        fields = dataclasses.fields(kind) if self.name == "strategy" else ()
        text = ", ".join(f"{field.name}={field.default}" for field in fields if field.init)
        return f" ({text})" if text else ""


class ShardSize(click.ParamType[int | None]):
    """A power of two, or ``auto``."""

    name = "size"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | None:
        """None for ``auto``."""
        if value is None or value == "auto":
            return None
        try:
            size = int(value)
        except ValueError:
            size = 0
        if size < 1 or size & (size - 1):
            self.fail(f"{value!r} is not a power of two (1, 2, 4, 8, ...) and not 'auto'")
        return size


OPTIONS: tuple[Callable[[Any], Any], ...] = (
    option("--steps", type=Whole(*BOUNDS["steps"]), default=1000, help="Number of updates."),
    option(
        "--batch-size", type=Whole(*BOUNDS["batch_size"]), default=32, help="Documents per update."
    ),
    option(
        "--shard-size", type=ShardSize(), default="auto",
        help="Documents per work order: a power of two, or auto. Never changes the result.",
    ),
    option(
        "--data", default="names",
        help="names (downloaded once), embedded, a text file or a URL with one document a line.",
    ),
    option("--seed", type=Whole(*BOUNDS["seed"]), default=42, help="Of shuffle, weights, samples."),
    option("--n-layer", type=AT_LEAST_ONE, default=1, help="Transformer blocks."),
    option("--n-embd", type=AT_LEAST_ONE, default=16, help="Width."),
    option("--n-head", type=AT_LEAST_ONE, default=4, help="Attention heads."),
    option("--block-size", type=AT_LEAST_ONE, default=16, help="Context, in tokens."),
    option(
        "--learning-rate", type=Number(), default=0.01,
        help="Of Adam's and AdamW's first step; falls to 0.",
    ),
    option("--beta1", type=Number(), default=0.85, help="Adam's decay of the mean."),
    option("--beta2", type=Number(), default=0.99, help="Adam's decay of the mean square."),
    option("--eps", type=Number(), default=1e-8, help="Adam's guard against division by zero."),
    option(
        "--validation-fraction", type=Number(0.0, 1.0, most_open=True), default=0.0,
        help="Share of the documents that is held out, to see what the model makes of them.",
    ),
    option(
        "--strategy", default=TrainingConfig.strategy, cls=Named,
        names="microgpt.strategies.registry:STRATEGIES",
        help=f"How results become updates: {{names}}, or FILE.py:Class for one of your own. "
        f"More about each: {call_of('strategies')}",
    ),
    option(
        "--strategy-option", multiple=True, metavar="KEY=VALUE", show_default=False,
        help="A field of the strategy. May be given several times.",
    ),
    option(
        "--replicas", type=Whole(0, MAX_REPLICAS), default=0, show_default="as the strategy needs",
        help="Virtual replicas that the work is divided among, whatever the number of workers.",
    ),
    option(
        "--aggregate", default="mean", cls=Named,
        names="microgpt.aggregation.registry:AGGREGATIONS",
        help="How replicas' vectors become one: {names}, or FILE.py:Class; with options: krum:f=1.",
    ),
    option(
        "--compress", default="", show_default="no compression", cls=Named,
        names="microgpt.compression.registry:COMPRESSORS",
        help="How vectors shrink on the wire: {names}, or FILE.py:Class; with options: topk:0.01.",
    ),
    option(
        "--error-feedback/--no-error-feedback", default=None, show_default="as it suits",
        help="Whether what compression leaves out is added to the next vector.",
    ),
    option(
        "--inner-optimizer", default="", show_default="the strategy's", cls=Named,
        names="microgpt.optim.registry:OPTIMIZERS",
        help="Of replicas' local steps: {names}, or FILE.py:Class; with options: sgd:0.1.",
    ),
    option(
        "--outer-optimizer", default="", show_default="the strategy's",
        help="Of the global weights: one of the same.",
    ),
    option(
        "--shard-by", type=click.Choice(SHARD_BY[1:]), default=None, show_default="all alike",
        help="Give each replica documents of its own: dealt out at random, or by what they are.",
    ),
    option(
        "--eval-every", type=AT_LEAST_ONE, default=100,
        help="Steps between evaluations on the held-out documents.",
    ),
    option(
        "--run-dir", type=click.Path(path_type=Path), default=None,
        help="Where the run is recorded.  [default: runs/<timestamp>]", show_default=False,
    ),
    option("--checkpoint-every", type=AT_LEAST_ONE, default=100, help="Steps between checkpoints."),
    option(
        "--snapshot-every", type=Whole(0), default=0, show_default="32, fewer of large models",
        help="Tasks of a replica after which its state is saved: as many are done again when its "
        "worker has died. Never changes the result.",
    ),
    option(
        "--keep-last", type=AT_LEAST_ONE, default=None, show_default="all",
        help="Delete checkpoints but the newest so many, and those of the other --keep flags.",
    ),
    option(
        "--keep-every", type=AT_LEAST_ONE, default=None, show_default="all",
        help="Delete checkpoints but those of every so many steps, and those of the other flags.",
    ),
    option(
        "--keep-best", type=AT_LEAST_ONE, default=None, show_default="all",
        help="Delete checkpoints but the so many with the lowest validation loss, and the others.",
    ),
    option(
        "--resume", default=None, show_default=False,
        help="Go on from a run directory or a checkpoint file; 'auto': from --run-dir, if it can.",
    ),
    option(
        "--worker-timeout", type=Number(0.1, MAX_SECONDS), default=1.5,
        help="Seconds of silence after which a worker's shards go to others.",
    ),
    option(
        "--linger", type=Number(0.0, MAX_SECONDS), default=0.0,
        help="If the run is complete already: seconds to stay and send workers home.",
    ),
    option(
        "--verify-fraction", type=Number(0.0, 1.0), default=0.0,
        help="Share of the shards that two workers compute, to compare the bits.",
    ),
    option(
        "--curve", type=click.Path(path_type=Path), default=None, show_default=False,
        help="Encrypt, and let in known workers only: folder of the keys, made on first use.",
    ),
    option("--insecure", is_flag=True, help="Bind to a network without --curve all the same."),
    option(
        "--events", type=click.Choice([level.value for level in Level]), default="summary",
        help="What events.jsonl tells: of the run and its workers, of rounds, or of each shard.",
    ),
    option(
        "--events-limit", type=Bytes(), default="1GiB",
        help="Size of events.jsonl from which on only --events summary is added to it.",
    ),
    option("--quiet", is_flag=True, help="No line per step."),
)  # fmt: skip


def coordinator_options(command: F) -> F:
    """Add every flag of the coordinator but ``--bind``, whose default differs by program."""
    for add in reversed(OPTIONS):
        command = add(command)
    return command
