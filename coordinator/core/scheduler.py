"""Giving the shards of open rounds to workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.ahead import Ahead
from coordinator.core.events import Assigned, Purpose, RoundOpened, Unverified
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.policy import Policy
from coordinator.core.probation import Probation
from coordinator.core.replicas import Replicas
from coordinator.core.rounds import OpenRound, Rounds
from coordinator.core.shard_queue import anything
from coordinator.core.stragglers import Stragglers
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages
from microgpt.strategies import driver
from microgpt.strategies.base import LocalSteps, Losses

#: Replicas that a worker may have more than an idle one before one of them moves there.
MOST_SURPLUS = 2


class Scheduler:
    """Gives the shards of the open ``rounds`` away: those of the oldest one first.

    ``in_flight`` is what has been given away and is not answered. ``probation`` says who may be
    given what a step waits for, ``stragglers`` who takes too long.
    """

    def __init__(
        self, rounds: Rounds, policy: Policy, out: ActionBuffer, replicas: Replicas
    ) -> None:
        self.replicas = replicas
        self._policy, self._out = policy, out
        self.rounds, self.in_flight = rounds, rounds.in_flight
        self.probation = Probation(self.in_flight)
        self.stragglers = Stragglers(out, rounds, self.probation, self._send)
        self._waived = False
        self._ahead = Ahead(out, self.rounds)

    def prepare(self, opened: driver.OpenRound, workers: Mapping[Peer, Worker]) -> None:
        """Cut a round for these workers whose weights come later, and tell them of it."""
        self._ahead.prepare(opened, self.staff(workers).values())

    def open_rounds(
        self,
        strategy: driver.RoundDriver,
        workers: Mapping[Peer, Worker],
        worked: float,
        now: float,
    ) -> None:
        """Ask the strategy for work if there is nobody working, or somebody without work.

        Raises StrategyError. See ``begin``.
        """
        if self.rounds.open and strategy.one_at_a_time:
            return
        idle = self.wanted(workers, now)
        if not self.rounds.open or idle:
            for opened in strategy.begin(max(1, len(workers)), max(1, idle)):
                self.begin(opened, workers, worked)

    def begin(
        self, opened: driver.OpenRound, workers: Mapping[Peer, Worker], worked: float
    ) -> None:
        """A round is opened, with these workers there, after ``worked`` seconds of work."""
        if not self._ahead.begin(opened, worked):
            self.rounds.begin(opened, self.staff(workers).values(), worked)
        self.replicas.opened(self.rounds.open[opened.number].order, opened.round.first)
        if self._out.rounds:
            self._out.tell(_told(opened))

    def staff(self, workers: Mapping[Peer, Worker]) -> dict[Peer, Worker]:
        """Those of the workers who get work that a step waits for."""
        return self.probation.staff(workers)

    def wanted(self, workers: Mapping[Peer, Worker], now: float) -> int:
        """How many workers have nothing to do, and find nothing that suits them in any queue."""
        staff = self.staff(workers)
        number = self._num_idle(workers)
        queued = [r for r in self.rounds.open.values() if r.ledger.queue] if number else []
        if not queued:
            return number
        if any(len(round.order.assignments) != 1 for round in queued):
            return 0  # soon somebody takes it
        idle = [worker for worker in staff.values() if not worker.in_flight]
        for round in queued:
            for shard in round.ledger.queue:
                fit = (w for w in idle if self._suits(w, round, staff, now)(shard))
                if (worker := next(fit, None)) is not None:
                    idle.remove(worker)
        return len(idle)

    def _num_idle(self, workers: Mapping[Peer, Worker]) -> int:
        """How many of the staff have nothing to do: known without looking at every one of them.

        Who is not ready has no work.
        """
        others = sum(bool(worker.in_flight) for worker in self.probation.newcomers(workers))
        return len(self.staff(workers)) - (self.in_flight.num_busy - others)

    def dispatch(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Give every idle worker a shard while any is queued, and others a trial."""
        staff = self.staff(workers)
        self.rounds.cut_anew(staff.values())
        for round in self.rounds.open.values() if self._num_idle(workers) else ():
            if round.ledger.queue:
                self._hand_out(round, workers, now)
        if self._policy.verify_fraction:
            self._see_to_verification(workers, now)
        if newcomers := self.probation.newcomers(workers):
            self._try_out(newcomers, staff, now)

    def _hand_out(self, round: OpenRound, workers: Mapping[Peer, Worker], now: float) -> None:
        ledger = round.ledger
        if not (ledger.queue and self._num_idle(workers)):
            return
        staff = self.staff(workers)
        for worker in [*staff.values()] if self._ahead.told else ():
            if not worker.in_flight and (shard := self._ahead.take(worker, round, now)) is not None:
                self._send_told(worker, round, shard)
        idle = self._num_idle(workers) if ledger.queue else 0
        for worker in staff.values() if idle else ():
            if not worker.in_flight:
                suits = self._suits(worker, round, staff, now)
                shard = ledger.take(worker.peer, now, suits)
                if shard is not None:
                    self._send(worker, round, shard, Purpose.WORK)
                idle -= 1
                if not (ledger.queue and idle):
                    break

    def _suits(
        self, worker: Worker, round: OpenRound, staff: Mapping[Peer, Worker], now: float
    ) -> Callable[[Shard], bool]:
        """Which shards a worker may be given: not those of replicas that are with another one."""
        if not round.order.assignments:
            return anything

        def suits(shard: Shard) -> bool:
            home = staff.get(self.replicas.home(round.order, shard) or worker.peer)
            if home in (None, worker) or round.ledger.involved(shard, home.peer):
                return True
            if self.stragglers.is_slow(home, now):
                return True
            return self.replicas.surplus(home.peer, worker.peer) >= MOST_SURPLUS

        return suits

    def _see_to_verification(self, workers: Mapping[Peer, Worker], now: float) -> None:
        staff = self.staff(workers)
        # Not before all else is done: somebody may join meanwhile who can verify.
        working = [w for w in staff.values() if not self.stragglers.stalled(w, now)]
        alone = len(working) == 1
        unfinished = [r for r in self.rounds.open.values() if not r.ledger.complete]
        if len(working) > 1:
            for round in unfinished:
                round.ledger.reinstate_verification()
                self._hand_out(round, workers, now)
        stuck = alone and not working[0].in_flight and bool(unfinished)
        waived = [r for r in unfinished if r.ledger.waive_verification()] if stuck else []
        if waived and not self._waived:
            self._out.tell(Unverified())
        self._waived = alone and (self._waived or stuck)

    def _try_out(
        self, newcomers: Iterable[Worker], staff: Mapping[Peer, Worker], now: float
    ) -> None:
        """Let who is not proven compute something that proven workers compute as well."""
        idle = [worker for worker in newcomers if self.probation.wants_trial(worker, now)]
        for round in self.rounds.open.values() if idle else ():
            ledger = round.ledger
            if ledger.complete:
                continue
            common = (s for s in ledger.all if not staff.keys().isdisjoint(ledger.assignees(s)))
            shard = next(common, None)
            if shard is None:
                continue
            for worker in idle:
                self.probation.begin(worker, round.order, shard, now)
                ledger.note_trial(shard, worker.peer)
                self._send(worker, round, shard, Purpose.TRIAL)
            return

    def _send(self, worker: Worker, round: OpenRound, shard: Shard, purpose: Purpose) -> None:
        """The replica and the weights, if the worker does not have them, and the task."""
        stays = purpose is not Purpose.TRIAL
        for message in self.replicas.sent(worker, round.order, shard, stays=stays):
            self._out.send(worker.peer, message)
            if isinstance(message, messages.Weights):
                worker.weights_step = message.step
        if worker.weights_step != round.id.step:
            self._out.send(worker.peer, round.order.weights())
            worker.weights_step = round.id.step
        self._out.send(worker.peer, round.order.task(shard))
        self._tell_assigned(worker, round, shard, purpose)

    def _send_told(self, worker: Worker, round: OpenRound, shard: Shard) -> None:
        """The weights, with which the worker begins the shard that it was told ahead of them."""
        self._out.send(worker.peer, round.order.weights())
        worker.weights_step = round.id.step
        self._tell_assigned(worker, round, shard, Purpose.WORK)

    def _tell_assigned(
        self, worker: Worker, round: OpenRound, shard: Shard, purpose: Purpose
    ) -> None:
        if self._out.full:
            where = round.id.shard_fields(shard)
            self._out.tell(Assigned(*where, worker.number, worker.name, purpose))

    def release(self, worker: Worker) -> list[Shard]:
        """The worker has nothing in flight any more; gives back the shards that others must do."""
        self.probation.forget(worker.peer)
        self.replicas.forget(worker.peer)
        self._ahead.forget(worker.peer)
        freed = [
            shard
            for round in self.rounds.open.values()
            for shard in round.ledger.release(worker.peer)
        ]
        self.in_flight.end_all(worker.peer)
        return freed

    def close(self, round: OpenRound, now: float) -> None:
        """A round is over."""
        self.rounds.close(round)
        self.replicas.closed(round.order, round.ledger)
        self.probation.close(round.ledger, now)


def _told(opened: driver.OpenRound) -> RoundOpened:
    """That a round is open."""
    round, task = opened.round, opened.round.task
    steps, elastic = 0, 0.0
    if isinstance(task, LocalSteps):
        steps, elastic = task.steps, task.elastic
    where = opened.number, round.version, isinstance(task, Losses), round.first, round.count
    return RoundOpened(*where, round.replicas, steps, elastic)
