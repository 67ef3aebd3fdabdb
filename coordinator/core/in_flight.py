"""What has been given to which worker and is not answered yet: the one record of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from coordinator.core.inputs import Peer
from microgpt.optim.reduction import Shard


class RoundId(NamedTuple):
    """Round ``number`` (from 0) of an epoch: work with the weights after ``step`` updates.

    ``training``: gradients are wanted, else the losses of held-out documents.
    """

    number: int
    step: int
    training: bool

    def shard_fields(self, shard: Shard) -> tuple[int, int, int, int, bool]:
        """The first fields of an event about a shard of the round."""
        return self.number, self.step, shard.start, shard.count, not self.training


class Work(NamedTuple):
    """A shard of a round; as a ``trial`` nothing waits for it (see ``probation``)."""

    round: RoundId
    shard: Shard
    trial: bool = False


class InFlight:
    """Work by the worker that has it, and workers by the work, each with the time of giving.

    Work of a round that is over stays in flight: its worker is not idle before it has answered.
    """

    def __init__(self) -> None:
        self._of: dict[Peer, dict[Work, float]] = {}
        self._on: dict[Work, dict[Peer, float]] = {}
        self._busy = 0

    @property
    def num_busy(self) -> int:
        """How many workers have any work."""
        return self._busy

    def of(self, peer: Peer) -> Mapping[Work, float]:
        """What a worker has now: a view, which holds until ``forget``."""
        return self._of.setdefault(peer, {})

    def on(self, work: Work) -> Mapping[Peer, float]:
        """Who has this work now, in the order of giving."""
        return self._on.get(work, {})

    def begin(self, peer: Peer, work: Work, now: float) -> None:
        """A worker is given work."""
        works = self._of.setdefault(peer, {})
        self._busy += not works
        works[work] = now
        self._on.setdefault(work, {})[peer] = now

    def end(self, peer: Peer, work: Work) -> None:
        """A worker has done with work, if it had it."""
        works = self._of.get(peer, {})
        if works.pop(work, None) is not None:
            self._busy -= not works
            workers = self._on[work]
            del workers[peer]
            if not workers:
                del self._on[work]

    def end_all(self, peer: Peer) -> None:
        """A worker has nothing in flight any more."""
        for work in [*self._of.get(peer, ())]:
            self.end(peer, work)

    def forget(self, peer: Peer) -> None:
        """A worker is gone."""
        self.end_all(peer)
        self._of.pop(peer, None)
