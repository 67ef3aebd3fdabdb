"""Slow workers: when a shard takes too long, who helps, and what is said about that."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.events import BackedUp, Purpose
from coordinator.core.in_flight import RoundId
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.probation import Probation
from coordinator.core.rounds import OpenRound, Rounds
from coordinator.core.work_times import Typical
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages

SLOW_FACTOR = 4.0  # a shard is a straggler after this many times the usual time of one
SLOW_LEAST = 0.1  # seconds below which nobody is called a straggler
FIRST_PATIENCE = 1.0  # seconds, as long as no time of a shard is known
MOST_DOUBLINGS = 6  # of the patience with a shard that many have taken and nobody answers
LATE_FACTOR = 4.0  # times our patience, after which a proven worker has to prove itself again
#: Seconds, times its slowest answer and times our patience after which a worker that still has a
#: shard in flight is not waited for, where all others have answered.
STALLED_SECONDS, STALLED_FACTOR = 30.0, 4.0
TELL_SECONDS = 10.0  # between two lines about one slow worker
FORGOTTEN = 600.0  # seconds after which a slow worker is news again


class Stragglers:
    """Judges workers by the times of ``rounds``.

    ``send`` sends a worker the work that a ledger has just handed to it.
    """

    def __init__(
        self,
        out: ActionBuffer,
        rounds: Rounds,
        probation: Probation,
        send: Callable[[Worker, OpenRound, Shard, Purpose], None],
    ) -> None:
        self._out, self._times = out, rounds.times
        self._rounds, self._probation, self._send = rounds, probation, send
        self._told: dict[str, tuple[float, int]] = {}  # by slow worker: when, and how often since

    # --- how long is too long --------------------------------------------------------------------

    def answered(
        self, worker: Worker, answer: messages.ShardResult, since: float | None, now: float
    ) -> None:
        """Remember how long a shard of an open round took that the worker was given ``since``."""
        worker.documents += answer.count
        worker.busy_seconds += answer.seconds
        times = self._times[answer.training]
        pace = answer.seconds / answer.count
        times.engine.add(pace)
        own = worker.paces.get(answer.training)
        if own is None:
            own = worker.paces[answer.training] = Typical()
        own.add(pace)
        if since is not None:
            times.round_trips.append((now - since) / answer.count)
            beside = now - since - answer.seconds
            times.overhead.add(beside if beside > 0.0 else 0.0)

    def patience(self, round: RoundId, shard: Shard) -> float:
        """Seconds after which a shard is taking too long."""
        times = self._times[round.training].round_trips
        if not times:
            return FIRST_PATIENCE
        return max(SLOW_LEAST, SLOW_FACTOR * statistics.median(times) * shard.count)

    def stalled(self, worker: Worker, now: float) -> bool:
        """Whether a worker has not answered for so long that nobody waits for it any more."""
        if not worker.in_flight:
            return False
        passed = now - max(worker.in_flight.values())
        if passed <= max(STALLED_SECONDS, STALLED_FACTOR * worker.longest):
            return False  # most of the time
        return passed > STALLED_FACTOR * self._patience_with(worker)

    def is_slow(self, worker: Worker, now: float) -> bool:
        """Whether what a worker has in flight is taking too long."""
        return any(
            now - since > self.patience(work.round, work.shard)
            for work, since in worker.in_flight.items()
        )

    def _patience_with(self, worker: Worker) -> float:
        return max(self.patience(work.round, work.shard) for work in worker.in_flight)

    # --- what is done about it -------------------------------------------------------------------

    def back_up(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Let idle workers compute what slow ones have in flight; whoever answers first wins.

        A shard goes to one more after a while, and after twice that time to another one, so that
        everybody who works gets it in the end, however many there are who do not.
        """
        # Those first who have answered most: a worker that has taken work and done none is last.
        # Who is not proven helps last, and late: when none of those who are could.
        staff = self._probation.staff(workers)
        idle = [worker for worker in workers.values() if not worker.in_flight]
        idle.sort(key=lambda worker: (worker.peer in staff, worker.documents), reverse=True)
        for round in self._rounds.open.values():
            for shard in round.ledger.all if idle else ():
                self._back_up(round, shard, idle, staff, workers, now)

    def _back_up(
        self,
        round: OpenRound,
        shard: Shard,
        idle: list[Worker],
        staff: Mapping[Peer, Worker],
        workers: Mapping[Peer, Worker],
        now: float,
    ) -> None:
        ledger = round.ledger
        assignees = ledger.assignees(shard)
        if not assignees or ledger.decided(shard) or ledger.contested(shard):
            return
        surplus = min(max(0, ledger.surplus(shard)), MOST_DOUBLINGS)
        patience = self.patience(round.id, shard) * 2**surplus
        passed = now - max(assignees.values())
        if passed <= patience:
            return
        fit = (w for w in idle if w.peer in staff or passed > LATE_FACTOR * patience)
        helper = next((w for w in fit if not ledger.involved(shard, w.peer)), None)
        if helper is not None:
            idle.remove(helper)
            if helper.peer not in staff:
                ledger.reinstate_verification((shard,))
            slow = workers.get(next(iter(assignees)))
            self._tell(helper, slow, now)
            ledger.take_also(shard, helper.peer, now)
            self._send(helper, round, shard, Purpose.BACKUP)

    def demote_late(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Put proven workers on probation that others have had to stand in for."""
        proven = [worker for worker in workers.values() if worker.proven]
        late = [worker for worker in proven if self._is_late(worker, now)]
        for worker in late if len(late) < len(proven) else ():
            self._probation.fall(worker, now)

    def _is_late(self, worker: Worker, now: float) -> bool:
        if not worker.in_flight:
            return False
        for work in worker.in_flight:
            round = self._rounds.find_open(work.round)
            if round is None or round.ledger.decided(work.shard):
                continue
            if len(round.ledger.assignees(work.shard)) < 2:
                return False
        passed = now - max(worker.in_flight.values())
        return passed > LATE_FACTOR * self._patience_with(worker)

    def unconfirmed_failure(self, now: float) -> tuple[OpenRound, Shard, str] | None:
        """A shard that a worker has failed at and that nobody else has answered in time."""
        for round in self._rounds.open.values():
            ledger = round.ledger
            for shard, reasons in ledger.failures.items():
                until = ledger.failed_at[shard] + self.patience(round.id, shard)
                if reasons and now > until and not ledger.decided(shard):
                    return round, shard, next(iter(reasons.values()))
        return None

    def _tell(self, helper: Worker, slow: Worker | None, now: float) -> None:
        """Of a shard that is computed by a second worker.

        The first time at once, then how often it was in the time since the last line.
        """
        name = slow.name if slow else "another worker"
        told_at, untold = self._told.get(name, (-math.inf, 0))
        if now - told_at < TELL_SECONDS:
            self._told[name] = told_at, untold + 1
            return
        number = slow.number if slow else 0
        self._out.tell(BackedUp(helper.number, helper.name, number, name, untold))
        recent = {each: told for each, told in self._told.items() if now - told[0] < FORGOTTEN}
        self._told = {**recent, name: (now, 0)}
