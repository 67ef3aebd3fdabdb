"""The step in hand: cutting its batch into shards, giving them to workers, helping slow ones."""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.events import Peer
from coordinator.ledger import StepLedger
from coordinator.members import Worker
from coordinator.outbox import Outbox, printable
from coordinator.sharding import choose_shard_size, choose_verified
from microgpt import messages
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.reduction import Shard, shards
from microgpt.training import Corpus, TrainingState, advance, count_tokens, rate
from microgpt.vectors import vector_to_map

SLOW_FACTOR = 4.0  # a shard is a straggler after this many times the usual time of one
SLOW_LEAST = 0.1  # seconds below which nobody is called a straggler
REMEMBERED_TIMES = 64


@dataclass(frozen=True)
class Policy:
    """How the run is conducted; none of this has any influence on its bits.

    ``shard_size`` None means: chosen anew for each step from the number of workers. Times are in
    seconds. ``verify_fraction`` of the shards are computed by two workers and compared.
    """

    shard_size: int | None = None
    checkpoint_every: int = 100
    worker_timeout: float = 1.5
    verify_fraction: float = 0.0


class HandOut:
    """Gives the shards of one step after the other away; see ``begin``.

    ``ledger`` and ``documents`` (token ids) are those of the newest step, ``began`` its begin.
    """

    ledger: StepLedger
    documents: list[list[int]]
    began: float

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        policy: Policy,
        out: Outbox,
        run: str,
        life: str,
    ) -> None:
        self._config, self._corpus, self._policy, self._out = config, corpus, policy, out
        self._run, self._life = run, life
        self._shapes = parameter_shapes(config.model)
        # Seconds per document of the last answers: in the engine, and from order to answer.
        self._engine_times: deque[float] = deque(maxlen=REMEMBERED_TIMES)
        self._round_trips: deque[float] = deque(maxlen=REMEMBERED_TIMES)
        self._waived = False

    def begin(self, training: TrainingState, workers: int, now: float) -> None:
        """Turn to the step that ``training`` is ready for, with so many workers there."""
        self._training, self.began = training, now
        self.documents = self._corpus.batch(training.step, self._config.batch_size)
        self._weights: messages.Weights | None = None
        self._cut(workers)

    def _cut(self, workers: int) -> None:
        step, batch_size = self._training.step, self._config.batch_size
        self._cut_for = workers
        size = self._policy.shard_size
        if size is None:
            usual = statistics.median(self._engine_times) if self._engine_times else None
            size = choose_shard_size(batch_size, workers, usual)
        verified = choose_verified(shards(batch_size, size), step, self._policy.verify_fraction)
        self.ledger = StepLedger(step, batch_size, size, verified)

    def dispatch(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Give every idle worker a shard while any is queued."""
        if self.ledger.untouched and self._cut_for != len(workers):
            self._cut(len(workers))  # nobody has begun: cut the batch for those who are here now
        for worker in workers.values() if self.ledger.queue else ():
            if not worker.owed:
                shard = self.ledger.take(worker.peer, now)
                if shard is not None:
                    self._give(worker, shard)
                if not self.ledger.queue:
                    break
        # Not before all else is done: somebody may join meanwhile who can give second opinions.
        alone = len(workers) == 1
        stuck = alone and self.ledger.queue and not any(w.owed for w in workers.values())
        if stuck and self.ledger.waive_verification() and not self._waived:
            text = "only one worker: nothing is verified until another joins"
            self._out.note("unverified", text, warning=True)
        self._waived = alone and (self._waived or bool(stuck))

    def back_up_stragglers(self, workers: Mapping[Peer, Worker], now: float) -> None:
        """Let idle workers compute what a slow one owes; whoever answers first wins."""
        idle = [worker for worker in workers.values() if not worker.owed]
        if not idle or not self._round_trips:
            return
        usual = statistics.median(self._round_trips)
        for shard, owners in self.ledger.owners.items():
            if len(owners) != 1 or self.ledger.decided(shard):
                continue
            ((owner, since),) = owners.items()
            if now - since <= max(SLOW_LEAST, SLOW_FACTOR * usual * shard.count):
                continue
            helper = next((w for w in idle if not self.ledger.involved(shard, w.peer)), None)
            if helper is not None:
                idle.remove(helper)
                slow = workers[owner].name
                text = f"{helper.name} also computes a shard that {slow} is slow with"
                self._out.note("backup", text, worker=helper.name, slow=slow)
                self.ledger.take_also(shard, helper.peer, now)
                self._give(helper, shard)

    def _give(self, worker: Worker, shard: Shard) -> None:
        step = self.ledger.step
        if worker.weights_step != step:
            if self._weights is None:
                weights = vector_to_map(self._training.params, self._shapes)
                self._weights = messages.Weights(self._run, self._life, step, weights)
            self._out.send(worker.peer, self._weights)
            worker.weights_step = step
        worker.owed.add((step, shard))
        documents = self.documents[shard.start : shard.start + shard.count]
        self._out.send(
            worker.peer,
            messages.Task(
                self._run,
                self._life,
                step,
                shard.start,
                shard.count,
                tuple(tuple(document) for document in documents),
            ),
        )

    def release(self, worker: Worker) -> list[Shard]:
        """The worker owes nothing any more; gives back the shards that others must do now."""
        worker.owed.clear()
        return self.ledger.release(worker.peer)

    def answered(self, worker: Worker, answer: messages.Answer, now: float) -> None:
        """Remember how long a shard of the step in hand took. Before the ledger is told."""
        worker.documents += answer.count
        worker.busy_seconds += answer.seconds
        self._engine_times.append(answer.seconds / answer.count)
        since = self.ledger.owners[Shard(answer.start, answer.count)].get(worker.peer)
        if since is not None:
            self._round_trips.append((now - since) / answer.count)

    def advance(self) -> TrainingState:
        """The state after the step in hand, which is complete.

        Raises ArithmeticError if a number in it is not finite: a checkpoint of it would be none.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            total = self.ledger.gradient_sum()
            after = advance(self._config, self._training, total, self.ledger.losses())
        for numbers in (after.params, after.m, after.v, after.losses[-1]):
            if not np.isfinite(numbers).all():
                raise ArithmeticError(f"step {after.step} makes a weight or the loss infinite")
        return after

    def describe(self, failure: messages.Failure) -> str:
        """A failure at a document of the step in hand, for people."""
        document = self._corpus.tokenizer.decode(self.documents[failure.document])
        return (
            f"step {failure.step + 1}, document {failure.document + 1} of the batch "
            f"({document[:40]!r}): {printable(failure.reason, 200)}; "
            "a lower --learning-rate may help"
        )

    def record(self, after: TrainingState, workers: int, now: float) -> Mapping[str, Any]:
        """The line of metrics of the step in hand, which has led to the state ``after``."""
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
