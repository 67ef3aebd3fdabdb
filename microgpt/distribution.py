"""How the work of an update is divided among replicas, and how their answers are put together.

Plain values, as flags, messages and checkpoints have them; ``microgpt.strategies.parts`` makes the
optimizers, aggregation rules and compressors that they name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

MAX_REPLICAS = 1 << 12
#: Replicas of a run whose strategy needs some where the user has not said how many.
DEFAULT_REPLICAS = 4
#: How training documents may be dealt out to replicas; "" for not at all.
SHARD_BY = ("", "random", "length", "first-letter")
MAX_SPEC = 5_000  # letters of a name with its options; it may be the path of a file


@dataclass(frozen=True)
class Distribution:
    """Raises ValueError for values that cannot be.

    ``replicas``: into how many virtual replicas the work is divided, whatever the number of
    workers; 0: into none, if the strategy needs none. ``aggregate``: how one vector is made of the
    replicas' vectors. ``compress``: how vectors shrink on the wire, "" for not at all;
    ``error_feedback``: whether what was left out is added to the next vector. The optimizers are
    those of local steps and of the global weights, "" for the strategy's own. ``shard_by``: whether
    each replica draws from a part of the documents of its own, see ``microgpt.data.shares``.
    All names may have options: ``NAME:VALUE`` or ``NAME:KEY=VALUE,KEY=VALUE``.
    """

    replicas: int = 0
    aggregate: str = "mean"
    compress: str = ""
    error_feedback: bool = True
    inner_optimizer: str = ""
    outer_optimizer: str = ""
    shard_by: str = ""

    def __post_init__(self) -> None:
        if type(self.replicas) is not int or not 0 <= self.replicas <= MAX_REPLICAS:
            raise ValueError(f"replicas must be a whole number of at most {MAX_REPLICAS:,}")
        if type(self.error_feedback) is not bool:
            raise ValueError("error_feedback must be true or false")
        for name in ("aggregate", "compress", "inner_optimizer", "outer_optimizer"):
            text = getattr(self, name)
            if not isinstance(text, str) or len(text) > MAX_SPEC or not text.isprintable():
                raise ValueError(f"{name} must be a name with options")
        if self.shard_by not in SHARD_BY:
            named = ", ".join(filter(None, SHARD_BY))
            raise ValueError(f"shard_by must be one of {named}, not {self.shard_by!r:.60}")
        if not self.aggregate:
            raise ValueError("aggregate must be a name with options")

    @property
    def is_plain(self) -> bool:
        """Whether gradients are summed as they are, in the order of the batch."""
        return self == Distribution()

    def to_dict(self) -> dict[str, Any]:
        """The fields as a plain map."""
        return asdict(self)

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Distribution:
        """The inverse of ``to_dict``. Raises ValueError for missing, unknown or wrong entries."""
        if not isinstance(plain, Mapping) or plain.keys() != cls().to_dict().keys():
            raise ValueError("the distribution has missing or unknown entries")
        return cls(**plain)
