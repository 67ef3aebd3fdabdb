"""The rounds under way: their documents, ledgers and work orders, and what is measured of them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.core.action_buffer import printable
from coordinator.core.in_flight import InFlight, RoundId
from coordinator.core.policy import Policy
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.sharding import (
    assume_seconds,
    choose_shard_size,
    choose_verified,
    largest_shard,
)
from coordinator.core.work_order import WorkOrder
from coordinator.core.work_times import ShardTimes
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import shards
from microgpt.protocol import messages
from microgpt.strategies import driver
from microgpt.strategies.base import Gradient
from microgpt.training import TrainingState, count_tokens, rate


@dataclass
class OpenRound:
    """A round under way: what the driver has opened, with its ledger and work order.

    ``documents`` are token ids. ``began`` is when it was opened, ``cut_for`` the number of workers
    that it was cut into shards for, ``asked`` about how many results the strategy was asked last.
    """

    opened: driver.OpenRound
    documents: Sequence[Sequence[int]]
    began: float
    cut_for: int
    ledger: RoundLedger
    order: WorkOrder
    asked: int = 0

    @property
    def id(self) -> RoundId:
        """Its number, the version of its weights, and what kind of work it is."""
        return self.ledger.round


class Rounds:
    """``open`` are the rounds under way by their numbers, oldest first.

    ``times``: how long documents took, in training (True) and in evaluation (False).
    """

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        policy: Policy,
        times: Mapping[bool, ShardTimes],
        in_flight: InFlight,
        run: str,
        epoch: str,
    ) -> None:
        self.open: dict[int, OpenRound] = {}
        self._config, self._corpus, self._policy, self._times = config, corpus, policy, times
        self._in_flight, self._run, self._epoch = in_flight, run, epoch
        self._shapes = parameter_shapes(config.model)
        self._largest = max(1, largest_shard(config, corpus.longest))
        self._closed: OpenRound | None = None  # the last one
        self._next_number = 0
        self._record: dict[str, Any] = {}  # of the step that waits for its validation loss

    def begin(self, opened: driver.OpenRound, workers: int, now: float) -> None:
        """Begin a round, with so many workers there."""
        round = opened.round
        documents: Sequence[Sequence[int]] = self._corpus.validation
        if isinstance(round.task, Gradient):
            documents = self._corpus.documents(round.first, round.count)
        ledger = self._cut(opened, documents, workers)
        others = [*self.open.values(), *([self._closed] if self._closed else [])]
        same = [other.order for other in others if other.id.step == round.version]
        packed = next((order.packed for order in same if order.packed), None)
        order = WorkOrder(
            self._run, self._epoch, ledger.round, documents, opened.params,
            self._shapes, self._config.model.block_size, packed,
        )  # fmt: skip
        self.open[opened.number] = OpenRound(opened, documents, now, workers, ledger, order)
        self._next_number = opened.number + 1

    def cut_anew(self, workers: int) -> None:
        """Cut the rounds that nobody has begun for those who are here now."""
        for round in self.open.values():
            if round.ledger.untouched and round.cut_for != workers:
                round.ledger = self._cut(round.opened, round.documents, workers)
                round.cut_for = workers

    def _cut(
        self, opened: driver.OpenRound, documents: Sequence[Sequence[int]], workers: int
    ) -> RoundLedger:
        round = opened.round
        training = isinstance(round.task, Gradient)
        size = round.shard_size or (self._policy.shard_size if training else None)
        if size is None:
            # Before the first evaluation: it takes less time than training does.
            times = self._times[training].engine or self._times[True].engine
            seconds = statistics.median(times) if times else assume_seconds(self._config, documents)
            size = choose_shard_size(round.count, workers, seconds, self._largest)
        verified = choose_verified(
            shards(round.count, size), round.version, self._policy.verify_fraction
        )
        id = RoundId(opened.number, round.version, training)
        return RoundLedger(id, round.count, size, self._in_flight, verified)

    def close(self, round: OpenRound) -> None:
        """A round is over. Its ledger is kept for late answers until the next one is."""
        del self.open[round.id.number]
        self._closed = round

    def find_open(self, id: RoundId) -> OpenRound | None:
        """The open round of this name."""
        round = self.open.get(id.number)
        return round if round is not None and round.id == id else None

    def find(self, id: RoundId) -> OpenRound | None:
        """The round of this name if it is open, or was closed last: for answers that come late."""
        if self._closed is not None and self._closed.id == id:
            return self._closed
        return self.find_open(id)

    def never_was(self, id: RoundId) -> bool:
        """Whether no such round has ever been opened, as far as is known."""
        same = self.open.get(id.number)
        return id.number >= self._next_number or (same is not None and same.id != id)

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

    def record(
        self, round: OpenRound, after: TrainingState, workers: int, now: float
    ) -> Mapping[str, Any]:
        """The line of metrics of the step that the round has led to, or of its evaluation."""
        seconds = max(0.0, now - round.began)
        if not round.id.training and after.validation is not None:
            loss = after.validation.loss
            return {**self._record, "validation_loss": loss, "validation_seconds": seconds}
        self._record = {
            "step": after.step,
            "loss": after.losses[-1],
            "lr": rate(self._config, after.step - 1),
            "documents": len(round.documents),
            "tokens": count_tokens(self._config, round.documents),
            "seconds": seconds,
            "workers": workers,
            "shards": len(round.ledger.all),
        }
        return self._record
