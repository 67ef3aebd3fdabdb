"""The reference engine: ``Value`` by ``Value``, one document at a time. Right by definition."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from microgpt.engine.base import NonFiniteError, ShardGradient, check_documents
from microgpt.model import Forward, GPTConfig, document_loss, gpt, parameter_shapes
from microgpt.parameters import Shapes, unflatten
from microgpt.reduction import tree_sum
from microgpt.value import Value
from microgpt.vectors import Vector


class ScalarEngine:
    """Runs ``document_loss`` on Values. ``forward`` and ``shapes`` may describe another model."""

    name = "scalar"

    def __init__(
        self, config: GPTConfig, forward: Forward = gpt, shapes: Shapes | None = None
    ) -> None:
        self.config = config
        self.forward = forward
        self.shapes = parameter_shapes(config) if shapes is None else shapes

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """See ``Engine.gradients``."""
        check_documents(documents, self.config.vocab_size)
        results = [self._document(params, index, doc) for index, doc in enumerate(documents)]
        losses = tuple(loss for loss, _ in results)
        return ShardGradient(losses, tree_sum([gradient for _, gradient in results]))

    def _document(self, params: Vector, index: int, tokens: Sequence[int]) -> tuple[float, Vector]:
        with _collection_paused():
            rows = unflatten(params.tolist(), self.shapes)
            leaves = {name: [[Value(x) for x in row] for row in m] for name, m in rows.items()}
            try:
                loss = document_loss(leaves, self.config, tokens, self.forward)
                loss.backward()
            except (ArithmeticError, ValueError) as error:
                raise NonFiniteError(index, f"the loss is not a finite number: {error}") from error
            gradient = np.array(
                [leaf.grad for matrix in leaves.values() for row in matrix for leaf in row]
            )
        if not math.isfinite(loss.data):
            raise NonFiniteError(index, f"the loss is {loss.data}")
        if not np.isfinite(gradient).all():
            raise NonFiniteError(index, "a gradient is not a finite number")
        return loss.data, gradient


@contextmanager
def _collection_paused() -> Iterator[None]:
    """No cyclic garbage collection: a graph has no cycles, and looking for some takes as long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
