"""The rounds under way: their documents, ledgers and work orders, and what is measured of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from coordinator.core.action_buffer import printable
from coordinator.core.in_flight import InFlight, RoundId
from coordinator.core.membership import Worker
from coordinator.core.policy import Policy
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.sharding import (
    ASSUMED_OVERHEAD,
    Cut,
    assume_seconds,
    choose_cut,
    choose_verified,
    largest_shard,
)
from coordinator.core.work_order import WorkOrder
from coordinator.core.work_times import ShardTimes
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.packed import PackedDocuments
from microgpt.data.shares import Shares
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard, shards
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment
from microgpt.strategies import driver
from microgpt.strategies.base import LocalSteps, Losses, Note, Result, Round
from microgpt.strategies.checks import as_floats
from microgpt.training import TrainingState, last_rate


@dataclass
class OpenRound:
    """A round under way: what the driver has opened, with its ledger and work order.

    ``documents`` are as long as the model looks at them. ``began`` is when it was opened,
    ``cut_for`` the number of workers that it was cut into shards for, ``asked`` about how many
    results the strategy was asked last.
    """

    opened: driver.OpenRound
    documents: PackedDocuments
    began: float
    cut_for: int
    ledger: RoundLedger
    order: WorkOrder
    asked: int = 0

    @property
    def id(self) -> RoundId:
        """Its number, the version of its weights, and what kind of work it is."""
        return self.ledger.round

    def results(self, *, judged: bool = False, by_arrival: bool = False) -> list[Result]:
        """Those of its ledger, as its strategy sees them: in the order of shards or of arrival."""
        results = self.ledger.results(judged=judged)
        if by_arrival:
            since = {shard: number for number, shard in enumerate(self.ledger.arrived)}
            results.sort(key=lambda result: since[result.shard])
        if not self.order.assignments:
            return results
        return [replace(result, tokens=self._tokens(result.shard)) for result in results]

    def _tokens(self, shard: Shard) -> int:
        """How many predictions a part of it is: the first token of a document is given."""
        lengths = self.documents.lengths[shard.start : shard.start + shard.count]
        return int(np.add.reduce(lengths)) - shard.count


def documents_of(round: Round, shares: Shares) -> PackedDocuments:
    """The documents that a round trains on, in its order."""
    if round.replicas:
        return shares.together(round.first, round.parts(), round.replicas)
    return shares.documents(round.first, round.count)


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
        # What lies behind the last position is of no influence, and may be long.
        last = config.model.block_size + 1
        self._shares = corpus.shares.shortened(last)
        self._held_out = corpus.validation.shortened(last)
        self._largest = max(1, largest_shard(config, corpus.longest))
        self._closed: OpenRound | None = None  # the last one
        self._next_number = 0
        self._cuts: dict[bool, Cut] = {}  # the last ones, of training and of evaluation
        self._record: dict[str, Any] = {}  # of the step that waits for its validation loss
        self._stepped = -math.inf  # when the last step was done

    def begin(self, opened: driver.OpenRound, staff: Collection[Worker], now: float) -> None:
        """Begin a round, with these workers there."""
        self._add(self.prepared(opened, staff), now)

    def begin_prepared(self, round: OpenRound, opened: driver.OpenRound, now: float) -> None:
        """Begin a round that was prepared before its weights existed."""
        round.opened = opened
        round.order.ready(opened.params)
        self._add(round, now)

    def _add(self, round: OpenRound, now: float) -> None:
        round.began = now
        self.open[round.id.number] = round
        self._next_number = round.id.number + 1

    def prepared(self, opened: driver.OpenRound, staff: Collection[Worker]) -> OpenRound:
        """A round cut for these workers, which is not begun."""
        round = opened.round
        documents = self._held_out
        if not isinstance(round.task, Losses):
            documents = documents_of(round, self._shares)
        parts = round.parts() if opened.assignments else ()
        assignments = dict(zip(parts, opened.assignments, strict=True))
        ledger = self._cut(opened, documents, staff, assignments)
        others = [*self.open.values(), *([self._closed] if self._closed else [])]
        same = [other.order for other in others if other.id.step == round.version]
        packed = next((order.packed for order in same if order.packed), None)
        order = WorkOrder(
            self._run, self._epoch, ledger.round, documents, opened.params,
            self._shapes, packed, assignments,
        )  # fmt: skip
        return OpenRound(opened, documents, 0.0, len(staff), ledger, order)

    def cut_anew(self, staff: Collection[Worker]) -> None:
        """Cut the rounds that nobody has begun for those who are here now."""
        for round in self.open.values():
            if round.ledger.untouched and round.cut_for != len(staff):
                assignments = round.order.assignments
                round.ledger = self._cut(round.opened, round.documents, staff, assignments)
                round.cut_for = len(staff)

    def _cut(
        self,
        opened: driver.OpenRound,
        documents: PackedDocuments,
        staff: Collection[Worker],
        assignments: Mapping[Shard, Assignment],
    ) -> RoundLedger:
        round = opened.round
        training = not isinstance(round.task, Losses)
        size = round.shard_size or (self._policy.shard_size if training else None)
        if assignments:
            cut = [*assignments]
        elif size is None:
            cut = self._suitable(training, round.count, documents, staff)
        else:
            cut = shards(round.count, size)
        verified = choose_verified(cut, round.version, self._policy.verify_fraction)
        id = RoundId(opened.number, round.version, training)
        return RoundLedger(id, cut, self._in_flight, verified, assignments)

    def _suitable(
        self,
        training: bool,
        count: int,
        documents: PackedDocuments,
        staff: Collection[Worker],
    ) -> list[Shard]:
        """The last cut of this kind, as long as workers and their paces are about the same."""
        # Before the first evaluation: it takes less time than training does.
        kind = training or not self._times[False].engine.value
        times = self._times[kind]
        usual = times.engine.value or assume_seconds(self._config, documents)
        known = [worker.paces.get(kind) for worker in staff]
        paces = [pace.value if pace is not None and pace.value else usual for pace in known]
        kept = self._cuts.get(training)
        if kept is None or not kept.suits(count, paces):
            cut = choose_cut(count, paces, times.overhead.value or ASSUMED_OVERHEAD, self._largest)
            kept = self._cuts[training] = Cut(count, tuple(paces), cut)
        return kept.shards

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
        documents = self._corpus.validation
        if failure.training:
            documents = documents_of(round.opened.round, self._corpus.shares)
        document = self._corpus.tokenizer.decode(documents[failure.document])
        whole = "round" if isinstance(round.opened.round.task, LocalSteps) else "batch"
        place = (
            f"step {failure.step + 1}, document {failure.document + 1} of the {whole}"
            if failure.training
            else f"after step {failure.step}, held-out document {failure.document + 1}"
        )
        return (
            f"{place} ({document[:40]!r}): {printable(failure.reason, 200)}; "
            "a lower --learning-rate may help"
        )

    def record(
        self,
        rounds: Sequence[OpenRound],
        after: TrainingState,
        workers: int,
        now: float,
        notes: Mapping[str, Note],
    ) -> Mapping[str, Any]:
        """The line of metrics of the step that the rounds have led to, or of its evaluation.

        ``notes``: what the strategy has told of the step. Its seconds begin with its first round,
        or with the step before where rounds overlap: those of all steps add up to no more than
        the run has taken.
        """
        round = rounds[-1]
        began = min(each.began for each in rounds)
        if not round.id.training and after.validation is not None:
            seconds, loss = max(0.0, now - began), after.validation.loss
            return {**self._record, "validation_loss": loss, "validation_seconds": seconds}
        seconds = max(0.0, now - max(began, self._stepped))
        self._stepped = now
        self._record = {
            "step": after.step,
            "loss": after.losses[-1],
            "lr": last_rate(self._config, after),
            "documents": sum(len(each.documents) for each in rounds),
            "tokens": sum(  # the first of a document is given
                len(each.documents.tokens) - len(each.documents) for each in rounds
            ),
            "seconds": seconds,
            "workers": workers,
            "shards": sum(len(each.ledger.all) for each in rounds),
        }
        if notes:
            self._record["strategy"] = {name: as_floats(note) for name, note in notes.items()}
        return self._record
