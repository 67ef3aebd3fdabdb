"""What workers are told to compute in one phase: weights once, and a task for each shard."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.core.events import Judge
from coordinator.core.round_ledger import Phase
from microgpt.numerics.vectors import Vector, vector_to_map
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages


class WorkOrder:
    """``phase`` of run ``run`` in life ``epoch``, with its ``documents`` (token ids).

    Keeps no more than one packed copy of the weights ``params``, made when somebody needs it.
    """

    def __init__(
        self,
        run: str,
        epoch: str,
        phase: Phase,
        documents: Sequence[Sequence[int]],
        params: Vector,
        shapes: Shapes,
        block_size: int,
    ) -> None:
        self.phase = phase
        self._run, self._life = run, epoch
        self._documents, self._params, self._shapes = documents, params, shapes
        self._block_size = block_size
        self._weights: messages.Weights | None = None

    def weights(self) -> messages.Weights:
        """The weights of the phase: one message for all."""
        if self._weights is None:
            packed = vector_to_map(self._params, self._shapes)
            self._weights = messages.Weights(self._run, self._life, self.phase.step, packed)
        return self._weights

    def task(self, shard: Shard) -> messages.Task:
        """What is to be computed of a shard."""
        # What lies behind the last position is of no influence, and may be long.
        last = self._block_size + 1
        documents = self._documents[shard.start : shard.start + shard.count]
        return messages.Task(
            self._run,
            self._life,
            self.phase.step,
            shard.start,
            shard.count,
            tuple(tuple(document[:last]) for document in documents),
            self.phase.training,
        )

    def question(self, shard: Shard) -> Judge:
        """A shard, to be computed on this host."""
        return Judge(self.task(shard), self.weights())
