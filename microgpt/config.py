"""What decides the bits of a training: model, optimiser, batches, seed and what is held out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from microgpt.adam import AdamConfig
from microgpt.model import GPTConfig

#: Far beyond any training; what is larger is a mistake, or a file that means harm.
MAX_STEPS = 10**15
MAX_BATCH = 1 << 20
MAX_SEED = 2**64 - 1  # the largest number that msgpack can hold


@dataclass(frozen=True)
class TrainingConfig:
    """Everything but the data. Raises ValueError for values that cannot be.

    ``steps`` is the number of updates, ``batch_size`` the number of documents in each.
    ``validation_fraction``, in [0, 1), is the share of the documents that is never trained on.
    """

    model: GPTConfig
    adam: AdamConfig = field(default_factory=AdamConfig)
    steps: int = 1000
    batch_size: int = 32
    seed: int = 42
    validation_fraction: float = 0.0

    def __post_init__(self) -> None:
        limits = (("steps", 1, MAX_STEPS), ("batch_size", 1, MAX_BATCH), ("seed", 0, MAX_SEED))
        for name, least, most in limits:
            number = getattr(self, name)
            if not isinstance(number, int) or isinstance(number, bool) or number < least:
                raise ValueError(f"{name} must be a whole number of at least {least}")
            if number > most:
                raise ValueError(f"{name} must be at most {most:,}")
        fraction = checked_fraction(self.validation_fraction)
        object.__setattr__(self, "validation_fraction", fraction)

    def to_dict(self) -> dict[str, Any]:
        """Nested plain maps, for records, messages and checkpoints."""
        return {
            "model": self.model.to_dict(),
            "adam": self.adam.to_dict(),
            "steps": self.steps,
            "batch_size": self.batch_size,
            "seed": self.seed,
            "validation_fraction": self.validation_fraction,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> TrainingConfig:
        """The inverse of ``to_dict``. Raises ValueError for missing, unknown or wrong entries."""
        try:
            rest = dict(plain)
            model, adam = GPTConfig(**rest.pop("model")), AdamConfig(**rest.pop("adam"))
            config = cls(model=model, adam=adam, **rest)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the settings of a training: {error}") from error
        whole = config.to_dict()
        for ours, theirs in ((whole, plain), *((whole[k], plain[k]) for k in ("model", "adam"))):
            if missing := sorted(ours.keys() - theirs.keys()):
                raise ValueError(f"not the settings of a training: {missing[0]} is missing")
        return config


def checked_fraction(fraction: Any) -> float:
    """A share of the documents that can be held out. Raises ValueError outside [0, 1)."""
    number = isinstance(fraction, (int, float)) and not isinstance(fraction, bool)
    if not number or not 0.0 <= fraction < 1.0:
        raise ValueError(f"validation_fraction must lie in [0, 1), not {fraction!r}")
    return float(fraction)
