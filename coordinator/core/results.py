"""What workers say of their shards: results and failures, of real work and of trials.

They go into the ledger of their round. Who says what cannot be is cut off; where workers contradict
each other, the shard is judged.
"""

from __future__ import annotations

from collections.abc import Iterable

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.closing import Closes
from coordinator.core.contribution import state_of
from coordinator.core.cross_check import (
    contradiction,
    incredible,
    read_gradient,
    supporters,
    take_failure,
    take_result,
)
from coordinator.core.events import Answered, Cause, Dropped, DropReason, Failed
from coordinator.core.in_flight import RoundId, Work
from coordinator.core.inputs import Peer
from coordinator.core.judging import Judging
from coordinator.core.membership import Membership, Worker
from coordinator.core.probation import FAILURE, Trial, digest
from coordinator.core.rounds import OpenRound
from coordinator.core.scheduler import Scheduler
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment
from microgpt.replicas.work import Recipe


class Results:
    """Takes in what workers answer, at any time and in any order."""

    def __init__(
        self,
        out: ActionBuffer,
        membership: Membership,
        scheduler: Scheduler,
        judging: Judging,
        ending: Closes,
        shapes: Shapes,
        recipe: Recipe,
    ) -> None:
        self._recipe = recipe
        self._out, self._membership, self._scheduler = out, membership, scheduler
        self._judging, self._ending, self._shapes = judging, ending, shapes
        self._rounds, self._probation = scheduler.rounds, scheduler.probation
        self._in_flight, self._stragglers = scheduler.in_flight, scheduler.stragglers

    def take_result(self, worker: Worker, answer: messages.ShardResult, now: float) -> None:
        """A worker has computed a shard, or claims so."""
        shard = Shard(answer.start, answer.count)
        id = RoundId(answer.round, answer.step, answer.training)
        trial, round = self._probation.awaited(worker.peer, id, (shard,)), self._rounds.find(id)
        known = round.ledger.works.get(shard) if round is not None and trial is None else None
        work = known or Work(id, shard, trial is not None)
        since = worker.in_flight.get(work)
        if since is not None:
            if now - since > worker.longest:
                worker.longest = now - since
            if self._out.rounds:
                worker.tally.answered(answer.count, answer.seconds, since, now)
        asked = round is None or since is not None or round.ledger.asked(shard, worker.peer)
        if trial is not None:
            self._take_trial(trial, work, answer, now)
        elif round and not asked and round.ledger.tried(shard, worker.peer):
            self._tell_dropped(worker, answer, DropReason.GIVEN_UP)
        elif not asked or (round is None and self._rounds.never_was(id)):
            self._tell_dropped(worker, answer, DropReason.NOT_ASKED)
            self._membership.expel(worker, Cause.NOT_ASKED, "it answers what it was not asked")
        elif round:
            self._enter(worker, round, work.shard, answer, since, now)
        else:  # too late for anything but to say that the worker is idle
            self._in_flight.end(worker.peer, work)
            self._tell_dropped(worker, answer, DropReason.LATE)

    def _enter(
        self,
        worker: Worker,
        round: OpenRound,
        shard: Shard,
        answer: messages.ShardResult,
        since: float | None,
        now: float,
    ) -> None:
        """From the message into the ledger of its round, and what that shows about workers.

        ``since``: when the worker was given the shard, if it has it in flight.
        """
        gradient = self._gradient(worker, answer, round.order.assignments.get(shard))
        if gradient is None:
            return
        ledger = round.ledger
        if self._out.full:
            self._tell_entered(worker, round, answer, now)
        if not ledger.complete and self._rounds.open.get(ledger.round.number) is round:
            self._stragglers.answered(worker, answer, since, now)
        name = self._membership.name
        was_decided = ledger.decided(shard)
        refuted = take_result(ledger, worker.peer, shard, answer, gradient, name, self._out)
        if worker.proven and refuted is None:
            self._probation.decided(ledger, now)
            return
        self._judging.refute(refuted or [])
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

    def _gradient(
        self, worker: Worker, answer: messages.ShardResult, assignment: Assignment | None
    ) -> Vector | None:
        """The gradient of an answer; None, and the worker is cut off, if it is malformed."""
        try:
            snapshot = assignment is not None and self._rounds.wants_snapshot(assignment)
            return read_gradient(answer, self._shapes, assignment, self._recipe, snapshot=snapshot)
        except ValueError as error:
            self._tell_dropped(worker, answer, DropReason.MALFORMED)
            self._membership.expel(worker, Cause.MALFORMED, f"its answer is malformed: {error}")
            return None

    def _take_trial(
        self, trial: Trial, work: Work, answer: messages.ShardResult, now: float
    ) -> None:
        worker = trial.worker
        waited = now - worker.in_flight.get(work, now)
        self._in_flight.end(worker.peer, work)
        gradient = self._gradient(worker, answer, trial.assignment)
        if gradient is None:
            return
        self._tell_answered(worker, work, answer, waited)
        said = digest(answer.losses, gradient, state_of(answer))
        round = self._rounds.find(trial.round)
        self._probation.answered(trial, said, round.ledger if round else None, now)

    def take_failure(self, worker: Worker, failure: messages.Failure, now: float) -> None:
        """A worker says that a document of a shard cannot be computed."""
        place, id = failure.document, RoundId(failure.round, failure.step, failure.training)
        works = [work for work in worker.in_flight if work.round == id]
        works = [w for w in works if 0 <= place - w.shard.start < w.shard.count]
        shards = [work.shard for work in works]
        if shards and self._out.full:
            who, why = (worker.number, worker.name), printable(failure.reason, 200)
            self._out.tell(Failed(*id.shard_fields(shards[0]), *who, why))
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

    def ignore(self, worker: Worker, message: messages.Message) -> None:
        """A worker has sent something for another epoch or run."""
        if isinstance(message, messages.ShardResult):
            self._tell_dropped(worker, message, DropReason.OTHER_EPOCH)

    # --- telling ---------------------------------------------------------------------------------

    def _tell_dropped(
        self, worker: Worker, answer: messages.ShardResult, reason: DropReason
    ) -> None:
        if self._out.full:
            id = RoundId(answer.round, answer.step, answer.training)
            where = id.shard_fields(Shard(answer.start, answer.count))
            self._out.tell(Dropped(*where, worker.number, worker.name, reason))

    def _tell_entered(
        self, worker: Worker, round: OpenRound, answer: messages.ShardResult, now: float
    ) -> None:
        """An answer is about to be entered; or to be compared only, if it is not needed."""
        work = Work(round.id, Shard(answer.start, answer.count))
        since = worker.in_flight.get(work)
        if self._rounds.find_open(round.id) is None:
            self._tell_dropped(worker, answer, DropReason.LATE)
        elif since is None or round.ledger.decided(work.shard):
            self._tell_dropped(worker, answer, DropReason.SURPLUS)
        else:
            self._tell_answered(worker, work, answer, now - since)

    def _tell_answered(
        self, worker: Worker, work: Work, answer: messages.ShardResult, waited: float
    ) -> None:
        if self._out.full:
            where, who = work.round.shard_fields(work.shard), (worker.number, worker.name)
            self._out.tell(Answered(*where, *who, work.trial, answer.seconds, waited))

    # --- trust -----------------------------------------------------------------------------------

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
