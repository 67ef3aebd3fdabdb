"""Who owes which shard of one step, and what has been answered. Pure bookkeeping."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from coordinator.events import Peer
from microgpt.messages import Answer
from microgpt.reduction import Shard, shards, tree_sum
from microgpt.vectors import Vector


@dataclass(frozen=True)
class Contribution:
    """An accepted answer: who gave it, the message, and its gradient as a vector."""

    peer: Peer
    answer: Answer
    gradient: Vector


class StepLedger:
    """The shards of step ``step``: queued, owed by workers, answered.

    Every shard is at all times in the queue, owed by at least one worker, or answered; ``audit``
    raises AssertionError if that is ever untrue. Shards in ``verify`` want answers of two workers.
    """

    def __init__(
        self, step: int, batch_size: int, shard_size: int, verify: Collection[Shard] = ()
    ) -> None:
        self.step = step
        self.all = shards(batch_size, shard_size)
        self.wanted = {shard: 2 if shard in verify else 1 for shard in self.all}
        self.owners: dict[Shard, dict[Peer, float]] = {shard: {} for shard in self.all}
        self.contributions: dict[Shard, list[Contribution]] = {shard: [] for shard in self.all}
        self.queue = deque(shard for shard in self.all for _ in range(self.wanted[shard]))
        self._open = len(self.all)

    def involved(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker owes or has answered the shard."""
        answered = any(given.peer == peer for given in self.contributions[shard])
        return answered or peer in self.owners[shard]

    def take(self, peer: Peer, now: float) -> Shard | None:
        """Hand the first queued shard that the worker has not seen yet to it."""
        for place, shard in enumerate(self.queue):
            if not self.involved(shard, peer):
                del self.queue[place]
                self.owners[shard][peer] = now
                return shard
        return None

    def take_also(self, shard: Shard, peer: Peer, now: float) -> None:
        """Hand a shard that somebody owes already to a further worker."""
        self.owners[shard][peer] = now

    def release(self, peer: Peer) -> list[Shard]:
        """The worker owes nothing any more; gives back the shards that it owed."""
        freed = self.owed_by(peer)
        for shard in reversed(freed):
            del self.owners[shard][peer]
            self._requeue(shard)
        return freed

    def answer(self, peer: Peer, shard: Shard, answer: Answer, gradient: Vector) -> Peer | None:
        """Take an answer in. Returns the worker whose earlier answer differs in a bit, if one does.

        Raises KeyError for a shard that the step does not have.
        """
        given = self.contributions[shard]
        self.owners[shard].pop(peer, None)
        if any(earlier.peer == peer for earlier in given):
            return None
        differing = next((c.peer for c in given if not same_bits(c.answer, answer)), None)
        given.append(Contribution(peer, answer, gradient))
        if len(given) == self.wanted[shard]:
            self._open -= 1
        self._requeue(shard)
        return differing

    def _requeue(self, shard: Shard) -> None:
        """Make the shard stand in the queue as often as it needs further workers."""
        have = len(self.owners[shard]) + len(self.contributions[shard])
        missing = max(0, self.wanted[shard] - have)
        standing = self.queue.count(shard)
        for _ in range(standing, missing):
            self.queue.appendleft(shard)
        for _ in range(missing, standing):
            self.queue.remove(shard)

    def owed_by(self, peer: Peer) -> list[Shard]:
        """Shards that the worker has been given and not answered, in order."""
        return [shard for shard in self.all if peer in self.owners[shard]]

    def waive_verification(self) -> None:
        """One answer is enough for every shard: there is nobody to ask for a second one."""
        for shard, wanted in self.wanted.items():
            if wanted > 1:
                if len(self.contributions[shard]) == 1:
                    self._open -= 1
                self.wanted[shard] = 1
                self._requeue(shard)

    @property
    def untouched(self) -> bool:
        """Whether no shard has been given to anybody."""
        return len(self.queue) == sum(self.wanted.values())

    @property
    def complete(self) -> bool:
        """Whether every shard has as many answers as it wants."""
        return self._open == 0

    def losses(self) -> list[float]:
        """Losses of the batch's documents in order. Only when complete."""
        parts = [self.contributions[shard][0].answer.losses for shard in self.all]
        joined: list[float] = np.frombuffer(b"".join(parts), "<f8").tolist()
        return joined

    def gradient_sum(self) -> Vector:
        """Tree sum of the gradients over the batch. Only when complete."""
        return tree_sum([self.contributions[shard][0].gradient for shard in self.all])

    def audit(self) -> None:
        """Raise AssertionError if a shard is owed to nobody, or a document is counted twice."""
        places = [i for shard in self.all for i in range(shard.start, shard.start + shard.count)]
        if places != list(range(len(places))):
            raise AssertionError("the shards do not cover every document exactly once")
        for shard in self.all:
            given = {c.peer for c in self.contributions[shard]}
            if given & self.owners[shard].keys():
                raise AssertionError(f"{shard} is both owed and answered by one worker")
            if not given and not self.owners[shard] and shard not in self.queue:
                raise AssertionError(f"{shard} is owed to nobody")


def same_bits(one: Answer, other: Answer) -> bool:
    """Whether two answers for a shard are equal to the bit."""
    return one.losses == other.losses and dict(one.gradient) == dict(other.gradient)
