"""The coordinator's settings: from flags, environment and defaults, frozen once at the start."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from coordinator.checkpointing.retention import Retention
from microgpt.config import TrainingConfig
from microgpt.distribution import Distribution
from microgpt.model import GPTConfig
from microgpt.optim.adam import AdamConfig
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.parts import check_parts, make_distribution, settled
from microgpt.strategies.registry import (
    load_strategy,
    name_of,
    options_of,
    parse_options,
)
from microgpt.support.cli import UserError


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
    replicas: int
    aggregate: str
    compress: str
    error_feedback: bool | None
    inner_optimizer: str
    outer_optimizer: str
    shard_by: str | None
    eval_every: int
    run_dir: Path | None
    checkpoint_every: int
    snapshot_every: int
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
    events_limit: int
    quiet: bool
    bind: str

    def training(self, vocab_size: int) -> TrainingConfig:
        """What decides the bits. Raises UserError for values that do not go together."""
        try:
            model = GPTConfig(vocab_size, self.n_layer, self.n_embd, self.n_head, self.block_size)
            adam = AdamConfig(self.learning_rate, self.beta1, self.beta2, self.eps)
            strategy = self.make_strategy()
            config = TrainingConfig(
                model, adam, self.steps, self.batch_size, self.seed, self.validation_fraction,
                name_of(strategy), options_of(strategy), settled(self.distribution(), strategy),
            )  # fmt: skip
            check_parts(config)
            return config
        except (ValueError, StrategyError) as error:
            raise UserError(str(error)) from error

    def distribution(self) -> Distribution:
        """How the work is divided. Raises ValueError or StrategyError."""
        return make_distribution(
            self.replicas, self.aggregate, self.compress, self.error_feedback,
            self.inner_optimizer, self.outer_optimizer, self.shard_by or "",
        )  # fmt: skip

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
    check_own_files(explicit, saved.distribution)
    plain = saved.to_dict()
    trained_with = {**plain, **plain["model"], **plain["adam"], **plain["distribution"]}
    try:
        distribution = settings.distribution() if explicit & plain["distribution"].keys() else None
    except (ValueError, StrategyError) as error:
        raise UserError(str(error)) from error
    for name in sorted(explicit & trained_with.keys() - {"steps", "strategy"}):
        given = settings if name not in plain["distribution"] else distribution
        if getattr(given, name) != trained_with[name]:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {getattr(settings, name)} contradicts the checkpoint, which was trained "
                f"with {trained_with[name]}: leave the flag out to resume"
            )
    steps = settings.steps if "steps" in explicit else saved.steps
    return replace(saved, steps=steps)


def check_own_files(explicit: set[str], saved: Distribution) -> None:
    """Raise UserError if a checkpoint names a file that the user does not name, too."""
    for name, spec in saved.to_dict().items():
        if isinstance(spec, str) and ".py:" in spec and name not in explicit:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"the checkpoint was trained with {flag} {spec}: to run that file, say so with "
                f"{flag} {spec}"
            )


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
