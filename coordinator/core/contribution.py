"""One worker's result for a shard, and which of several for the same shard counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

import numpy as np

from coordinator.core.inputs import Peer
from microgpt.numerics.vectors import Vector, vector_from_bytes
from microgpt.optim.reduction import Shard
from microgpt.protocol.messages import ReplicaResult, ShardResult
from microgpt.strategies.base import Result
from microgpt.support.records import record

#: Who gives the results that are computed on this host; no peer has this name.
JUDGE: Peer = b""
NO_STATE: Mapping[str, bytes] = {}


@record(frozen=True)
class Contribution:
    """A result as it was given: by whom, its losses (little-endian float64) and its gradient.

    The gradient of an evaluation has no numbers. ``state``: the replica after it, if it was wanted.
    """

    peer: Peer
    losses: bytes
    gradient: Vector
    state: Mapping[str, bytes] = field(default_factory=dict)

    def zeroed(self) -> Contribution:
        """As much, but nothing."""
        return Contribution(self.peer, bytes(len(self.losses)), np.zeros_like(self.gradient))

    def result(self, shard: Shard, replica: int | None) -> Result:
        """As a strategy sees it."""
        return Result(shard, vector_from_bytes(self.losses), self.gradient, replica)

    def largest(self) -> float:
        """Its largest number, whatever the sign."""
        numbers = (self.gradient, vector_from_bytes(self.losses))
        return max(float(np.abs(part).max()) for part in numbers if len(part))

    def same_bits(self, other: Contribution) -> bool:
        """Whether two results for a shard are equal to the bit; 0 and -0 are not."""
        return self is other or (
            self.losses == other.losses
            and self.state == other.state
            and np.array_equal(self.gradient.view(np.int64), other.gradient.view(np.int64))
        )


def state_of(answer: ShardResult) -> Mapping[str, bytes]:
    """The replica after a task, if that came with the answer."""
    return answer.state if isinstance(answer, ReplicaResult) else NO_STATE


def all_alike(given: Sequence[Contribution]) -> bool:
    """Whether nobody contradicts the first."""
    return all(given[0].same_bits(other) for other in given[1:])


def outvoting(given: Sequence[Contribution]) -> Contribution | None:
    """What two or more workers say alike, and most of those who have said something."""
    for contribution in given:
        alike = sum(contribution.same_bits(other) for other in given)
        if alike >= 2 and 2 * alike > len(given):
            return contribution
    return None
