"""The rounds under way: their documents, ledgers and work orders."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np

from coordinator.core.in_flight import InFlight, RoundId
from coordinator.core.membership import Worker
from coordinator.core.policy import Policy
from coordinator.core.round_documents import RoundDocuments
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.sharding import (
    ASSUMED_OVERHEAD,
    Cut,
    choose_cut,
    choose_verified,
)
from coordinator.core.work_order import NOBODY, WorkOrder, wants_snapshot
from coordinator.core.work_times import ShardTimes
from microgpt.data.packed import PackedDocuments
from microgpt.optim.reduction import Shard, shards
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment
from microgpt.strategies import driver
from microgpt.strategies.base import Losses, Result


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

    def __post_init__(self) -> None:
        #: Its number, the version of its weights, and what kind of work it is.
        self.id: RoundId = self.ledger.round

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


class Rounds:
    """``open`` are the rounds under way by their numbers, oldest first.

    ``in_flight``: what has been given away of them and is not answered. ``times``: how long
    documents took, in training (True) and in evaluation (False).
    """

    def __init__(self, documents: RoundDocuments, policy: Policy, run: str, epoch: str) -> None:
        self.open: dict[int, OpenRound] = {}
        self.in_flight = InFlight()
        self.times = {training: ShardTimes() for training in (True, False)}
        self._documents, self._policy = documents, policy
        self._run, self._epoch = run, epoch
        self._closed: OpenRound | None = None  # the last one
        self._next_number = 0
        self._cuts: dict[bool, Cut] = {}  # the last ones, of training and of evaluation

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
        documents = self._documents.of(round)
        parts = round.parts() if opened.assignments else ()
        assignments = dict(zip(parts, opened.assignments, strict=True))
        ledger = self._cut(opened, documents, staff, assignments)
        others = [*self.open.values(), *([self._closed] if self._closed else [])]
        same = [other.order for other in others if other.id.step == round.version]
        packed = next((order.packed for order in same if order.packed), None)
        order = WorkOrder(
            self._run, self._epoch, ledger.round, documents, opened.params,
            self._documents.shapes, packed, assignments, self._policy.snapshot_every,
        )  # fmt: skip
        return OpenRound(opened, documents, 0.0, len(staff), ledger, order)

    def wants_snapshot(self, assignment: Assignment | None) -> bool:
        """Whether the state of a replica is to come along with its answer."""
        every, shapes = self._policy.snapshot_every, self._documents.shapes
        return assignment is not None and wants_snapshot(assignment.clock, shapes, every)

    def cut_anew(self, staff: Collection[Worker]) -> None:
        """Cut the rounds that nobody has begun for those who are here now.

        The parts of replicas are what they are, whoever is here.
        """
        for round in self.open.values():
            if round.cut_for == len(staff) or round.order.assignments:
                continue
            if round.ledger.untouched:
                round.ledger = self._cut(round.opened, round.documents, staff, NOBODY)
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
        return RoundLedger(id, cut, self.in_flight, verified, assignments)

    def _suitable(
        self,
        training: bool,
        count: int,
        documents: PackedDocuments,
        staff: Collection[Worker],
    ) -> list[Shard]:
        """The last cut of this kind, as long as workers and their paces are about the same."""
        # Before the first evaluation: it takes less time than training does.
        kind = training or not self.times[False].engine.value
        times = self.times[kind]
        usual = times.engine.value or self._documents.assumed_seconds(documents)
        known = [worker.paces.get(kind) for worker in staff]
        paces = [pace.value if pace is not None and pace.value else usual for pace in known]
        kept = self._cuts.get(training)
        if kept is None or not kept.suits(count, paces):
            overhead = times.overhead.value or ASSUMED_OVERHEAD
            cut = choose_cut(count, paces, overhead, self._documents.largest)
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
        found = self.find_open(id)
        if found is None and self._closed is not None and self._closed.id == id:
            return self._closed
        return found

    def never_was(self, id: RoundId) -> bool:
        """Whether no such round has ever been opened, as far as is known."""
        same = self.open.get(id.number)
        return id.number >= self._next_number or (same is not None and same.id != id)

    def describe(self, round: OpenRound, failure: messages.Failure) -> str:
        """A failure at a document of a round, for people."""
        return self._documents.describe(round.opened.round, failure)
