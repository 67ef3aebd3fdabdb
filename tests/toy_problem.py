"""A problem whose every number a test can calculate: each document pulls the weights to a point.

loss(w, document) = 1/2 * |w - point(document)|^2 / len(w);  gradient = (w - point) / len(w)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.engine.base import ShardGradient
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import num_params
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.training import TrainingState, initial_state
from tests.processes import NAMES

CORPUS = Corpus(NAMES, 42)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, n_embd=2, n_head=1, block_size=64)
SIZE = num_params(parameter_shapes(MODEL))


def point(document: Sequence[int]) -> Vector:
    """(SIZE,) where a document pulls the weights to; another one for each name."""
    seed = sum((place + 1) * token for place, token in enumerate(document))
    return np.random.default_rng(seed).uniform(-1.0, 1.0, SIZE)


class Pull:
    """The engine of the problem."""

    name = "pull"

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """Losses, and the tree sum of the gradients."""
        each = [(params - point(document)) / SIZE for document in documents]
        return ShardGradient(self.losses(params, documents), tree_sum(each))

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """Losses of the documents."""
        return tuple(
            0.5 * float(np.sum((params - point(document)) ** 2)) / SIZE for document in documents
        )


def settings(steps: int, batch_size: int, **distribution: object) -> TrainingConfig:
    """A training on the problem; ``distribution``: fields of it."""
    how = Distribution(**distribution)  # type: ignore[arg-type]  # as the test says
    return TrainingConfig(MODEL, steps=steps, batch_size=batch_size, distribution=how)


def train(
    strategy: Strategy, config: TrainingConfig, corpus: Corpus = CORPUS
) -> list[TrainingState]:
    """All states of the serial runner."""
    return list(serial.run(strategy, config, corpus, initial_state(config, corpus), Pull()))


def start(config: TrainingConfig) -> Vector:
    """(SIZE,) the weights before the first step."""
    return initial_state(config, CORPUS).params


def mean_gradient(params: Vector, first: int, count: int) -> Vector:
    """Of ``count`` documents from place ``first``, added up by NumPy."""
    points = np.array([point(document) for document in CORPUS.documents(first, count)])
    gradient: Vector = ((params - points) / SIZE).mean(axis=0)
    return gradient


def close(ours: Vector, theirs: Vector) -> bool:
    """Equal but for the rounding of sums of a few dozen numbers of about one."""
    return bool(np.allclose(ours, theirs, rtol=0.0, atol=1e-12))


def same_bits(ours: Sequence[TrainingState], theirs: Sequence[TrainingState]) -> bool:
    """Whether two runs have had the same weights and losses after every step."""
    return [(a.step, a.params.tobytes(), a.losses, a.next_document) for a in ours] == [
        (b.step, b.params.tobytes(), b.losses, b.next_document) for b in theirs
    ]
