"""What must be true of a round's ledger at all times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from coordinator.core.contribution import Contribution
from coordinator.core.inputs import Peer
from coordinator.core.shard_queue import ShardQueue
from microgpt.optim.reduction import Shard


class Ledger(Protocol):
    """The part of a ``RoundLedger`` that is looked at."""

    @property
    def all(self) -> Sequence[Shard]: ...  # noqa: D102  # as there

    @property
    def queue(self) -> ShardQueue: ...  # noqa: D102  # as there

    @property
    def contributions(self) -> Mapping[Shard, list[Contribution]]: ...  # noqa: D102  # as there

    def assignees(self, shard: Shard) -> Mapping[Peer, float]: ...  # noqa: D102  # as there

    def decided(self, shard: Shard) -> bool: ...  # noqa: D102  # as there

    def contested(self, shard: Shard) -> bool: ...  # noqa: D102  # as there


def audit(ledger: Ledger) -> None:
    """Raise AssertionError if a shard is in nobody's hands, or a document is counted twice."""
    places = [i for shard in ledger.all for i in range(shard.start, shard.start + shard.count)]
    if places != list(range(len(places))):
        raise AssertionError("the shards do not cover every document exactly once")
    ledger.queue.audit()
    for shard in ledger.all:
        given = {contribution.peer for contribution in ledger.contributions[shard]}
        if len(given) != len(ledger.contributions[shard]):
            raise AssertionError(f"{shard} has two results of one worker")
        if given & ledger.assignees(shard).keys():
            raise AssertionError(f"{shard} is both in flight and answered by one worker")
        settled = ledger.decided(shard) or ledger.contested(shard)
        if not (settled or ledger.assignees(shard) or shard in ledger.queue):
            raise AssertionError(f"{shard} is neither queued nor in flight")
