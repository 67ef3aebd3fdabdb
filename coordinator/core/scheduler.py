"""The step in hand: cutting its batch into shards, giving them to workers, helping slow ones.

A step that is due for it ends with an evaluation: the held-out documents are cut and given away
like a batch, with the weights that the step has made. It counts as done after that.

Longer than 300 lines because a phase is cut, given away and concluded with the same fields.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.events import Judge, Peer
from coordinator.core.membership import Worker
from coordinator.core.probation import Probation
from coordinator.core.round_ledger import Phase, RoundLedger
from coordinator.core.sharding import (
    assume_seconds,
    choose_shard_size,
    choose_verified,
    largest_shard,
)
from coordinator.core.stragglers import Stragglers
from coordinator.core.work_order import WorkOrder
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard, shards
from microgpt.protocol import messages
from microgpt.training import (
    Corpus,
    TrainingState,
    Validation,
    advance,
    count_tokens,
    rate,
    validation_loss,
)

MOST_DOUBLINGS = 6  # of the patience with a shard that many have taken and nobody answers
LATE_FACTOR = 4.0  # times our patience, after which a proven worker has to prove itself again


@dataclass(frozen=True)
class Policy:
    """How the run is conducted; none of this has any influence on its bits.

    ``shard_size`` None means: chosen anew for each step from the number of workers. Times are in
    seconds. ``verify_fraction`` of the shards are computed by two workers and compared. Held-out
    documents are evaluated after every ``eval_every`` steps, and after the last one;
    ``save_evaluated``: each time that makes a checkpoint.
    """

    shard_size: int | None = None
    checkpoint_every: int = 100
    worker_timeout: float = 1.5
    verify_fraction: float = 0.0
    eval_every: int = 100
    save_evaluated: bool = False

    def evaluates(self, step: int, steps: int) -> bool:
        """Whether held-out documents are evaluated after ``step`` of ``steps`` updates."""
        return step % self.eval_every == 0 or step == steps

    def saves(self, state: TrainingState) -> bool:
        """Whether this state, which is not the last, is written to disk."""
        evaluated = state.validation is not None and state.validation.step == state.step
        return state.step % self.checkpoint_every == 0 or (self.save_evaluated and evaluated)


class Done(NamedTuple):
    """A step that is over: the state that it has led to, and its line of metrics."""

    after: TrainingState
    record: Mapping[str, Any]


class Scheduler:
    """Gives the shards of one phase after the other away; see ``begin``.

    ``ledger`` and ``documents`` (token ids) are those of the newest phase, ``began`` its begin.
    """

    ledger: RoundLedger
    documents: list[list[int]]
    began: float

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        policy: Policy,
        out: ActionBuffer,
        run: str,
        epoch: str,
    ) -> None:
        self._config, self._corpus, self._policy, self._out = config, corpus, policy, out
        self._run, self._life = run, epoch
        self._shapes = parameter_shapes(config.model)
        self._largest = max(1, largest_shard(config, corpus.longest))
        self._previous: tuple[RoundLedger, WorkOrder] | None = None
        self.probation = Probation()
        self._stragglers = Stragglers(out)
        self._times = self._stragglers.times
        self._evaluated: Done | None = None  # the step that waits for its validation loss
        self._waived = False

    def begin(self, training: TrainingState, workers: int, now: float) -> None:
        """Turn to the step that ``training`` is ready for, with so many workers there."""
        batch = self._corpus.batch(training.step, self._config.batch_size)
        self._begin(training, batch, workers, now)

    def ledger_of(self, phase: Phase) -> RoundLedger | None:
        """The books of this phase or of the one before, to compare late answers with."""
        previous = self._previous[0] if self._previous else None
        return next((b for b in (self.ledger, previous) if b and b.phase == phase), None)

    def staff(self, workers: Mapping[Peer, Worker]) -> dict[Peer, Worker]:
        """Those of the workers who get work that a step waits for."""
        return self.probation.staff(workers)

    def _begin(
        self, training: TrainingState, documents: list[list[int]], workers: int, now: float
    ) -> None:
        self._training, self.documents, self.began = training, documents, now
        self._cut(workers)
        block_size = self._config.model.block_size
        self._order = WorkOrder(
            self._run, self._life, self.ledger.phase, documents, training.params,
            self._shapes, block_size,
        )  # fmt: skip

    def _cut(self, workers: int) -> None:
        step, count, training = self._training.step, len(self.documents), self._evaluated is None
        self._cut_for = workers
        size = self._policy.shard_size if training else None
        if size is None:
            # Before the first evaluation: it takes less time than training does.
            times = self._times[training].engine or self._times[True].engine
            documents = self.documents
            seconds = statistics.median(times) if times else assume_seconds(self._config, documents)
            size = choose_shard_size(count, workers, seconds, self._largest)
        verified = choose_verified(shards(count, size), step, self._policy.verify_fraction)
        self.ledger = RoundLedger(step, count, size, verified, training=training)

    def dispatch(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Give every idle worker a shard while any is queued, and others a trial."""
        staff = self.staff(workers)
        if self.ledger.untouched and self._cut_for != len(staff):
            self._cut(len(staff))  # nobody has begun: cut the batch for those who are here now
        self._hand_out(staff.values(), now)
        if self._policy.verify_fraction:
            self._see_to_verification(staff, now)
        if len(staff) < len(workers):
            self._try_out(workers.values(), staff, now)

    def _hand_out(self, staff: Iterable[Worker], now: float) -> None:
        for worker in staff if self.ledger.queue else ():
            if not worker.in_flight:
                shard = self.ledger.take(worker.peer, now)
                if shard is not None:
                    self._give(worker, shard, now)
                if not self.ledger.queue:
                    break

    def _see_to_verification(self, staff: Mapping[Peer, Worker], now: float) -> None:
        # Not before all else is done: somebody may join meanwhile who can give second opinions.
        working = [w for w in staff.values() if not self.stalled(w, now)]
        alone = len(working) == 1
        if len(working) > 1 and not self.ledger.complete:
            self.ledger.reinstate_verification()
            self._hand_out(staff.values(), now)
        stuck = alone and not working[0].in_flight and not self.ledger.complete
        if stuck and self.ledger.waive_verification() and not self._waived:
            text = "only one worker answers: nothing is verified until another does"
            self._out.note("unverified", text, warning=True)
        self._waived = alone and (self._waived or bool(stuck))

    def _try_out(self, workers: Iterable[Worker], staff: Mapping[Peer, Worker], now: float) -> None:
        """Let who is not proven compute something that proven workers compute as well."""
        newcomers = [w for w in workers if self.probation.wants_trial(w, now)]
        if not newcomers or self.ledger.complete:
            return
        common = (s for s, owing in self.ledger.assignees.items() if owing.keys() & staff.keys())
        shard = next(common, None)
        if shard is None:
            return
        for worker in newcomers:
            self.probation.begin(worker, self._order, shard)
            self.ledger.note_trial(shard, worker.peer)
            self._give(worker, shard, now)

    def demote_late(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Put proven workers on probation that others have had to stand in for."""
        proven = [worker for worker in workers.values() if worker.proven]
        late = [worker for worker in proven if self._is_late(worker, now)]
        for worker in late if len(late) < len(proven) else ():
            self.probation.fall(worker, now)

    def _is_late(self, worker: Worker, now: float) -> bool:
        if not worker.in_flight:
            return False
        for phase, shard in worker.in_flight:
            alone = phase == self.ledger.phase and not self.ledger.decided(shard)
            if alone and len(self.ledger.assignees[shard]) < 2:
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
        if not idle:
            return
        for shard, assignees in self.ledger.assignees.items():
            if not assignees or self.ledger.decided(shard) or self.ledger.contested(shard):
                continue
            surplus = min(max(0, self.ledger.surplus(shard)), MOST_DOUBLINGS)
            patience = self._stragglers.patience(self.ledger.phase, shard) * 2**surplus
            passed = now - max(assignees.values())
            if passed <= patience:
                continue
            fit = (w for w in idle if w.peer in staff or passed > LATE_FACTOR * patience)
            helper = next((w for w in fit if not self.ledger.involved(shard, w.peer)), None)
            if helper is not None:
                idle.remove(helper)
                if helper.peer not in staff:
                    self.ledger.reinstate_verification((shard,))
                slow = workers.get(next(iter(assignees)))
                self._stragglers.tell(helper.name, slow.name if slow else "another worker", now)
                self.ledger.take_also(shard, helper.peer, now)
                self._give(helper, shard, now)

    def stalled(self, worker: Worker, now: float) -> bool:
        """Whether a worker owes something for so long that nobody waits for it any more."""
        return self._stragglers.stalled(worker, now)

    def _give(self, worker: Worker, shard: Shard, now: float) -> None:
        if worker.weights_step != self.ledger.step:
            self._out.send(worker.peer, self._order.weights())
            worker.weights_step = self.ledger.step
        worker.since = now
        worker.in_flight.add((self.ledger.phase, shard))
        self._out.send(worker.peer, self._order.task(shard))

    def release(self, worker: Worker) -> list[Shard]:
        """The worker owes nothing any more; gives back the shards that others must do now."""
        worker.in_flight.clear()
        self.probation.forget(worker.peer)
        return self.ledger.release(worker.peer)

    def answered(self, worker: Worker, answer: messages.ShardResult, now: float) -> None:
        """Remember how long a shard of the phase in hand took. Before the ledger is told."""
        worker.documents += answer.count
        worker.busy_seconds += answer.seconds
        times = self._times[answer.training]
        times.engine.append(answer.seconds / answer.count)
        since = self.ledger.assignees[Shard(answer.start, answer.count)].get(worker.peer)
        if since is not None:
            times.round_trips.append((now - since) / answer.count)

    def conclude(self, workers: int, now: float) -> Done | None:
        """What the step in hand has led to, whose phase is complete; None: to an evaluation.

        Raises ArithmeticError if a number in it is not finite: a checkpoint of it would be none.
        """
        self._previous = self.ledger, self._order
        if self._evaluated is not None:
            done, self._evaluated = self._with_validation(self._evaluated, now), None
            return done
        after = self._advance()
        done = Done(after, self._record(after, workers, now))
        held_out = self._corpus.validation
        if not held_out or not self._policy.evaluates(after.step, self._config.steps):
            return done
        self._evaluated = done
        self._begin(after, held_out, workers, now)
        return None

    def suspect(self) -> Shard | None:
        """Which shard to compute again after ``conclude`` has raised ArithmeticError.

        None if those that have been computed on this host are to blame alone: it is no lie.
        """
        try:
            if self._evaluated is None:
                self._advance(judged=True)
            else:
                self._validation_loss(self._evaluated, judged=True)
        except ArithmeticError:
            return None
        return self.ledger.largest()

    def question(self, phase: Phase, shard: Shard) -> Judge:
        """A shard of the phase in hand or of the one before, to be computed on this host."""
        if phase != self.ledger.phase and self._previous is not None:
            return self._previous[1].question(shard)
        return self._order.question(shard)

    def unconfirmed_failure(self, now: float) -> tuple[Shard, str] | None:
        """A shard that a worker has failed at and that nobody else has answered in time."""
        for shard, reasons in self.ledger.failures.items():
            if reasons and not self.ledger.decided(shard):
                patience = self._stragglers.patience(self.ledger.phase, shard)
                if now - self.ledger.failed_at[shard] > patience:
                    return shard, next(iter(reasons.values()))
        return None

    def _validation_loss(self, done: Done, *, judged: bool = False) -> float:
        loss = validation_loss(self.ledger.losses(judged=judged))
        if not math.isfinite(loss):
            raise ArithmeticError(f"step {done.after.step} makes the validation loss infinite")
        return loss

    def _with_validation(self, done: Done, now: float) -> Done:
        loss = self._validation_loss(done)
        after = replace(done.after, validation=Validation(done.after.step, loss))
        seconds = max(0.0, now - self.began)
        return Done(after, {**done.record, "validation_loss": loss, "validation_seconds": seconds})

    def _advance(self, *, judged: bool = False) -> TrainingState:
        with np.errstate(over="ignore", invalid="ignore"):
            total, losses = (
                self.ledger.gradient_sum(judged=judged),
                self.ledger.losses(judged=judged),
            )
            after = advance(self._config, self._training, total, losses)
        for numbers in (after.params, after.m, after.v, after.losses[-1]):
            if not np.isfinite(numbers).all():
                raise ArithmeticError(f"step {after.step} makes a weight or the loss infinite")
        return after

    def describe(self, failure: messages.Failure) -> str:
        """A failure at a document of the phase in hand, for people."""
        document = self._corpus.tokenizer.decode(self.documents[failure.document])
        place = (
            f"step {failure.step + 1}, document {failure.document + 1} of the batch"
            if failure.training
            else f"after step {failure.step}, held-out document {failure.document + 1}"
        )
        return (
            f"{place} ({document[:40]!r}): {printable(failure.reason, 200)}; "
            "a lower --learning-rate may help"
        )

    def _record(self, after: TrainingState, workers: int, now: float) -> Mapping[str, Any]:
        return {
            "step": after.step,
            "loss": after.losses[-1],
            "lr": rate(self._config, after.step - 1),
            "documents": self._config.batch_size,
            "tokens": count_tokens(self._config, self.documents),
            "seconds": max(0.0, now - self.began),
            "workers": workers,
            "shards": len(self.ledger.all),
        }
