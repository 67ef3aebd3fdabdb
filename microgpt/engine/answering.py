"""A work order of the coordinator, carried out by an engine: from a Task to an answer."""

from __future__ import annotations

import time
from collections.abc import Mapping

from microgpt.data.packed import PackedDocuments
from microgpt.engine.base import Engine, NonFiniteError
from microgpt.numerics.vectors import vector_from_map, vector_to_map
from microgpt.parameters import Shapes, to_bytes
from microgpt.protocol.messages import Failure, ShardResult, Task
from microgpt.support.step_clock import NO_CLOCK, NoClock


def documents_of(task: Task) -> PackedDocuments:
    """The documents of a task. Raises ValueError if there are not as many as it says."""
    documents = PackedDocuments.from_bytes(task.tokens, task.lengths)
    if len(documents) != task.count:
        raise ValueError(f"{len(documents)} documents instead of {task.count}")
    return documents


def answer(
    engine: Engine,
    shapes: Shapes,
    weights: Mapping[str, bytes],
    task: Task,
    clock: NoClock = NO_CLOCK,
) -> ShardResult | Failure:
    """The result of a task, or the Failure if a document has no finite gradient.

    ``clock`` hears when weights and documents are decoded, and when the engine is done. Raises
    ValueError if the weights do not fit the model, or the documents are malformed.
    """
    began = time.perf_counter()
    params, documents = vector_from_map(weights, shapes), documents_of(task)
    gradient: dict[str, bytes] = {}
    clock.lap("decode")
    try:
        if task.training:
            result = engine.gradients(params, documents)
            clock.lap("engine")
            losses, gradient = result.losses, vector_to_map(result.gradient, shapes)
        else:
            losses = engine.losses(params, documents)
            clock.lap("engine")
    except NonFiniteError as error:
        place, reason = task.start + error.document, error.reason[:500]
        return Failure(
            task.run, task.epoch, task.step, place, reason, task.training, round=task.round
        )  # fmt: skip
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
