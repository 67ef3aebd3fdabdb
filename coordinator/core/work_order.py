"""What workers are told to compute in one round: weights once, and a task for each shard."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.core.in_flight import RoundId
from microgpt.data.packed import PackedDocuments
from microgpt.numerics.vectors import Vector, vector_to_map
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes, num_params
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment

#: Tasks of a replica from one snapshot of its state to the next: as many may have to be done again,
#: with weights that are kept and sent for it. So they are fewer where these are large (bytes). A
#: snapshot is longer than a compressed vector: were they more, compression would hardly show.
SNAPSHOT_EVERY, REDO_WEIGHTS = 32, 64 << 20
NOBODY: Mapping[Shard, Assignment] = {}


def snapshot_every(shapes: Shapes, wanted: int = 0) -> int:
    """How many tasks a replica does from one snapshot of its state to the next: as many as
    ``wanted``, if that is not 0, or fewer.
    """
    most = max(1, min(SNAPSHOT_EVERY, REDO_WEIGHTS // (8 * num_params(shapes))))
    return min(wanted or most, most)


def wants_snapshot(clock: int, shapes: Shapes, wanted: int = 0) -> bool:
    """Whether the state after a task is wanted, when so many were done before."""
    return (clock + 1) % snapshot_every(shapes, wanted) == 0


class WorkOrder:
    """``round`` of run ``run`` in epoch ``epoch``, with its ``documents`` (token ids).

    Keeps no more than one packed copy of the weights ``params``, made when somebody needs it, or
    given as ``weights`` by another order with the same. ``assignments``: what replicas are to do
    with which shard, in a round with replicas; ``snapshots``: see ``Policy.snapshot_every``.
    """

    def __init__(
        self,
        run: str,
        epoch: str,
        round: RoundId,
        documents: PackedDocuments,
        params: Vector,
        shapes: Shapes,
        weights: messages.Weights | None = None,
        assignments: Mapping[Shard, Assignment] = NOBODY,
        snapshots: int = 0,
    ) -> None:
        self.round, self.params, self.assignments = round, params, assignments
        self._run, self._epoch = run, epoch
        self._documents, self._shapes = documents, shapes
        self._weights, self._snapshots = weights, snapshots

    def weights(self) -> messages.Weights:
        """The weights of the round: one message for all."""
        if self._weights is None:
            packed = vector_to_map(self.params, self._shapes)
            self._weights = messages.Weights(self._run, self._epoch, self.round.step, packed)
        return self._weights

    def ready(self, params: Vector) -> None:
        """These are the weights of a round that was prepared before they existed."""
        self.params = params

    def task_ahead(self, shard: Shard) -> messages.TaskAhead:
        """What is to be computed of a shard once the weights are there."""
        where = self._run, self._epoch, self.round.step, shard.start, shard.count
        documents = self._documents.to_bytes(shard.start, shard.start + shard.count)
        return messages.TaskAhead(*where, *documents, round=self.round.number)

    @property
    def packed(self) -> messages.Weights | None:
        """The message with the weights, if it has been made."""
        return self._weights

    def task(self, shard: Shard, *, redo: bool = False) -> messages.Task:
        """What is to be computed of a shard; without an answer, to ``redo`` a replica's task."""
        where = self._run, self._epoch, self.round.step, shard.start, shard.count
        documents = self._documents.to_bytes(shard.start, shard.start + shard.count)
        assignment = self.assignments.get(shard)
        if assignment is None:
            training = self.round.training
            return messages.Task(*where, *documents, training, round=self.round.number)
        return messages.ReplicaTask(
            *where,
            *documents,
            round=self.round.number,
            replica=assignment.replica,
            clock=assignment.clock,
            steps=assignment.steps,
            elastic=assignment.elastic,
            updates=assignment.updates,
            snapshot=not redo and wants_snapshot(assignment.clock, self._shapes, self._snapshots),
            redo=redo,
        )
