"""The arithmetic of a training run, step by step: which documents, and what their gradient does.

Pure: whoever computes the gradients (one engine in this process, or workers on many hosts) gets
the same states from here. Arrays are never changed in place, so a state is a snapshot for free.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.adam import AdamState, learning_rate
from microgpt.checkpoint import Checkpoint, RngState
from microgpt.config import TrainingConfig
from microgpt.fast_adam import update
from microgpt.model import num_positions, parameter_shapes
from microgpt.parameters import init_parameters
from microgpt.reduction import tree_sum
from microgpt.tokenizer import Tokenizer
from microgpt.vectors import Vector, vector_from_bytes, vector_to_bytes

RECENT_LOSSES = 100  # kept in the state for a running mean that survives a restart


@dataclass(frozen=True)
class TrainingState:
    """After ``step`` updates: weights and Adam's means, (num_params,) float64 each."""

    step: int
    params: Vector
    m: Vector
    v: Vector
    rng_state: RngState
    losses: tuple[float, ...] = ()


class Corpus:
    """The documents of a run in the order of the seed, as token ids (BOS at both ends)."""

    def __init__(self, documents: Sequence[str], seed: int) -> None:
        self.tokenizer = Tokenizer.from_documents(documents)
        self.rng = random.Random(seed)
        shuffled = list(documents)
        self.rng.shuffle(shuffled)
        self._documents = [self.tokenizer.encode(document) for document in shuffled]

    def __len__(self) -> int:
        return len(self._documents)

    def batch(self, step: int, batch_size: int) -> list[list[int]]:
        """Documents of step ``step`` (from 0), in the order in which they are summed."""
        first = step * batch_size
        count = len(self._documents)
        return [self._documents[i % count] for i in range(first, first + batch_size)]


def initial_state(config: TrainingConfig, corpus: Corpus) -> TrainingState:
    """Weights drawn from the generator that shuffled the corpus, as microgpt.py does."""
    rng = random.Random()
    rng.setstate(corpus.rng.getstate())
    params = np.array(init_parameters(parameter_shapes(config.model), rng))
    zeros = np.zeros_like(params)
    version, words, gauss_next = rng.getstate()
    return TrainingState(0, params, zeros, zeros, (version, words, gauss_next))


def advance(
    config: TrainingConfig, state: TrainingState, gradient_sum: Vector, losses: Sequence[float]
) -> TrainingState:
    """The state after one more step, whose loss is the new state's ``losses[-1]``.

    ``gradient_sum``: (num_params,) tree sum over the batch's documents; ``losses``: one for each.
    """
    gradient = (1 / config.batch_size) * gradient_sum
    loss = (1 / config.batch_size) * tree_sum(losses)
    before = AdamState(state.m, state.v)  # type: ignore[arg-type]  # vectors are sequences
    params, after = update(config.adam, state.params, gradient, before, state.step, config.steps)
    m, v = np.asarray(after.m), np.asarray(after.v)
    recent = (*state.losses, loss)[-RECENT_LOSSES:]
    return TrainingState(state.step + 1, params, m, v, state.rng_state, recent)


def rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of step ``step`` (from 0)."""
    return learning_rate(config.adam, step, config.steps)


def count_tokens(config: TrainingConfig, documents: Sequence[Sequence[int]]) -> int:
    """How many next-token predictions the documents give."""
    return sum(num_positions(config.model, document) for document in documents)


def to_checkpoint(
    config: TrainingConfig,
    state: TrainingState,
    tokenizer: Tokenizer,
    data: Mapping[str, str | int],
    run: str,
) -> Checkpoint:
    """The state as a checkpoint that can be saved."""
    weights, m, v = (vector_to_bytes(vector) for vector in (state.params, state.m, state.v))
    return Checkpoint(
        config, tokenizer, data, run, state.step, weights, m, v, state.rng_state, state.losses
    )


def from_checkpoint(checkpoint: Checkpoint) -> TrainingState:
    """The state that a checkpoint holds."""
    params, m, v = (
        vector_from_bytes(part)
        for part in (checkpoint.weights, checkpoint.adam_m, checkpoint.adam_v)
    )
    return TrainingState(checkpoint.step, params, m, v, checkpoint.rng_state, checkpoint.losses)
