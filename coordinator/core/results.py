"""What workers say of their shards: results and failures, of real work and of trials.

They go into the ledger of their round. Who says what cannot be is cut off; where workers contradict
each other, the shard is judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.cross_check import (
    contradiction,
    incredible,
    read_gradient,
    supporters,
    take_failure,
    take_result,
)
from coordinator.core.ending import Ending
from coordinator.core.in_flight import RoundId, Work
from coordinator.core.inputs import Peer
from coordinator.core.judging import Judging
from coordinator.core.membership import Membership, Worker
from coordinator.core.probation import FAILURE, Trial, digest
from coordinator.core.rounds import OpenRound
from coordinator.core.scheduler import Scheduler
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages


class Results:
    """Takes in what workers answer, at any time and in any order."""

    def __init__(
        self,
        out: ActionBuffer,
        membership: Membership,
        scheduler: Scheduler,
        judging: Judging,
        ending: Ending,
        shapes: Shapes,
    ) -> None:
        self._out, self._membership, self._scheduler = out, membership, scheduler
        self._judging, self._ending, self._shapes = judging, ending, shapes
        self._rounds, self._probation = scheduler.rounds, scheduler.probation
        self._in_flight, self._stragglers = scheduler.in_flight, scheduler.stragglers

    def take_result(self, worker: Worker, answer: messages.ShardResult, now: float) -> None:
        """A worker has computed a shard, or claims so."""
        shard = Shard(answer.start, answer.count)
        id = RoundId(answer.round, answer.step, answer.training)
        trial = self._probation.awaited(worker.peer, id, (shard,))
        work = Work(id, shard, trial is not None)
        if work in worker.in_flight:
            worker.longest = max(worker.longest, now - worker.in_flight[work])
        round = self._rounds.find(id)
        asked = round is None or round.ledger.asked(shard, worker.peer)
        if trial is not None:
            self._in_flight.end(worker.peer, work)
            self._take_trial(trial, answer, now)
        elif round and not asked and round.ledger.tried(shard, worker.peer):
            pass  # a trial that was given up meanwhile, or answered already
        elif self._rounds.never_was(id) or not asked:
            self._membership.expel(worker, "it answers what it was not asked")
        elif round:
            self._enter(worker, round, answer, now)
        else:  # too late for anything but to say that the worker is idle
            self._in_flight.end(worker.peer, work)

    def _enter(
        self, worker: Worker, round: OpenRound, answer: messages.ShardResult, now: float
    ) -> None:
        """From the message into the ledger of its round, and what that shows about workers."""
        try:
            gradient = read_gradient(answer, self._shapes)
        except ValueError as error:
            self._membership.expel(worker, f"its answer is malformed: {error}")
            return
        ledger = round.ledger
        if self._rounds.find_open(round.id) and not ledger.complete:
            self._stragglers.answered(worker, round, answer, now)
        name, shard = self._membership.name, Shard(answer.start, answer.count)
        was_decided = ledger.decided(shard)
        refuted = take_result(ledger, worker.peer, answer, gradient, name, self._out)
        self._judging.refute(refuted)
        for peer in supporters(ledger, shard):
            giver = self._membership.workers.get(peer)
            fresh = peer == worker.peer or not was_decided
            if giver and fresh and not giver.proven and not incredible(ledger, peer):
                self._probation.passed(giver)
        failed = ledger.failures.get(shard, ())
        self.set_aside(round, (peer for peer in failed if peer != worker.peer), now)
        self._probation.decided(ledger, now)
        contested = ledger.first_contested()
        if contested is not None:
            self._judging.ask(round, contested, contradiction(ledger, contested, name))

    def _take_trial(self, trial: Trial, answer: messages.ShardResult, now: float) -> None:
        try:
            gradient = read_gradient(answer, self._shapes)
        except ValueError as error:
            self._membership.expel(trial.worker, f"its answer is malformed: {error}")
            return
        said = digest(answer.losses, gradient)
        round = self._rounds.find(trial.round)
        self._probation.answered(trial, said, round.ledger if round else None, now)

    def take_failure(self, worker: Worker, failure: messages.Failure, now: float) -> None:
        """A worker says that a document of a shard cannot be computed."""
        place, id = failure.document, RoundId(failure.round, failure.step, failure.training)
        works = [work for work in worker.in_flight if work.round == id]
        works = [w for w in works if 0 <= place - w.shard.start < w.shard.count]
        shards = [work.shard for work in works]
        trial = self._probation.awaited(worker.peer, id, shards)
        round = self._rounds.find_open(id)
        for work in works if trial or not round else ():
            self._in_flight.end(worker.peer, work)
        if trial is not None:
            self._probation.answered(trial, FAILURE, round.ledger if round else None, now)
        elif shards and round and self._ending.closing is None:
            if not worker.proven and self._somebody_is_proven():
                round.ledger.give_back(worker.peer, shards[0])  # a claim that proven ones check
                self._probation.rest(worker, now)
                return
            reason, name = self._rounds.describe(round, failure), self._membership.name
            refuted = take_failure(round.ledger, worker.peer, shards[0], reason, now, name)
            self._judging.refute(refuted)

    def set_aside(self, round: OpenRound, peers: Iterable[Peer], now: float) -> bool:
        """Where proven workers can do it instead, nothing counts that these newcomers have said.

        They are tried again later: else each of many claims would have to be judged. Returns
        whether anybody was set aside.
        """
        workers = [self._membership.workers.get(peer) for peer in peers]
        newcomers = [worker for worker in workers if worker and not worker.proven]
        if not self._rounds.find_open(round.id) or not self._somebody_is_proven():
            return False
        for worker in newcomers:
            round.ledger.discard(worker.peer)
            self._probation.rest(worker, now)
        return bool(newcomers)

    def _somebody_is_proven(self) -> bool:
        return any(worker.proven for worker in self._membership.ready.values())
