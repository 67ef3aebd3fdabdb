"""The replicas of a run: how they were, what they have done since, and which worker has them.

A replica's state lies with the worker that computed its last task. Every few tasks it comes along
with an answer as a snapshot. A worker that does not have it is sent the snapshot and the tasks
since, which it does again without answering: so no state is ever lost, to the bit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import NamedTuple

from coordinator.core.in_flight import RoundId
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.work_order import WorkOrder
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.packed import PackedDocuments
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_bytes, vector_to_bytes
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment, PastTask, ReplicaLog, ReplicaState
from microgpt.replicas.work import RESIDUAL, Recipe

EARLIER = 1 << 62  # what stands for the number of a round of an earlier epoch


class Given(NamedTuple):
    """A task of a replica: a shard of a round. ``first``: the place of its first document."""

    order: WorkOrder
    shard: Shard
    assignment: Assignment
    first: int


class Replicas:
    """Those of run ``run`` in epoch ``epoch``, who do what ``recipe`` says."""

    def __init__(self, run: str, epoch: str, recipe: Recipe) -> None:
        self._run, self._epoch, self._recipe = run, epoch, recipe
        self._snapshots: dict[int, ReplicaState] = {}
        self._since: dict[int, list[Given]] = {}
        self._homes: dict[int, Peer] = {}  # the worker that has worked for a replica last
        self._pasts: Counter[int] = Counter()  # how often a task has been taken back
        self._unsettled: list[tuple[int, ReplicaState]] = []  # snapshots of closed rounds

    def restore(self, logs: Iterable[ReplicaLog], config: TrainingConfig, corpus: Corpus) -> None:
        """Go on with the replicas of an earlier epoch."""
        shapes = parameter_shapes(config.model)
        shares = corpus.shares.shortened(config.model.block_size + 1)
        for log in logs:
            self._snapshots[log.replica] = log.snapshot
            self._since[log.replica] = [
                self._given(task, shares.documents(task.first, task.count, log.replica), shapes)
                for task in log.since
            ]

    def _given(self, task: PastTask, documents: PackedDocuments, shapes: Shapes) -> Given:
        """A task of an earlier epoch as if it were one of a round of this one."""
        shard, round = Shard(0, task.count), RoundId(EARLIER, task.assignment.version, True)
        assignments = {shard: task.assignment}
        order = WorkOrder(
            self._run, self._epoch, round, documents, task.params, shapes, None, assignments
        )
        return Given(order, shard, task.assignment, task.first)

    def _keeps_state(self, order: WorkOrder) -> bool:
        """Whether it matters who has the replicas of a round."""
        first = next(iter(order.assignments.values()), None)
        return first is not None and self._recipe.keeps_state(first)

    # --- handing out -----------------------------------------------------------------------------

    def opened(self, order: WorkOrder, first: int) -> None:
        """A round is opened whose documents begin at place ``first``."""
        kept = self._keeps_state(order)
        for shard, assignment in order.assignments.items():
            self._snapshots.setdefault(assignment.replica, ReplicaState())
            since = self._since.setdefault(assignment.replica, [])
            if kept:
                since.append(Given(order, shard, assignment, first + shard.start))

    def home(self, order: WorkOrder, shard: Shard) -> Peer | None:
        """Where a shard should be computed; None if anywhere.

        That is where its replica is, if that matters: for its state, or as a round is of one
        replica alone, whose pace is its worker's.
        """
        assignment = order.assignments.get(shard)
        if assignment is None or not (len(order.assignments) == 1 or self._keeps_state(order)):
            return None
        return self._homes.get(assignment.replica)

    def surplus(self, peer: Peer, other: Peer) -> int:
        """How many replicas more than the other one a worker has."""
        number = Counter(self._homes.values())
        return number[peer] - number[other]

    def before(self, order: WorkOrder, shard: Shard, has: int | None) -> list[messages.Message]:
        """What brings a worker, or the judge, to the state before a task.

        ``has``: how many tasks the replica has done that it knows, None if it knows nothing of it.
        Raises LookupError if the state before the task is not known any more.
        """
        assignment = order.assignments.get(shard)
        if assignment is None or has == assignment.clock or not self._keeps_state(order):
            return []
        snapshot = self._snapshots.get(assignment.replica, ReplicaState())
        if snapshot.clock > assignment.clock:
            raise LookupError("the replica has gone on: the state before is not kept")
        messages_: list[messages.Message] = []
        if has is None or not snapshot.clock <= has < assignment.clock:
            has = snapshot.clock
            vectors = {name: vector_to_bytes(x) for name, x in snapshot.vectors.items()}
            where = assignment.replica, has, vectors
            messages_.append(messages.ReplicaState(self._run, self._epoch, *where))
        for given in self._since[assignment.replica]:
            if has <= given.assignment.clock < assignment.clock:
                messages_ += [given.order.weights(), given.order.task(given.shard, redo=True)]
        return messages_

    def sent(
        self, worker: Worker, order: WorkOrder, shard: Shard, *, stays: bool
    ) -> list[messages.Message]:
        """What a worker is to be sent before a task that it is given.

        The replica ``stays`` with it, unless the task is a trial.
        """
        assignment = order.assignments.get(shard)
        if assignment is None:
            return []
        replica, past = assignment.replica, self._pasts[assignment.replica]
        known, has = worker.replicas.get(replica, (past, None))
        needed = self.before(order, shard, has if known == past else None)
        worker.replicas[replica] = past, assignment.clock + 1
        if stays:
            self._homes[replica] = worker.peer
        return needed

    def forget(self, peer: Peer) -> None:
        """A worker is gone, or begins again: its replicas are nobody's."""
        self._homes = {replica: home for replica, home in self._homes.items() if home != peer}

    # --- taking in -------------------------------------------------------------------------------

    def closed(self, order: WorkOrder, ledger: RoundLedger) -> None:
        """A round is closed. Who was too late for it is as it was before."""
        kept, states = self._keeps_state(order), ledger.states()
        for shard, assignment in order.assignments.items():
            vectors = states.get(shard)
            if not ledger.decided(shard):
                self._take_back(assignment.replica, given_out=ledger.given_out(shard))
                continue
            if vectors or not kept:
                plain = {name: vector_from_bytes(x) for name, x in (vectors or {}).items()}
                state = ReplicaState(assignment.clock + 1, plain)
                self._unsettled.append((assignment.replica, state))

    def _take_back(self, replica: int, *, given_out: bool) -> None:
        """The last task does not count; whoever has computed it has a replica of another past."""
        del self._since[replica][-1:]
        self._pasts[replica] += given_out

    def settle(self) -> None:
        """The step that the closed rounds belong to is over: their snapshots count."""
        for replica, state in self._unsettled:
            if state.clock > self._snapshots[replica].clock:
                self._snapshots[replica] = state
                since = self._since[replica]
                self._since[replica] = [g for g in since if g.assignment.clock >= state.clock]
        self._unsettled.clear()

    def residuals(self) -> list[Vector]:
        """What compressors have left out so far, in the newest snapshots of replicas."""
        kept = [snapshot.vectors.get(RESIDUAL) for snapshot in self._snapshots.values()]
        return [residual for residual in kept if residual is not None]

    def freeze(self, undone: Collection[int]) -> tuple[ReplicaLog, ...]:
        """What is known of all replicas after the last step; rounds ``undone`` are yet to count."""
        return tuple(
            ReplicaLog(
                replica,
                self._snapshots[replica],
                tuple(_past(given) for given in since if given.order.round.number not in undone),
            )
            for replica, since in sorted(self._since.items())
        )


def _past(given: Given) -> PastTask:
    return PastTask(given.assignment, given.first, given.shard.count, given.order.params)
