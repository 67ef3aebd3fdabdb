"""The shards of one round: which are queued, in flight or answered, and which result counts.

Usually the first result for a shard counts. Where two differ in a bit, or a result contradicts a
worker that says that a document cannot be computed, the shard is *contested*: what it comes to on
this host counts. Only where that cannot be had do workers vote: what two and most of them say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence

from coordinator.core.contribution import JUDGE, Contribution, all_alike, outvoting, state_of
from coordinator.core.in_flight import InFlight, RoundId, Work
from coordinator.core.inputs import Peer
from coordinator.core.ledger_audit import audit
from coordinator.core.shard_queue import ShardQueue, anything
from coordinator.core.work_order import NOBODY
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard
from microgpt.protocol.messages import ShardResult
from microgpt.replicas.state import Assignment
from microgpt.strategies.base import Result


class RoundLedger:
    """The shards ``cut`` of ``round``, in the order of its documents: queued, in flight, answered.

    Every shard without a result is at all times in the queue or in flight; ``audit`` raises
    AssertionError if that is ever untrue. Shards in ``verify`` want results of two workers, those
    in ``replicas`` are the parts of replicas.
    """

    def __init__(
        self,
        round: RoundId,
        cut: Sequence[Shard],
        in_flight: InFlight,
        verify: Container[Shard] = (),
        replicas: Mapping[Shard, Assignment] = NOBODY,
    ) -> None:
        self.round, self.all, self._in_flight, self._replicas = round, [*cut], in_flight, replicas
        self.wanted = {shard: 2 if shard in verify else 1 for shard in self.all}
        self.contributions: dict[Shard, list[Contribution]] = {shard: [] for shard in self.all}
        self.failures, self.failed_at = dict[Shard, dict[Peer, str]](), dict[Shard, float]()
        self.queue = ShardQueue(self.wanted)
        self._asked, self._tried = set[tuple[Shard, Peer]](), set[tuple[Shard, Peer]]()
        self._results, self._judged = dict[Shard, Contribution](), dict[Shard, Contribution]()
        self._verified = {shard for shard, wanted in self.wanted.items() if wanted > 1}
        self._doubtful: set[Shard] = set()  # without a result in spite of answers, or failed at
        self._waived: set[Shard] = set()  # to be verified, if there were anybody
        self.works: dict[Shard, Work] = {}  # of those that were asked for
        self.voting = False  # whether workers decide what is contested
        self.untouched = True  # as long as no shard has been given to anybody

    def asked(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker was ever given the shard."""
        return (shard, peer) in self._asked

    def given_out(self, shard: Shard) -> bool:
        """Whether anybody was ever given the shard, if only as a trial."""
        return any(shard == given for given, _ in self._asked | self._tried)

    def tried(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker was given the shard as a trial."""
        return (shard, peer) in self._tried

    def note_trial(self, shard: Shard, peer: Peer) -> None:
        """The worker computes the shard, and nothing comes of it here."""
        self._tried.add((shard, peer))

    def involved(self, shard: Shard, peer: Peer) -> bool:
        """Whether the worker has the shard in flight, or has answered or failed at it."""
        if peer in self.assignees(shard) or peer in self.failures.get(shard, ()):
            return True
        return peer in [given.peer for given in self.contributions[shard]]

    def assignees(self, shard: Shard) -> Mapping[Peer, float]:
        """The workers that have the shard in flight, with the time when they were given it."""
        return self._in_flight.on(self._work(shard))

    def _work(self, shard: Shard) -> Work:
        return self.works.get(shard) or self.works.setdefault(shard, Work(self.round, shard))

    def take(
        self, peer: Peer, now: float, suits: Callable[[Shard], bool] = anything
    ) -> Shard | None:
        """Hand the first queued shard that suits the worker, and is new to it, to it."""
        for place, shard in enumerate(self.queue):
            if not self.involved(shard, peer) and suits(shard):
                self.queue.take(place)
                self.take_also(shard, peer, now)
                return shard
        return None

    def take_also(self, shard: Shard, peer: Peer, now: float) -> None:
        """Hand a shard to a worker, whether it is queued or not."""
        self.note_told(shard, peer)
        self._in_flight.begin(peer, self._work(shard), now)

    def note_told(self, shard: Shard, peer: Peer) -> None:
        """The worker knows what the shard is, and may answer; that does not take it out."""
        self.untouched = False
        self._asked.add((shard, peer))

    def release(self, peer: Peer) -> list[Shard]:
        """The worker has nothing of this round in flight any more; gives back what it had."""
        works = [work for work in self._in_flight.of(peer) if work.round == self.round]
        freed = sorted(work.shard for work in works if not work.trial)
        for shard in reversed(freed):
            self.give_back(peer, shard)
        return freed

    def give_back(self, peer: Peer, shard: Shard) -> None:
        """The worker is not to compute the shard any more: another one is."""
        self._end(peer, shard)
        self._requeue(shard)

    def _end(self, peer: Peer, shard: Shard) -> None:
        self._in_flight.end(peer, self._work(shard))

    def surplus(self, shard: Shard) -> int:
        """How many workers more than it needs have the shard; negative if it needs more."""
        given = len(self.contributions[shard])
        needed = max(self.wanted[shard], given + 1)  # given and no result: they differ
        return given + len(self.assignees(shard)) - needed

    def _requeue(self, shard: Shard) -> None:
        """Make the shard stand in the queue as often as it needs further workers."""
        settled = shard in self._results or self.contested(shard)
        self.queue.put(shard, 0 if settled else max(0, -self.surplus(shard)))

    def answer(
        self, peer: Peer, shard: Shard, answer: ShardResult, gradient: Vector
    ) -> Peer | None:
        """Take a result in. Returns the worker whose earlier one differs in a bit, if one does.

        Raises KeyError for a shard that the round does not have.
        """
        given = self.contributions[shard]
        self._end(peer, shard)
        if given and peer in [earlier.peer for earlier in given]:
            return None
        new = Contribution(peer, answer.losses, gradient, state_of(answer))
        differing = [e.peer for e in given if not e.same_bits(new)] if given else []
        given.append(new)
        if self.undisputed(shard):  # as nearly always: there is nothing to weigh
            self._results[shard] = new
            self.queue.put(shard, 0)
        else:
            self._decide(shard)
        return differing[0] if differing else None

    def undisputed(self, shard: Shard) -> bool:
        """Whether one result is all that was wanted and said of the shard."""
        alone = len(self.contributions[shard]) == self.wanted[shard] == 1
        return alone and not self.failures.get(shard) and shard not in self._judged

    def fail(self, peer: Peer, shard: Shard, reason: str, now: float = 0.0) -> None:
        """The worker says that it cannot compute the shard."""
        self.failed_at.setdefault(shard, now)
        self._end(peer, shard)
        self.failures.setdefault(shard, {})[peer] = reason
        self._decide(shard)

    def judge(self, shard: Shard, answer: ShardResult, gradient: Vector) -> None:
        """This is what the shard comes to, whoever says or has said otherwise."""
        self._judged[shard] = Contribution(JUDGE, answer.losses, gradient, state_of(answer))
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
        """Nothing counts of what it has said, even by halves, and it has nothing in flight here."""
        for shard in self.all:
            self._end(peer, shard)
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
            undisputed = given and all_alike(given) and not self.contested(shard)
            voted = outvoting(given) if self.voting else None
            if result := given[0] if undisputed else voted:
                self._results[shard] = result
        enough = len(given) >= self.wanted[shard] or self.failures.get(shard)
        if enough and shard not in self._results:
            self._doubtful.add(shard)
        else:
            self._doubtful.discard(shard)
        self._requeue(shard)

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

    def result(self, shard: Shard) -> Contribution | None:
        """What counts for the shard, if that is decided."""
        return self._results.get(shard)

    def contested(self, shard: Shard) -> bool:
        """Whether workers contradict each other about the shard, and nobody is to vote."""
        given = self.contributions[shard]
        if self.voting or shard in self._judged or not given:
            return False
        return not all_alike(given) or bool(self.failures.get(shard))

    def first_contested(self) -> Shard | None:
        """A shard that is contested, if there is one."""
        return next((shard for shard in self._doubtful if self.contested(shard)), None)

    @property
    def disputed(self) -> bool:
        """Whether a shard has been answered or failed at, and has no result."""
        return bool(self._doubtful)

    def undecidable(self, present: Collection[Peer]) -> Shard | None:
        """A shard that needs another worker's result when all ``present`` have given theirs."""
        for shard in self._doubtful if present else ():
            awaited = any(peer in present for peer in self.assignees(shard))
            if not awaited and all(self.involved(shard, peer) for peer in present):
                return shard
        return None

    def results(self, *, judged: bool = False) -> list[Result]:
        """What is decided, in the order of shards.

        With ``judged``: zeros for all that has not been computed on this host.
        """
        decided, replicas = self._results, self._replicas
        return [
            (given if not judged or given.peer == JUDGE else given.zeroed()).result(
                shard, replicas[shard].replica if replicas else None
            )
            for shard in self.all
            if (given := decided.get(shard)) is not None
        ]

    def states(self) -> dict[Shard, Mapping[str, bytes]]:
        """The replicas after what is decided, where that was wanted."""
        return {shard: given.state for shard, given in self._results.items() if given.state}

    @property
    def arrived(self) -> Collection[Shard]:
        """The shards that have a result, in the order in which they got it."""
        return self._results.keys()

    def audit(self) -> None:
        """Raise AssertionError if a shard is in nobody's hands, or a document is counted twice."""
        audit(self)
