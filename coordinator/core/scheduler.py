"""Giving the shards of open rounds to workers, and helping slow ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.policy import Policy
from coordinator.core.probation import Probation
from coordinator.core.rounds import OpenRound, Rounds
from coordinator.core.stragglers import Stragglers
from microgpt.config import TrainingConfig
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages
from microgpt.training import Corpus

MOST_DOUBLINGS = 6  # of the patience with a shard that many have taken and nobody answers
LATE_FACTOR = 4.0  # times our patience, after which a proven worker has to prove itself again


class Scheduler:
    """Gives the shards of the open ``rounds`` away: those of the oldest one first."""

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        policy: Policy,
        out: ActionBuffer,
        run: str,
        epoch: str,
    ) -> None:
        self._corpus, self._policy, self._out = corpus, policy, out
        self.probation = Probation()
        self._stragglers = Stragglers(out)
        self._times = self._stragglers.times
        self.rounds = Rounds(config, corpus, policy, self._times, run, epoch)
        self._waived = False

    def staff(self, workers: Mapping[Peer, Worker]) -> dict[Peer, Worker]:
        """Those of the workers who get work that a step waits for."""
        return self.probation.staff(workers)

    def dispatch(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Give every idle worker a shard while any is queued, and others a trial."""
        staff = self.staff(workers)
        self.rounds.cut_anew(len(staff))
        for round in self.rounds.open.values():
            self._hand_out(round, staff.values(), now)
        if self._policy.verify_fraction:
            self._see_to_verification(staff, now)
        if len(staff) < len(workers):
            self._try_out(workers.values(), staff, now)

    def close(self, round: OpenRound, now: float) -> None:
        """A round is over."""
        self.rounds.close(round)
        self.probation.close(round.ledger, now)

    def wanted(self, workers: Mapping[Peer, Worker]) -> int:
        """How many workers have nothing to do, and find nothing in any queue."""
        if any(round.ledger.queue for round in self.rounds.open.values()):
            return 0
        return sum(not worker.in_flight for worker in self.staff(workers).values())

    def _hand_out(self, round: OpenRound, staff: Iterable[Worker], now: float) -> None:
        ledger = round.ledger
        for worker in staff if ledger.queue else ():
            if not worker.in_flight:
                shard = ledger.take(worker.peer, now)
                if shard is not None:
                    self._give(worker, round, shard, now)
                if not ledger.queue:
                    break

    def _see_to_verification(self, staff: Mapping[Peer, Worker], now: float) -> None:
        # Not before all else is done: somebody may join meanwhile who can give second opinions.
        working = [w for w in staff.values() if not self.stalled(w, now)]
        alone = len(working) == 1
        unfinished = [r for r in self.rounds.open.values() if not r.ledger.complete]
        if len(working) > 1:
            for round in unfinished:
                round.ledger.reinstate_verification()
                self._hand_out(round, staff.values(), now)
        stuck = alone and not working[0].in_flight and bool(unfinished)
        waived = [r for r in unfinished if r.ledger.waive_verification()] if stuck else []
        if waived and not self._waived:
            text = "only one worker answers: nothing is verified until another does"
            self._out.note("unverified", text, warning=True)
        self._waived = alone and (self._waived or stuck)

    def _try_out(self, workers: Iterable[Worker], staff: Mapping[Peer, Worker], now: float) -> None:
        """Let who is not proven compute something that proven workers compute as well."""
        newcomers = [w for w in workers if self.probation.wants_trial(w, now)]
        for round in self.rounds.open.values() if newcomers else ():
            ledger = round.ledger
            if ledger.complete:
                continue
            common = (s for s, owing in ledger.assignees.items() if owing.keys() & staff.keys())
            shard = next(common, None)
            if shard is None:
                continue
            for worker in newcomers:
                self.probation.begin(worker, round.order, shard)
                ledger.note_trial(shard, worker.peer)
                self._give(worker, round, shard, now)
            return

    def demote_late(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Put proven workers on probation that others have had to stand in for."""
        proven = [worker for worker in workers.values() if worker.proven]
        late = [worker for worker in proven if self._is_late(worker, now)]
        for worker in late if len(late) < len(proven) else ():
            self.probation.fall(worker, now)

    def _is_late(self, worker: Worker, now: float) -> bool:
        if not worker.in_flight:
            return False
        for id, shard in worker.in_flight:
            round = self.rounds.find_open(id)
            if round is None or round.ledger.decided(shard):
                continue
            if len(round.ledger.assignees[shard]) < 2:
                return False
        patience = max(self._stragglers.patience(*each) for each in worker.in_flight)
        return now - worker.since > LATE_FACTOR * patience

    def back_up_stragglers(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Let idle workers compute what slow ones owe; whoever answers first wins.

        A shard goes to one more after a while, and after twice that time to another one, so that
        everybody who works gets it in the end, however many there are who do not.
        """
        # Those first who have answered most: a worker that has taken work and done none is last.
        # Who is not proven helps last, and late: when none of those who are could.
        staff = self.staff(workers)
        idle = [worker for worker in workers.values() if not worker.in_flight]
        idle.sort(key=lambda worker: (worker.peer in staff, worker.documents), reverse=True)
        for round in self.rounds.open.values():
            if idle:
                self._back_up(round, idle, staff, workers, now)

    def _back_up(
        self,
        round: OpenRound,
        idle: list[Worker],
        staff: Mapping[Peer, Worker],
        workers: Mapping[Peer, Worker],
        now: float,
    ) -> None:
        ledger = round.ledger
        for shard, assignees in ledger.assignees.items():
            if not assignees or ledger.decided(shard) or ledger.contested(shard):
                continue
            surplus = min(max(0, ledger.surplus(shard)), MOST_DOUBLINGS)
            patience = self._stragglers.patience(round.id, shard) * 2**surplus
            passed = now - max(assignees.values())
            if passed <= patience:
                continue
            fit = (w for w in idle if w.peer in staff or passed > LATE_FACTOR * patience)
            helper = next((w for w in fit if not ledger.involved(shard, w.peer)), None)
            if helper is not None:
                idle.remove(helper)
                if helper.peer not in staff:
                    ledger.reinstate_verification((shard,))
                slow = workers.get(next(iter(assignees)))
                self._stragglers.tell(helper.name, slow.name if slow else "another worker", now)
                ledger.take_also(shard, helper.peer, now)
                self._give(helper, round, shard, now)

    def stalled(self, worker: Worker, now: float) -> bool:
        """Whether a worker owes something for so long that nobody waits for it any more."""
        return self._stragglers.stalled(worker, now)

    def _give(self, worker: Worker, round: OpenRound, shard: Shard, now: float) -> None:
        if worker.weights_step != round.id.step:
            self._out.send(worker.peer, round.order.weights())
            worker.weights_step = round.id.step
        worker.since = now
        worker.in_flight.add((round.id, shard))
        self._out.send(worker.peer, round.order.task(shard))

    def release(self, worker: Worker) -> list[Shard]:
        """The worker owes nothing any more; gives back the shards that others must do now."""
        worker.in_flight.clear()
        self.probation.forget(worker.peer)
        return [
            shard
            for round in self.rounds.open.values()
            for shard in round.ledger.release(worker.peer)
        ]

    def answered(
        self, worker: Worker, round: OpenRound, answer: messages.ShardResult, now: float
    ) -> None:
        """Remember how long a shard of an open round took. Before the ledger is told."""
        worker.documents += answer.count
        worker.busy_seconds += answer.seconds
        times = self._times[answer.training]
        times.engine.append(answer.seconds / answer.count)
        since = round.ledger.assignees[Shard(answer.start, answer.count)].get(worker.peer)
        if since is not None:
            times.round_trips.append((now - since) / answer.count)

    def unconfirmed_failure(self, now: float) -> tuple[OpenRound, Shard, str] | None:
        """A shard that a worker has failed at and that nobody else has answered in time."""
        for round in self.rounds.open.values():
            ledger = round.ledger
            for shard, reasons in ledger.failures.items():
                if reasons and not ledger.decided(shard):
                    patience = self._stragglers.patience(round.id, shard)
                    if now - ledger.failed_at[shard] > patience:
                        return round, shard, next(iter(reasons.values()))
        return None

    def describe(self, round: OpenRound, failure: messages.Failure) -> str:
        """A failure at a document of a round, for people."""
        document = self._corpus.tokenizer.decode(round.documents[failure.document])
        place = (
            f"step {failure.step + 1}, document {failure.document + 1} of the batch"
            if failure.training
            else f"after step {failure.step}, held-out document {failure.document + 1}"
        )
        return (
            f"{place} ({document[:40]!r}): {printable(failure.reason, 200)}; "
            "a lower --learning-rate may help"
        )
