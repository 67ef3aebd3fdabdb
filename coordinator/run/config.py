"""The coordinator's settings: from flags, environment and defaults, frozen once at the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click

from coordinator.checkpointing.retention import Retention
from coordinator.core.events import Level
from microgpt.config import BOUNDS, TrainingConfig
from microgpt.model import GPTConfig
from microgpt.optim.adam import AdamConfig
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.registry import (
    DEFAULT,
    load_strategy,
    name_of,
    options_of,
    parse_options,
)
from microgpt.support.cli import MAX_SECONDS, Number, UserError, Whole, option

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_BIND = "tcp://127.0.0.1:5555"
AT_LEAST_ONE = Whole()


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
    option("--learning-rate", type=Number(), default=0.01, help="Of the first step; falls to 0."),
    option("--beta1", type=Number(), default=0.85, help="Adam's decay of the mean."),
    option("--beta2", type=Number(), default=0.99, help="Adam's decay of the mean square."),
    option("--eps", type=Number(), default=1e-8, help="Adam's guard against division by zero."),
    option(
        "--validation-fraction", type=Number(0.0, 1.0, most_open=True), default=0.0,
        help="Share of the documents that is held out, to see what the model makes of them.",
    ),
    option(
        "--strategy", default=DEFAULT,
        help="How results become updates: sync, or FILE.py:Class for one of your own.",
    ),
    option(
        "--strategy-option", multiple=True, metavar="KEY=VALUE", show_default=False,
        help="A field of the strategy. May be given several times.",
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
        help="What events.jsonl tells: of the run and its workers, or of each shard, too.",
    ),
    option("--quiet", is_flag=True, help="No line per step."),
)  # fmt: skip


def coordinator_options(command: F) -> F:
    """Add every flag of the coordinator but ``--bind``, whose default differs by program."""
    for add in reversed(OPTIONS):
        command = add(command)
    return command


@dataclass(frozen=True)
class Settings:
    """All flags of a coordinator; see their help texts."""

    steps: int
    batch_size: int
    shard_size: int | None
    data: str
    seed: int
    n_layer: int
    n_embd: int
    n_head: int
    block_size: int
    learning_rate: float
    beta1: float
    beta2: float
    eps: float
    validation_fraction: float
    strategy: str
    strategy_option: tuple[str, ...]
    eval_every: int
    run_dir: Path | None
    checkpoint_every: int
    keep_last: int | None
    keep_every: int | None
    keep_best: int | None
    resume: str | None
    worker_timeout: float
    linger: float
    verify_fraction: float
    curve: Path | None
    insecure: bool
    events: str
    quiet: bool
    bind: str

    def training(self, vocab_size: int) -> TrainingConfig:
        """What decides the bits. Raises UserError for values that do not go together."""
        try:
            model = GPTConfig(vocab_size, self.n_layer, self.n_embd, self.n_head, self.block_size)
            adam = AdamConfig(self.learning_rate, self.beta1, self.beta2, self.eps)
            strategy = self.make_strategy()
            return TrainingConfig(
                model, adam, self.steps, self.batch_size, self.seed, self.validation_fraction,
                name_of(strategy), options_of(strategy),
            )  # fmt: skip
        except (ValueError, StrategyError) as error:
            raise UserError(str(error)) from error

    def make_strategy(self) -> Strategy:
        """The strategy that the flags name. Raises StrategyError."""
        return load_strategy(self.strategy, parse_options(self.strategy_option))

    def retention(self) -> Retention:
        """Which checkpoints are kept."""
        return Retention(self.keep_last, self.keep_every, self.keep_best)

    def to_dict(self) -> dict[str, Any]:
        """The flags as plain values, for the run's record."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return {key: str(v) if isinstance(v, Path) else v for key, v in plain.items()}


def check_resumed(settings: Settings, explicit: set[str], saved: TrainingConfig) -> TrainingConfig:
    """The checkpoint's settings; ``--steps`` alone may be given anew.

    ``explicit`` names the flags that the user set. Raises UserError where one of them contradicts
    the checkpoint.
    """
    check_same_strategy(settings, explicit, saved)
    plain = saved.to_dict()
    trained_with = {**plain, **plain["model"], **plain["adam"]}
    for name in sorted(explicit & trained_with.keys() - {"steps", "strategy"}):
        if getattr(settings, name) != trained_with[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {getattr(settings, name)} contradicts the checkpoint, which was trained "
                f"with {trained_with[name]}: leave the flag out to resume"
            )
    steps = settings.steps if "steps" in explicit else saved.steps
    return replace(saved, steps=steps)


def check_same_strategy(settings: Settings, explicit: set[str], saved: TrainingConfig) -> None:
    """Raise UserError if the flags name another strategy than the checkpoint, or a needed none.

    A file is a program: one that a checkpoint names is only run if the user names it, too.
    """
    if "strategy" not in explicit:
        if ":" in saved.strategy:
            raise UserError(
                f"the checkpoint was trained with the strategy {saved.strategy}: to run that file, "
                f"say so with --strategy {saved.strategy}"
            )
        if "strategy_option" not in explicit:
            return
    name = settings.strategy if "strategy" in explicit else saved.strategy
    try:
        options = parse_options(settings.strategy_option) or saved.strategy_options
        strategy = load_strategy(name, options)
    except StrategyError as error:
        raise UserError(str(error)) from error
    given = name_of(strategy), options_of(strategy)
    if given != (saved.strategy, dict(saved.strategy_options)):
        raise UserError(
            f"--strategy {given[0]} with {given[1]} contradicts the checkpoint, which was trained "
            f"with {saved.strategy} and {dict(saved.strategy_options)}"
        )
