"""Who is trusted with work that a step waits for, and how others come to be.

A worker is *proven* once an answer of it has been accepted. As long as nobody is, everybody gets
real work. From then on a newcomer gets *trials*: copies of shards that proven workers compute as
well. Its answer is compared with the shard's result, whenever it comes; a step never waits for it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from coordinator.core.in_flight import InFlight, RoundId, Work
from coordinator.core.inputs import Peer
from coordinator.core.membership import Roster, Worker
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.work_order import WorkOrder
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard
from microgpt.replicas.state import Assignment

FORGIVEN_SECONDS = 300.0  # of good conduct, after which an earlier fall counts no more
MOST_TRIALS = 1024  # that a worker must pass after many falls
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 60.0  # seconds before the next trial after a wrong answer
JUDGEABLE_STEPS = 8  # for so long the weights of a trial are kept
FAILURE = b"failure"  # what stands for an answer where a worker says that there is none


def digest(losses: bytes, gradient: Vector, state: Mapping[str, bytes]) -> bytes:
    """Tells answers for a shard apart that differ in a bit, without keeping them."""
    kept = b"".join(state[name] for name in sorted(state))
    return hashlib.sha256(losses + gradient.tobytes() + kept).digest()


@dataclass
class Trial:
    """A shard of ``order`` that a worker computes to show that it can.

    ``said`` and ``result`` are digests, None as long as unknown: of its answer, and of what
    counted for the shard, which ``giver`` had computed. ``order`` is None when it is too old.
    ``assignment``: the task of the replica whose part the shard is, if it is one's. ``over``: its
    round was closed without a result of the shard, and the answer shows nothing.
    """

    worker: Worker
    round: RoundId
    shard: Shard
    order: WorkOrder | None
    said: bytes | None = None
    result: bytes | None = None
    giver: Peer = b""
    assignment: Assignment | None = None
    over: bool = False


class Probation:
    """Trials by their workers' peers. ``doubts``: those whose answer was not the shard's result."""

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._trials: dict[Peer, Trial] = {}
        self.doubts: list[Trial] = []
        self._changes = 0  # of who is proven
        #: When the workers were divided last, and into whom.
        self._divided: tuple[int, int, tuple[dict[Peer, Worker], list[Worker]]] | None = None

    # --- who is proven ---------------------------------------------------------------------------

    def staff(self, workers: Mapping[Peer, Worker]) -> dict[Peer, Worker]:
        """Who may be given work that a step waits for: the proven ones, or all if none is.

        Found anew only when it may have changed: it is asked for with every answer, and there may
        be thousands of workers.
        """
        return self._divide(workers)[0]

    def newcomers(self, workers: Mapping[Peer, Worker]) -> list[Worker]:
        """Those of the workers who are not of the staff."""
        return self._divide(workers)[1]

    def _divide(self, workers: Mapping[Peer, Worker]) -> tuple[dict[Peer, Worker], list[Worker]]:
        if not isinstance(workers, Roster):
            return _divided(workers)
        divided = self._divided
        if divided is None or divided[0] != workers.changes or divided[1] != self._changes:
            divided = self._divided = workers.changes, self._changes, _divided(workers)
        return divided[2]

    def passed(self, worker: Worker) -> None:
        """An answer of the worker was right."""
        if not worker.proven:
            worker.to_pass -= 1
            worker.proven = worker.to_pass <= 0
            self._changes += worker.proven

    def rest(self, worker: Worker, now: float) -> None:
        """What the worker says cannot be believed: it is tried again later, and later each time."""
        worker.pause = min(max(FIRST_PAUSE, 2 * worker.pause), LONGEST_PAUSE)
        worker.rests_until = now + worker.pause

    def fall(self, worker: Worker, now: float) -> None:
        """Back on probation, for longer each time."""
        again = worker.fell_at is not None and now - worker.fell_at < FORGIVEN_SECONDS
        worker.falls = min(2 * worker.falls, MOST_TRIALS) if again else 1
        worker.fell_at = now
        worker.proven, worker.to_pass = False, worker.falls
        self._changes += 1

    # --- trials ----------------------------------------------------------------------------------

    def wants_trial(self, worker: Worker, now: float) -> bool:
        """Whether a worker without work should be tried now."""
        idle = not worker.in_flight and worker.peer not in self._trials
        return idle and not worker.proven and now >= worker.rests_until

    def begin(self, worker: Worker, order: WorkOrder, shard: Shard, now: float) -> None:
        """The worker is given a trial."""
        self._in_flight.begin(worker.peer, Work(order.round, shard, trial=True), now)
        assignment = order.assignments.get(shard)
        self._trials[worker.peer] = Trial(worker, order.round, shard, order, assignment=assignment)

    def forget(self, peer: Peer) -> None:
        """The worker is gone or begins again."""
        self._trials.pop(peer, None)

    def awaited(self, peer: Peer, round: RoundId, shards: Iterable[Shard]) -> Trial | None:
        """The unanswered trial of this worker, if it is one of these shards."""
        trial = self._trials.get(peer)
        if trial and trial.said is None and trial.round == round and trial.shard in shards:
            return trial
        return None

    def answered(self, trial: Trial, said: bytes, ledger: RoundLedger | None, now: float) -> None:
        """A trial's answer has come; ``ledger`` is that of its round, if kept."""
        trial.said = said
        if trial.over:
            self.forget(trial.worker.peer)
            return
        if ledger is not None:
            self._learn(trial, ledger)
        self._settle(trial, now)

    def decided(self, ledger: RoundLedger, now: float) -> None:
        """Something may have got a result, or the round is over: compare what was waiting."""
        if not self._trials:
            return
        for trial in [t for t in self._trials.values() if t.round == ledger.round]:
            self._learn(trial, ledger)
            self._settle(trial, now)

    def close(self, ledger: RoundLedger, now: float) -> None:
        """A round is over, and its ledger will not be kept for long."""
        self.decided(ledger, now)
        for trial in [*self._trials.values()]:
            if trial.round.step < ledger.round.step - JUDGEABLE_STEPS:
                trial.order = None
            if trial.round == ledger.round and trial.result is None:
                trial.over = True
                if trial.said is not None:
                    self.forget(trial.worker.peer)

    def _learn(self, trial: Trial, ledger: RoundLedger) -> None:
        if trial.result is None and (result := ledger.result(trial.shard)) is not None:
            said = digest(result.losses, result.gradient, result.state)
            trial.result, trial.giver = said, result.peer

    def _settle(self, trial: Trial, now: float) -> None:
        worker = trial.worker
        if trial.said is None or trial.result is None:
            return
        self.forget(worker.peer)
        if trial.said == trial.result:
            worker.pause = 0.0
            self.passed(worker)
            return
        self.rest(worker, now)
        self.doubts.append(trial)


def _divided(workers: Mapping[Peer, Worker]) -> tuple[dict[Peer, Worker], list[Worker]]:
    """Into the proven ones and the others; all into the first if nobody is proven."""
    proven = {peer: worker for peer, worker in workers.items() if worker.proven}
    others = [worker for worker in workers.values() if not worker.proven] if proven else []
    return proven or dict(workers), others
