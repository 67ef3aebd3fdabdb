"""What workers are told to compute in one round: weights once, and a task for each shard."""

from __future__ import annotations

from coordinator.core.actions import Judge
from coordinator.core.in_flight import RoundId
from microgpt.data.packed import PackedDocuments
from microgpt.numerics.vectors import Vector, vector_to_map
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages


class WorkOrder:
    """``round`` of run ``run`` in epoch ``epoch``, with its ``documents`` (token ids).

    Keeps no more than one packed copy of the weights ``params``, made when somebody needs it, or
    given as ``weights`` by another order with the same.
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
    ) -> None:
        self.round = round
        self._run, self._epoch = run, epoch
        self._documents, self._params, self._shapes = documents, params, shapes
        self._weights = weights

    def weights(self) -> messages.Weights:
        """The weights of the round: one message for all."""
        if self._weights is None:
            packed = vector_to_map(self._params, self._shapes)
            self._weights = messages.Weights(self._run, self._epoch, self.round.step, packed)
        return self._weights

    @property
    def packed(self) -> messages.Weights | None:
        """The message with the weights, if it has been made."""
        return self._weights

    def task(self, shard: Shard) -> messages.Task:
        """What is to be computed of a shard."""
        return messages.Task(
            self._run,
            self._epoch,
            self.round.step,
            shard.start,
            shard.count,
            *self._documents.to_bytes(shard.start, shard.start + shard.count),
            self.round.training,
            round=self.round.number,
        )

    def question(self, shard: Shard) -> Judge:
        """A shard, to be computed on this host."""
        return Judge(self.task(shard), self.weights())
