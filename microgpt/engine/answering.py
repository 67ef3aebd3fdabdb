"""A work order of the coordinator, carried out by an engine: from a Task to an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress

from microgpt.data.packed import PackedDocuments
from microgpt.engine.base import Engine, NonFiniteError
from microgpt.numerics.vectors import (
    Vector,
    vector_from_bytes,
    vector_from_map,
    vector_to_bytes,
    vector_to_map,
)
from microgpt.parameters import Shapes, to_bytes
from microgpt.protocol import messages
from microgpt.protocol.messages import Failure, ReplicaResult, ReplicaTask, ShardResult, Task
from microgpt.replicas.state import Assignment, ReplicaState
from microgpt.replicas.work import Lie, Recipe, ReplicaOverflowError, check_state, compute
from microgpt.support.step_clock import NO_CLOCK, NoClock


def documents_of(task: Task) -> PackedDocuments:
    """The documents of a task. Raises ValueError if there are not as many as it says."""
    return PackedDocuments.from_bytes(task.tokens, task.lengths, task.count)


class Answerer:
    """Answers tasks for a model of these ``shapes``; keeps the replicas that it has worked for.

    ``recipe``: what replicas do, None in a run without any. ``lie``: see ``replicas.work``; of the
    replicas of one round it is told for the first alone, so that there are no more lies in a round
    than liars.
    """

    def __init__(
        self,
        engine: Engine,
        shapes: Shapes,
        recipe: Recipe | None = None,
        lie: Lie | None = None,
    ) -> None:
        self._engine, self._shapes, self._recipe, self._lie = engine, shapes, recipe, lie
        self._replicas: dict[int, ReplicaState] = {}
        self._lied = (-1, -1)  # in which round, and for which replica
        self._prepared: tuple[Task, PackedDocuments] | None = None

    @property
    def lies(self) -> bool:
        """Whether what it answers is not always the truth."""
        return self._lie is not None

    def restore(self, message: messages.ReplicaState) -> None:
        """Go on with a replica as it was then."""
        vectors = {name: vector_from_bytes(part) for name, part in message.vectors.items()}
        self._replicas[message.replica] = ReplicaState(message.clock, vectors)

    def prepare(self, task: Task) -> None:
        """Look into the documents of a task before its weights are there, to be quick then."""
        with suppress(ValueError):  # which ``answer`` raises
            self._prepared = task, documents_of(task)

    def _documents(self, task: Task) -> PackedDocuments:
        prepared, self._prepared = self._prepared, None
        if prepared is not None and prepared[0] is task:
            return prepared[1]
        return documents_of(task)

    def answer(
        self, weights: Mapping[str, bytes], task: Task, clock: NoClock = NO_CLOCK
    ) -> ShardResult | Failure:
        """The result of a task, or the Failure if a document has no finite gradient.

        ``clock`` hears when weights and documents are decoded, and when the engine is done. Raises
        ValueError if the weights do not fit the model, the documents are malformed, and
        ReplicaStateError if the replica is not as the task wants it.
        """
        began = time.perf_counter()
        params, documents = vector_from_map(weights, self._shapes), self._documents(task)
        clock.lap("decode")
        try:
            if isinstance(task, ReplicaTask):
                return self._of_replica(params, documents, task, began, clock)
            return self._of_shard(params, documents, task, began, clock)
        except NonFiniteError as error:
            return self._failure(task, error.document, error.reason)
        except ReplicaOverflowError as error:
            return self._failure(task, 0, str(error))

    def _of_shard(
        self,
        params: Vector,
        documents: PackedDocuments,
        task: Task,
        began: float,
        clock: NoClock,
    ) -> ShardResult:
        gradient: dict[str, bytes] = {}
        if task.training:
            result = self._engine.gradients(params, documents)
            clock.lap("engine")
            vector = result.gradient
            if self._lie is not None:
                vector = self._lie(vector, len(documents))
            losses, gradient = result.losses, vector_to_map(vector, self._shapes)
        else:
            losses = self._engine.losses(params, documents)
            clock.lap("engine")
        return ShardResult(
            task.run,
            task.epoch,
            task.step,
            task.start,
            task.count,
            time.perf_counter() - began,
            to_bytes(losses),
            gradient,
            task.training,
            round=task.round,
        )

    def _of_replica(
        self,
        params: Vector,
        documents: PackedDocuments,
        task: ReplicaTask,
        began: float,
        clock: NoClock,
    ) -> ReplicaResult:
        if self._recipe is None:
            raise ValueError("work for a replica, in a run without any")
        state = self._replicas.get(task.replica, ReplicaState())
        assignment = assignment_of(task)
        if state.vectors:
            check_state(state.vectors, self._recipe.layout(assignment, self._shapes))
        if task.round != self._lied[0]:
            self._lied = task.round, task.replica
        lie = self._lie if task.replica == self._lied[1] else None
        done = compute(
            self._recipe, assignment, self._shapes, params, documents, state, self._engine, lie
        )
        self._replicas[task.replica] = done.state
        clock.lap("engine")
        compressed = done.payload is not None
        kept = done.state.vectors if task.snapshot else {}
        return ReplicaResult(
            task.run,
            task.epoch,
            task.step,
            task.start,
            task.count,
            time.perf_counter() - began,
            vector_to_bytes(done.losses),
            {} if compressed else vector_to_map(done.vector, self._shapes),
            round=task.round,
            payload=done.payload or b"",
            state={name: vector_to_bytes(vector) for name, vector in kept.items()},
        )

    def _failure(self, task: Task, document: int, reason: str) -> Failure:
        """A replica stays as it was, but has done this task."""
        if isinstance(task, ReplicaTask):
            state = self._replicas.get(task.replica, ReplicaState())
            self._replicas[task.replica] = ReplicaState(task.clock + 1, state.vectors)
        place = task.start + document
        return Failure(
            task.run, task.epoch, task.step, place, reason[:500], task.training, round=task.round
        )  # fmt: skip


def assignment_of(task: ReplicaTask) -> Assignment:
    """What the replica is to do."""
    return Assignment(task.replica, task.clock, task.step, task.steps, task.elastic, task.updates)
