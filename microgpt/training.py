"""The arithmetic of a training run, step by step: what the gradient of a batch does.

Pure: whoever computes the gradients (one engine in this process, or workers on many hosts) gets
the same states from here. Arrays are never changed in place, so a state is a snapshot for free.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from microgpt.checkpoint.format import Checkpoint, RngState
from microgpt.checkpoint.format import Validation as Validation
from microgpt.checkpoint.replicas import Distributed, SavedReplica, SavedTask
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.packed import PackedDocuments
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import (
    Vector,
    tree_sum_of,
    vector_from_bytes,
    vector_to_bytes,
)
from microgpt.optim import adam
from microgpt.optim.adam import AdamState, learning_rate
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import init_parameters
from microgpt.replicas.state import Assignment, PastTask, ReplicaLog, ReplicaState
from microgpt.tokenizer import Tokenizer

#: Weights times steps up to which loading compiled code would take longer than all of plain Adam.
PLAIN_ADAM = 300_000
RECENT_LOSSES = 100  # kept in the state for a running mean that survives a restart


@dataclass(frozen=True)
class TrainingState:
    """After ``step`` updates: weights and Adam's means, (num_params,) float64 each.

    ``next_document``: how many documents closed rounds have used up, which is where the next one
    begins. ``validation`` is the newest loss over the held-out documents; it decides nothing.
    ``slots``: what a strategy keeps beside, float64 vectors by name. ``replicas``: what is known of
    them, where this state is to be gone on from. ``learning_rate``: see ``base_rate``.
    """

    step: int
    params: Vector
    m: Vector
    v: Vector
    rng_state: RngState
    losses: tuple[float, ...] = ()
    validation: Validation | None = None
    next_document: int = 0
    slots: Mapping[str, Vector] = field(default_factory=dict)
    replicas: tuple[ReplicaLog, ...] = ()
    learning_rate: float | None = None


def validation_loss(losses: Sequence[float]) -> float:
    """Mean of the losses of held-out documents, summed as those of a batch are."""
    return (1 / len(losses)) * tree_sum(losses)


def initial_state(config: TrainingConfig, corpus: Corpus) -> TrainingState:
    """Weights drawn from the generator that shuffled the corpus, as microgpt.py does."""
    rng = random.Random()
    rng.setstate(corpus.rng.getstate())
    params = np.array(init_parameters(parameter_shapes(config.model), rng))
    zeros = np.zeros_like(params)
    version, words, gauss_next = rng.getstate()
    return TrainingState(0, params, zeros, zeros, (version, words, gauss_next))


def advance(
    config: TrainingConfig,
    state: TrainingState,
    gradient_sum: Vector,
    losses: Sequence[float] | Vector,
) -> TrainingState:
    """The state after one more step, whose loss is the new state's ``losses[-1]``.

    ``gradient_sum``: (num_params,) tree sum over the batch's documents; ``losses``: one for each.
    """
    gradient = (1 / config.batch_size) * gradient_sum
    loss = (1 / config.batch_size) * tree_sum_of(np.asarray(losses, np.float64))
    return adam_step(config, state, gradient, loss)


def adam_step(
    config: TrainingConfig,
    state: TrainingState,
    gradient: Vector,
    loss: float,
    damping: float = 1.0,
) -> TrainingState:
    """The state after Adam's step along a mean gradient, (num_params,); one batch is used up.

    The learning rate in force is multiplied by ``damping``.
    """
    base = base_rate(state, config.adam.learning_rate) * damping
    if base != config.adam.learning_rate:
        config = replace(config, adam=replace(config.adam, learning_rate=base))
    params, m, v = _adam(config, state, gradient)
    recent = (*state.losses, loss)[-RECENT_LOSSES:]
    used = state.next_document + config.batch_size
    return TrainingState(
        state.step + 1, params, m, v, state.rng_state, recent, state.validation, used, state.slots,
        learning_rate=state.learning_rate,
    )  # fmt: skip


def _adam(
    config: TrainingConfig, state: TrainingState, gradient: Vector
) -> tuple[Vector, Vector, Vector]:
    """New weights, m and v: with compiled code, or without it where there is little to do."""
    if len(gradient) * config.steps <= PLAIN_ADAM:
        params, g, m, v = (x.tolist() for x in (state.params, gradient, state.m, state.v))
        with suppress(OverflowError):  # compiled code goes on with infinity instead
            plain, after = adam.update(
                config.adam, params, g, AdamState(m, v), state.step, config.steps
            )
            return np.array(plain), np.array(after.m), np.array(after.v)
    from microgpt.optim import adam_compiled

    before = AdamState(state.m, state.v)  # type: ignore[arg-type]  # vectors are sequences
    new, after = adam_compiled.update(
        config.adam, state.params, gradient, before, state.step, config.steps
    )
    return new, np.asarray(after.m), np.asarray(after.v)


def base_rate(state: TrainingState, usual: float) -> float:
    """The learning rate that falls linearly to zero over the run.

    ``usual``: the one that the run began with, which holds unless somebody has changed it since.
    It is that of the optimizer which moves the global weights.
    """
    return usual if state.learning_rate is None else state.learning_rate


def last_rate(config: TrainingConfig, after: TrainingState) -> float:
    """Learning rate of the step that has led to the state ``after``."""
    adam = replace(config.adam, learning_rate=base_rate(after, config.adam.learning_rate))
    return learning_rate(adam, after.step - 1, config.steps)


def count_tokens(config: TrainingConfig, documents: Sequence[Sequence[int]]) -> int:
    """How many next-token predictions the documents give."""
    lengths = PackedDocuments.pack(documents).lengths
    return int(np.add.reduce(np.minimum(lengths - 1, config.model.block_size)))


def to_checkpoint(
    config: TrainingConfig,
    state: TrainingState,
    tokenizer: Tokenizer,
    data: Mapping[str, str | int],
    run: str,
) -> Checkpoint:
    """The state as a checkpoint that can be saved."""
    weights, m, v = (vector_to_bytes(vector) for vector in (state.params, state.m, state.v))
    past = {t.assignment.version: t.params for log in state.replicas for t in log.since}
    distributed = Distributed(
        {name: vector_to_bytes(slot) for name, slot in state.slots.items()},
        tuple(map(_to_saved, state.replicas)),
        {version: vector_to_bytes(params) for version, params in past.items()},
    )
    return Checkpoint(
        config, tokenizer, data, run, state.step, weights, m, v, state.rng_state,
        state.losses, state.validation, next_document=state.next_document,
        distributed=distributed, learning_rate=state.learning_rate,
    )  # fmt: skip


def _to_saved(log: ReplicaLog) -> SavedReplica:
    vectors = {name: vector_to_bytes(x) for name, x in log.snapshot.vectors.items()}
    since = tuple(
        SavedTask(a.version, t.first, t.count, a.steps, a.elastic, a.updates)
        for t in log.since
        for a in [t.assignment]
    )
    return SavedReplica(log.replica, log.snapshot.clock, vectors, since)


def _from_saved(saved: SavedReplica, past: Mapping[int, bytes]) -> ReplicaLog:
    vectors = {name: vector_from_bytes(part) for name, part in saved.vectors.items()}
    since = []
    for clock, task in enumerate(saved.since, saved.clock):
        work = Assignment(
            saved.replica, clock, task.version, task.steps, task.elastic, task.updates
        )
        params = vector_from_bytes(past[task.version])
        since.append(PastTask(work, task.first, task.count, params))
    return ReplicaLog(saved.replica, ReplicaState(saved.clock, vectors), tuple(since))


def from_checkpoint(checkpoint: Checkpoint) -> TrainingState:
    """The state that a checkpoint holds."""
    params, m, v = (
        vector_from_bytes(part)
        for part in (checkpoint.weights, checkpoint.adam_m, checkpoint.adam_v)
    )
    return TrainingState(
        checkpoint.step, params, m, v, checkpoint.rng_state, checkpoint.losses,
        checkpoint.validation, checkpoint.next_document,
        {name: vector_from_bytes(x) for name, x in checkpoint.distributed.slots.items()},
        tuple(
            _from_saved(saved, checkpoint.distributed.past_weights)
            for saved in checkpoint.distributed.replicas
        ),
        checkpoint.learning_rate,
    )  # fmt: skip
