"""Who owes which shard of one step, what has been answered, and which answer counts.

Pure bookkeeping. Usually the first answer for a shard counts. Where two answers differ in a bit, or
an answer contradicts a worker that says that a document cannot be computed, the shard is
*contested*: what it comes to on this host counts. Only where that cannot be had do workers vote:
what two of them say alike, and most of those asked say, counts.

Longer than 300 lines because what ``audit`` holds together must be changed in one place.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from coordinator.core.inputs import Peer
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard, shards
from microgpt.protocol.messages import ShardResult
from microgpt.strategies.base import Result

#: Who gives the answers that are computed on this host; no peer has this name.
JUDGE: Peer = b""


class RoundId(NamedTuple):
    """Round ``number`` (from 0) of an epoch: work with the weights after ``step`` updates.

    ``training``: gradients are wanted, else the losses of held-out documents.
    """

    number: int
    step: int
    training: bool


#: No gradient or loss of a training that goes well is as large.
INCREDIBLE = 1e30


@dataclass(frozen=True)
class Contribution:
    """An accepted answer: who gave it, its losses (little-endian float64) and its gradient.

    The gradient of an evaluation has no numbers.
    """

    peer: Peer
    losses: bytes
    gradient: Vector

    def zeroed(self) -> Contribution:
        """As much, but nothing."""
        return Contribution(self.peer, bytes(len(self.losses)), np.zeros_like(self.gradient))

    def result(self, shard: Shard) -> Result:
        """As a strategy sees it."""
        return Result(shard, np.frombuffer(self.losses, "<f8"), self.gradient)

    def largest(self) -> float:
        """Its largest number, whatever the sign."""
        numbers = (self.gradient, np.frombuffer(self.losses, "<f8"))
        return max(float(np.abs(part).max()) for part in numbers if len(part))


class RoundLedger:
    """The shards of round ``number``, of step ``step``: queued, owed by workers, answered.

    Every shard without a result is at all times in the queue or owed by a worker; ``audit`` raises
    AssertionError if that is ever untrue. Shards in ``verify`` want answers of two workers.
    """

    def __init__(
        self,
        step: int,
        batch_size: int,
        shard_size: int,
        verify: Collection[Shard] = (),
        *,
        training: bool = True,
        number: int = 0,
    ) -> None:
        self.step, self.round = step, RoundId(number, step, training)
        self.all = shards(batch_size, shard_size)
        self.wanted = {shard: 2 if shard in verify else 1 for shard in self.all}
        self.assignees: dict[Shard, dict[Peer, float]] = {shard: {} for shard in self.all}
        self.contributions: dict[Shard, list[Contribution]] = {shard: [] for shard in self.all}
        self.failures: dict[Shard, dict[Peer, str]] = {}
        self.queue = deque(shard for shard in self.all for _ in range(self.wanted[shard]))
        self._standing = Counter(self.queue)
        self._asked: dict[Shard, set[Peer]] = {shard: set() for shard in self.all}
        self._results: dict[Shard, Contribution] = {}
        self._judged: dict[Shard, Contribution] = {}
        self._verified = {shard for shard, wanted in self.wanted.items() if wanted > 1}
        self._doubtful: set[Shard] = set()  # without a result in spite of answers, or failed at
        self._waived: set[Shard] = set()  # to be verified, if there were anybody
        self._tried: set[tuple[Shard, Peer]] = set()
        self.voting = False  # whether workers decide what is contested
        self.failed_at: dict[Shard, float] = {}
        self.untouched = True  # as long as no shard has been given to anybody

    # --- handing out -----------------------------------------------------------------------------

    def asked(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker was ever given the shard."""
        return peer in self._asked.get(shard, ())

    def tried(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker was given the shard as a trial."""
        return (shard, peer) in self._tried

    def note_trial(self, shard: Shard, peer: Peer) -> None:
        """The worker computes the shard, and nothing comes of it here."""
        self._tried.add((shard, peer))

    def involved(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker owes or has answered the shard, or has failed at it."""
        return (
            peer in self.assignees[shard]
            or any(given.peer == peer for given in self.contributions[shard])
            or peer in self.failures.get(shard, ())
        )

    def take(self, peer: Peer, now: float) -> Shard | None:
        """Hand the first queued shard that the worker is not involved in to it."""
        for place, shard in enumerate(self.queue):
            if not self.involved(shard, peer):
                del self.queue[place]
                self._standing[shard] -= 1
                self.take_also(shard, peer, now)
                return shard
        return None

    def take_also(self, shard: Shard, peer: Peer, now: float) -> None:
        """Hand a shard to a worker, whether it is queued or not."""
        self.untouched = False
        self.assignees[shard][peer] = now
        self._asked[shard].add(peer)

    def release(self, peer: Peer) -> list[Shard]:
        """The worker owes nothing any more; gives back the shards that it owed."""
        freed = self.in_flight_of(peer)
        for shard in reversed(freed):
            del self.assignees[shard][peer]
            self._requeue(shard)
        return freed

    def give_back(self, peer: Peer, shard: Shard) -> None:
        """The worker is not to compute the shard any more: another one is."""
        self.assignees[shard].pop(peer, None)
        self._requeue(shard)

    def in_flight_of(self, peer: Peer) -> list[Shard]:
        """Shards that the worker has been given and not answered, in order."""
        return [shard for shard in self.all if peer in self.assignees[shard]]

    def surplus(self, shard: Shard) -> int:
        """How many workers more than it needs owe the shard; negative if it needs more."""
        given = len(self.contributions[shard])
        needed = max(self.wanted[shard], given + 1)  # given and no result: they differ
        return given + len(self.assignees[shard]) - needed

    def _requeue(self, shard: Shard) -> None:
        """Make the shard stand in the queue as often as it needs further workers."""
        settled = shard in self._results or self.contested(shard)
        missing = 0 if settled else max(0, -self.surplus(shard))
        for _ in range(self._standing[shard], missing):
            self.queue.appendleft(shard)
        for _ in range(missing, self._standing[shard]):
            self.queue.remove(shard)
        self._standing[shard] = missing

    # --- taking in -------------------------------------------------------------------------------

    def answer(
        self, peer: Peer, shard: Shard, answer: ShardResult, gradient: Vector
    ) -> Peer | None:
        """Take an answer in. Returns the worker whose earlier answer differs in a bit, if one does.

        Raises KeyError for a shard that the step does not have.
        """
        given = self.contributions[shard]
        self.assignees[shard].pop(peer, None)
        if any(earlier.peer == peer for earlier in given):
            return None
        new = Contribution(peer, answer.losses, gradient)
        differing = next((earlier.peer for earlier in given if not same_bits(earlier, new)), None)
        given.append(new)
        self._decide(shard)
        return differing

    def fail(self, peer: Peer, shard: Shard, reason: str, now: float = 0.0) -> None:
        """The worker says that it cannot compute the shard."""
        self.failed_at.setdefault(shard, now)
        self.assignees[shard].pop(peer, None)
        self.failures.setdefault(shard, {})[peer] = reason
        self._decide(shard)

    def judge(self, shard: Shard, answer: ShardResult, gradient: Vector) -> None:
        """This is what the shard comes to, whoever says or has said otherwise."""
        self._judged[shard] = Contribution(JUDGE, answer.losses, gradient)
        self._decide(shard)

    def discard(self, peer: Peer) -> None:
        """What the worker has said in this step is not believed: others are asked."""
        for shard in self.all:
            given = self.contributions[shard]
            believed = [contribution for contribution in given if contribution.peer != peer]
            failed = self.failures.get(shard, {}).pop(peer, None)
            if len(believed) < len(given) or failed is not None:
                self.contributions[shard] = believed
                self._decide(shard)

    def strike_out(self, peer: Peer) -> None:
        """Nothing counts that the worker has said or owes, even if that was entered by halves."""
        for shard in self.all:
            self.assignees[shard].pop(peer, None)
            self.failures.get(shard, {}).pop(peer, None)
            self.contributions[shard] = [c for c in self.contributions[shard] if c.peer != peer]
            self._decide(shard)

    def waive_verification(self) -> bool:
        """One answer is enough for every shard: there is nobody to ask for a second one.

        Returns whether that changed anything. Answers that differ already stay doubtful.
        """
        waived = [shard for shard in self._verified if len(self.contributions[shard]) < 2]
        for shard in waived:
            self._verified.discard(shard)
            self._waived.add(shard)
            self.wanted[shard] = 1
            self._decide(shard)
        return bool(waived)

    def reinstate_verification(self, shards: Collection[Shard] | None = None) -> None:
        """Ask for two answers again where nothing is decided, of ``shards`` or of all."""
        for shard in [s for s in self._waived if shards is None or s in shards]:
            if shard not in self._results:
                self._waived.discard(shard)
                self._verified.add(shard)
                self.wanted[shard] = 2
                self._decide(shard)

    def let_vote(self) -> None:
        """Nothing can be computed on this host: what most workers say counts."""
        self.voting = True
        for shard in [*self._doubtful]:
            self._decide(shard)

    def _decide(self, shard: Shard) -> None:
        """Find the answer that counts, if there is one, and queue the shard if there is not."""
        given = self.contributions[shard]
        self._results.pop(shard, None)
        if shard in self._judged:
            self._results[shard] = self._judged[shard]
        elif len(given) >= self.wanted[shard]:
            for contribution in given:
                alike = sum(same_bits(contribution, other) for other in given)
                outvotes = self.voting and alike >= 2 and 2 * alike > len(given)
                if (alike == len(given) and not self.contested(shard)) or outvotes:
                    self._results[shard] = contribution
                    break
        enough = len(given) >= self.wanted[shard] or self.failures.get(shard)
        if enough and shard not in self._results:
            self._doubtful.add(shard)
        else:
            self._doubtful.discard(shard)
        self._requeue(shard)

    # --- what came out ---------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether every shard has a result."""
        return len(self._results) == len(self.all)

    def decided(self, shard: Shard) -> bool:
        """Whether the shard has a result."""
        return shard in self._results

    def judged(self, shard: Shard) -> bool:
        """Whether the shard's result has been computed on this host."""
        return shard in self._judged

    def outvoted(self, shard: Shard) -> list[Peer]:
        """Workers whose answers for the shard are not its result."""
        result = self._results.get(shard)
        if result is None:
            return []
        return [c.peer for c in self.contributions[shard] if not same_bits(c, result)]

    def result(self, shard: Shard) -> Contribution | None:
        """What counts for the shard, if that is decided."""
        return self._results.get(shard)

    def incredible(self, peer: Peer) -> bool:
        """Whether the worker has answered numbers so large that they prove nothing."""
        answers = (c for given in self.contributions.values() for c in given if c.peer == peer)
        return any(answer.largest() > INCREDIBLE for answer in answers)

    def supporters(self, shard: Shard) -> list[Peer]:
        """Workers whose answers for the shard are its result."""
        result = self._results.get(shard)
        given = self.contributions[shard] if result is not None else []
        return [c.peer for c in given if result is not None and same_bits(c, result)]

    def contested(self, shard: Shard) -> bool:
        """Whether workers contradict each other about the shard, and nobody is to vote."""
        given = self.contributions[shard]
        if self.voting or shard in self._judged or not given:
            return False
        differ = any(not same_bits(given[0], other) for other in given[1:])
        return differ or bool(self.failures.get(shard))

    def first_contested(self) -> Shard | None:
        """A shard that is contested, if there is one."""
        return next((shard for shard in self._doubtful if self.contested(shard)), None)

    @property
    def disputed(self) -> bool:
        """Whether a shard has been answered or failed at, and has no result."""
        return bool(self._doubtful)

    def undecidable(self, present: Collection[Peer]) -> Shard | None:
        """A shard that needs another opinion when all workers ``present`` have given theirs."""
        for shard in self._doubtful if present else ():
            awaited = any(peer in present for peer in self.assignees[shard])
            if not awaited and all(self.involved(shard, peer) for peer in present):
                return shard
        return None

    def results(self, *, judged: bool = False) -> list[Result]:
        """What is decided, in the order of shards.

        With ``judged``: zeros for all that has not been computed on this host.
        """
        decided = [(shard, self._results[shard]) for shard in self.all if shard in self._results]
        return [
            (given if not judged or given.peer == JUDGE else given.zeroed()).result(shard)
            for shard, given in decided
        ]

    @property
    def num_decided(self) -> int:
        """How many shards have a result."""
        return len(self._results)

    def largest(self) -> Shard | None:
        """The shard with the largest number among those not computed on this host, if any is left.

        Only when complete.
        """
        rest = [shard for shard in self.all if not self.judged(shard)]
        return max(rest, key=lambda shard: self._results[shard].largest(), default=None)

    def audit(self) -> None:
        """Raise AssertionError if a shard is owed to nobody, or a document is counted twice."""
        places = [i for shard in self.all for i in range(shard.start, shard.start + shard.count)]
        if places != list(range(len(places))):
            raise AssertionError("the shards do not cover every document exactly once")
        if +self._standing != Counter(self.queue):
            raise AssertionError("the queue and its counts differ")
        for shard in self.all:
            given = {contribution.peer for contribution in self.contributions[shard]}
            if len(given) != len(self.contributions[shard]):
                raise AssertionError(f"{shard} has two answers of one worker")
            if given & self.assignees[shard].keys():
                raise AssertionError(f"{shard} is both owed and answered by one worker")
            settled = self.decided(shard) or self.contested(shard)
            if not (settled or self.assignees[shard] or shard in self.queue):
                raise AssertionError(f"{shard} is owed to nobody")


def same_bits(one: Contribution, other: Contribution) -> bool:
    """Whether two answers for a shard are equal to the bit; 0 and -0 are not."""
    return one is other or (
        one.losses == other.losses
        and np.array_equal(one.gradient.view(np.int64), other.gradient.view(np.int64))
    )
