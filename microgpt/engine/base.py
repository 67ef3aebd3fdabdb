"""What an engine is: forward and backward pass of the GPT over the documents of a shard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from microgpt.numerics.vectors import Vector


@dataclass(frozen=True)
class ShardGradient:
    """What a shard of documents contributes to a step.

    ``losses``: mean loss in nats of each document, in the shard's order.
    ``gradient``: (num_params,) float64, the tree sum over the documents (not their mean) in
    canonical parameter order.
    """

    losses: tuple[float, ...]
    gradient: Vector


class NonFiniteError(ArithmeticError):
    """The loss or a gradient of a document is not a finite number.

    ``document`` is its position in the shard, ``reason`` a plain sentence.
    """

    def __init__(self, document: int, reason: str) -> None:
        super().__init__(f"document {document} of the shard: {reason}")
        self.document = document
        self.reason = reason


def check_documents(documents: Sequence[Sequence[int]], vocab_size: int) -> None:
    """Raise ValueError unless every document has two tokens or more, all in the vocabulary."""
    for index, document in enumerate(documents):
        if len(document) < 2:
            raise ValueError(f"document {index} has {len(document)} tokens; it needs at least two")
        for token in document:
            if type(token) is not int or not 0 <= token < vocab_size:
                raise ValueError(f"document {index}: {token!r} is no token id below {vocab_size}")


class Engine(Protocol):
    """Computes gradients under the arithmetic contract: every engine gives the same bits."""

    name: str

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """Losses and summed gradient of ``documents`` (token ids, BOS at both ends).

        ``params``: (num_params,) float64 in canonical order. Raises NonFiniteError, and ValueError
        for no documents or one that ``check_documents`` refuses.
        """
        ...

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """The losses that ``gradients`` gives, by the forward pass alone.

        Raises the same, but NonFiniteError only for what makes the loss itself no finite number:
        a document may have a loss and no gradient.
        """
        ...
