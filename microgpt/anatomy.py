"""Anatomy of one document: all that a worker computes for it, laid open for people to look at.

The numbers are those of training, to the bit: the same model runs on the same ``Value``s, and is
only watched. Needs neither NumPy nor an engine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from microgpt.explain import Attention
from microgpt.model import (
    GPTConfig,
    Parameters,
    Scalar,
    add_up,
    attention,
    attention_weights,
    gpt,
    position_losses,
    softmax,
)
from microgpt.tokenizer import Tokenizer
from microgpt.value import Value, collection_paused

#: Multiplications by a weight, over all positions, up to which gradients take some four seconds
#: and 400 megabytes: each leaves two nodes of a graph behind.
MOST_WORK = 600_000


@dataclass(frozen=True)
class Position:
    """What happens at one position of a document.

    The model has read ``token`` and those before it, and gives each token of the vocabulary its
    probability to come next; ``target`` is the one that does, and ``loss`` the surprise at it, in
    nats: ``-log(probabilities[target])``. ``attention[layer][head]`` goes to the positions so far,
    this one included. ``norms``: length of the hidden state after each of ``Anatomy.parts``.
    """

    token: int
    target: int
    probabilities: tuple[float, ...]
    loss: float
    attention: tuple[tuple[Attention, ...], ...]
    norms: tuple[float, ...]

    @property
    def probability(self) -> float:
        """That of the target."""
        return self.probabilities[self.target]

    @property
    def rank(self) -> int:
        """The target's among all tokens; 1 for the likeliest."""
        return 1 + sum(other > self.probability for other in self.probabilities)


@dataclass(frozen=True)
class TensorGradient:
    """Of one parameter matrix: ``norm`` is the Euclidean length of the loss's gradient by it.

    ``share`` is its part of the squared length of the whole gradient; all shares add up to 1, or
    are 0 where the whole gradient is.
    """

    name: str
    rows: int
    columns: int
    norm: float
    share: float


@dataclass(frozen=True)
class Anatomy:
    """One document in one model. ``loss``: mean over the positions, in nats per token.

    ``parts``: after which parts of the model the hidden state was measured. ``gradients``: None if
    they were not asked for, else one for each parameter matrix, in canonical order. ``cut``:
    whether the document is longer than the context, so that its end is not looked at.
    """

    positions: tuple[Position, ...]
    loss: float
    parts: tuple[str, ...]
    gradients: tuple[TensorGradient, ...] | None
    cut: bool

    @property
    def gradient_norm(self) -> float | None:
        """Length of the whole gradient; None without gradients."""
        if self.gradients is None:
            return None
        return math.hypot(*(tensor.norm for tensor in self.gradients))


def work(config: GPTConfig, document: str) -> int:
    """So many multiplications by a weight it takes to go forward; see ``MOST_WORK``."""
    width = config.n_embd
    a_position = config.vocab_size * width + 12 * config.n_layer * width * width
    return a_position * min(config.block_size, len(document) + 1)


def dissect(
    params: Parameters,
    config: GPTConfig,
    tokenizer: Tokenizer,
    document: str,
    gradients: bool = True,
) -> Anatomy:
    """Look at a document as training would, from its beginning to its end or that of the context.

    ``params``: plain numbers. Without ``gradients`` it takes a tenth of the time. Raises
    UnknownCharacterError, and ArithmeticError or ValueError where the numbers overflow.
    """
    tokens = tokenizer.encode(document)
    with collection_paused():
        found = _dissect(params, config, tokens, Value if gradients else float)
    if not all(map(math.isfinite, _all_numbers(found))):
        raise OverflowError("a number of the anatomy is not finite")
    return found


def _dissect(
    params: Parameters, config: GPTConfig, tokens: Sequence[int], kind: Callable[[float], Scalar]
) -> Anatomy:
    leaves = {
        name: [[kind(number) for number in row] for row in matrix]
        for name, matrix in params.items()
    }
    watcher = _Watcher()
    losses = position_losses(leaves, config, tokens, watcher.forward)
    loss = (1 / len(losses)) * add_up(losses)  # as document_loss does
    if kind is Value:
        loss.backward()
    positions = (
        Position(token, target, tuple(softmax(seen.logits)), _number(lost), *seen.rest(config))
        for token, target, lost, seen in zip(tokens, tokens[1:], losses, watcher.seen, strict=False)
    )
    return Anatomy(
        tuple(positions),
        _number(loss),
        tuple(part for part, _ in watcher.seen[0].states),
        _tensor_gradients(leaves) if kind is Value else None,
        len(losses) < len(tokens) - 1,
    )


class _Seen:
    """Of one position, in plain numbers: attention head by head, hidden states part by part."""

    def __init__(self) -> None:
        self.heads: list[Attention] = []
        self.states: list[tuple[str, float]] = []
        self.logits: list[float] = []

    def attend(self, q: Sequence[Scalar], k: Sequence[Any], v: Sequence[Any]) -> list[Scalar]:
        """What ``attention`` does, after a look at its weights."""
        self.heads.append(tuple(attention_weights(_numbers(q), [_numbers(key) for key in k])))
        return attention(q, k, v)

    def watch(self, part: str, state: Sequence[Scalar]) -> None:
        """Measure a hidden state."""
        self.states.append((part, math.hypot(*_numbers(state))))

    def rest(
        self, config: GPTConfig
    ) -> tuple[tuple[tuple[Attention, ...], ...], tuple[float, ...]]:
        """Attention by layers and heads, and the norms."""
        starts = range(0, len(self.heads), config.n_head)
        layers = tuple(tuple(self.heads[at : at + config.n_head]) for at in starts)
        return layers, tuple(norm for _, norm in self.states)


class _Watcher:
    """Runs the model, and keeps what it sees of each position."""

    def __init__(self) -> None:
        self.seen: list[_Seen] = []

    def forward(
        self,
        params: Parameters,
        config: GPTConfig,
        token: Any,
        position: int,
        keys: list[list[list[Scalar]]],
        values: list[list[list[Scalar]]],
    ) -> list[Scalar]:
        """What ``gpt`` does."""
        seen = _Seen()
        logits = gpt(
            params, config, token, position, keys, values, attend=seen.attend, watch=seen.watch
        )
        seen.logits = _numbers(logits)
        self.seen.append(seen)
        return logits


def _all_numbers(found: Anatomy) -> Iterator[float]:
    for position in found.positions:
        yield from (position.loss, *position.probabilities, *position.norms)
        for heads in position.attention:
            for head in heads:
                yield from head
    yield from (tensor.norm for tensor in found.gradients or ())


def _number(scalar: Scalar) -> float:
    number: float = scalar.data if isinstance(scalar, Value) else scalar
    return number


def _numbers(scalars: Sequence[Scalar]) -> list[float]:
    return [_number(scalar) for scalar in scalars]


def _tensor_gradients(leaves: Parameters) -> tuple[TensorGradient, ...]:
    norms = {
        name: math.hypot(*(leaf.grad for row in matrix for leaf in row))
        for name, matrix in leaves.items()
    }
    whole = math.hypot(*norms.values())
    return tuple(
        TensorGradient(
            name, len(matrix), len(matrix[0]), norms[name], (norms[name] / (whole or 1.0)) ** 2
        )
        for name, matrix in leaves.items()
    )
