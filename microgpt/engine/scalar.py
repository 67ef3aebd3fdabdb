"""The reference engine: ``Value`` by ``Value``, one document at a time. Right by definition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from microgpt.engine.base import NonFiniteError, ShardGradient, check_documents
from microgpt.model import Forward, GPTConfig, document_loss, gpt, parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import Shapes, unflatten
from microgpt.value import Operand, Value, collection_paused


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

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """See ``Engine.losses``."""
        check_documents(documents, self.config.vocab_size)
        if not documents:
            raise ValueError("a shard has at least one document")
        leaves = self._leaves(params, Number)
        losses = [self._loss(leaves, index, doc).data for index, doc in enumerate(documents)]
        return tuple(losses)

    def _document(self, params: Vector, index: int, tokens: Sequence[int]) -> tuple[float, Vector]:
        with collection_paused():
            leaves = self._leaves(params, Value)
            loss = self._loss(leaves, index, tokens)
            loss.backward()
            gradient = np.array(
                [leaf.grad for matrix in leaves.values() for row in matrix for leaf in row]
            )
        if not np.isfinite(gradient).all():
            raise NonFiniteError(index, "a gradient is not a finite number")
        return loss.data, gradient

    def _leaves(self, params: Vector, kind: type[Value]) -> dict[str, list[list[Value]]]:
        rows = unflatten(params.tolist(), self.shapes)
        return {name: [[kind(x) for x in row] for row in matrix] for name, matrix in rows.items()}

    def _loss(
        self, leaves: dict[str, list[list[Value]]], index: int, tokens: Sequence[int]
    ) -> Value:
        try:
            loss: Value = document_loss(leaves, self.config, tokens, self.forward)
        except (ArithmeticError, ValueError) as error:
            raise NonFiniteError(index, f"the loss is not a finite number: {error}") from error
        if not math.isfinite(loss.data):
            raise NonFiniteError(index, f"the loss is {loss.data}")
        return loss


class Number(Value):
    """The same numbers without derivatives: nothing is remembered, and no slope can overflow."""

    __slots__ = ()

    def __init__(self, data: float) -> None:
        self.data = data

    def __add__(self, other: Operand) -> Number:
        return Number(self.data + (other if isinstance(other, Value) else Value(other)).data)

    def __mul__(self, other: Operand) -> Number:
        return Number(self.data * (other if isinstance(other, Value) else Value(other)).data)

    def __pow__(self, exponent: float) -> Number:
        power = self.data**exponent
        if isinstance(power, complex):
            raise ValueError(f"{self.data!r} ** {exponent!r} is not a real number")
        return Number(power)

    def log(self) -> Number:
        """See ``Value.log``, whose slope cannot raise; nor can those below."""
        return Number(super().log().data)

    def exp(self) -> Number:
        """See ``Value.exp``."""
        return Number(super().exp().data)

    def relu(self) -> Number:
        """See ``Value.relu``."""
        return Number(super().relu().data)

    def __repr__(self) -> str:
        return f"Number({self.data!r})"
