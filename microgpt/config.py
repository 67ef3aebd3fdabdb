"""What decides the bits of a training: model, optimiser, batches, seed and what is held out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from microgpt.distribution import DEFAULT_REPLICAS, Distribution
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.optim.adam import AdamConfig
from microgpt.parameters import num_params

# Far beyond any training; what is larger is a mistake, or a file that means harm. It could not be
# sent to workers, saved or loaded again, which would be noticed at the end.
MAX_STEPS = 10**15
MAX_BATCH = 1 << 20
MAX_SEED = 2**64 - 1  # the largest number that msgpack can hold
MAX_PARAMETERS = 33_000_000  # a message has at most 256 MiB; see messages.py
MAX_LAYERS = 5_000  # a checkpoint has 18 entries for each; see MAX_ENTRIES
MAX_OPTIONS = 100  # of a strategy
MAX_TEXT = 5_000  # letters of its name, which may be the path of a file, and of an option

#: From where to where the whole numbers of a training lie.
BOUNDS = {"steps": (1, MAX_STEPS), "batch_size": (1, MAX_BATCH), "seed": (0, MAX_SEED)}

#: The value of an option of a strategy.
Option: TypeAlias = int | float | bool | str


@dataclass(frozen=True)
class TrainingConfig:
    """Everything but the data. Raises ValueError for values that cannot be.

    ``steps`` is the number of updates, ``batch_size`` the number of documents in each.
    ``validation_fraction``, in [0, 1), is the share of the documents that is never trained on.
    ``strategy`` (a name, or ``FILE.py:Class``) says how results become updates, with all its
    options; see ``microgpt.strategies``. ``distribution``: how the work is divided among replicas.
    """

    model: GPTConfig
    adam: AdamConfig = field(default_factory=AdamConfig)
    steps: int = 1000
    batch_size: int = 32
    seed: int = 42
    validation_fraction: float = 0.0
    strategy: str = "sync"
    strategy_options: Mapping[str, Option] = field(default_factory=dict, hash=False)
    distribution: Distribution = field(default_factory=Distribution)

    def __post_init__(self) -> None:
        for name, (least, most) in BOUNDS.items():
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name} must be a whole number of at least {least}")
            if number > most:
                raise ValueError(f"{name} must be at most {most:,}")
        check_size(self.model)
        fraction = checked_fraction(self.validation_fraction)
        object.__setattr__(self, "validation_fraction", fraction)
        if self.distribution.replicas > self.batch_size:
            raise ValueError(
                f"{self.distribution.replicas} replicas cannot share a batch of {self.batch_size} "
                "documents: take fewer, or a larger batch"
            )
        check_strategy(self.strategy, self.strategy_options)
        object.__setattr__(self, "strategy_options", dict(self.strategy_options))

    @property
    def num_replicas(self) -> int:
        """How many replicas there are, where some are needed."""
        return self.distribution.replicas or min(DEFAULT_REPLICAS, self.batch_size)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain maps, for records, messages and checkpoints."""
        return {
            "model": self.model.to_dict(),
            "adam": self.adam.to_dict(),
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "validation_fraction": self.validation_fraction,
            "strategy": self.strategy,
            "strategy_options": dict(self.strategy_options),
            "distribution": self.distribution.to_dict(),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of ``to_dict``. Raises ValueError for missing, unknown or wrong entries."""
        try:
            rest = dict(plain)
            model, adam = GPTConfig(**rest.pop("model")), AdamConfig(**rest.pop("adam"))
            distribution = Distribution.from_dict(rest.pop("distribution"))
            config = cls(model=model, adam=adam, distribution=distribution, **rest)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the settings of a training: {error}") from error
        whole = config.to_dict()
        for ours, theirs in ((whole, plain), *((whole[k], plain[k]) for k in ("model", "adam"))):
            if missing := sorted(ours.keys() - theirs.keys()):
                raise ValueError(f"not the settings of a training: {missing[0]} is missing")
        return config


def check_size(model: GPTConfig) -> None:
    """Raise ValueError for a model whose weights could not be sent or saved."""
    if model.n_layer > MAX_LAYERS:
        raise ValueError(f"n_layer must be at most {MAX_LAYERS:,}, not {model.n_layer}")
    size = num_params(parameter_shapes(model))
    if size > MAX_PARAMETERS:
        raise ValueError(
            f"a model of {size:,} parameters is too large: at most {MAX_PARAMETERS:,} can be sent "
            "to workers; take a smaller n_embd, n_layer or block_size"
        )


def check_strategy(name: Any, options: Any) -> None:
    """Raise ValueError for the name or options of a strategy that no file could hold."""
    if not _is_text(name) or not name:
        raise ValueError("strategy must be a name, or FILE.py:Class")
    if not isinstance(options, Mapping) or len(options) > MAX_OPTIONS:
        raise ValueError(f"strategy_options must be a map of at most {MAX_OPTIONS} entries")
    for key, value in options.items():
        if not _is_text(key) or not key.isidentifier():
            raise ValueError("strategy_options must have names of fields as keys")
        whole = isinstance(value, int) and -(2**63) <= value < 2**64  # what msgpack can hold
        number = whole or (isinstance(value, float) and math.isfinite(value))
        if not number and not _is_text(value):
            raise ValueError(f"strategy_options: {key} must be a finite number, a bool or a text")


def _is_text(value: Any) -> bool:
    """Whether it is a text of a usual length that can be written: half a surrogate pair cannot."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return False
    return value.encode("utf-8", "replace").decode() == value


def checked_fraction(fraction: Any) -> float:
    """A share of the documents that can be held out. Raises ValueError outside [0, 1)."""
    number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if not number or not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction must lie in [0, 1), not {fraction!r}")
    return float(fraction)
