"""What a replica does with its documents, wherever that is: in one process or at a worker.

    gradient:     v = sum of the gradients of the documents
    local steps:  theta_i <- InnerOptimizer(theta_i, mean gradient of the next documents), H times,
                  from theta_i = theta; v = theta - theta_i (local SGD, DiLoCo: arXiv 2311.08105)
    elastic:      the same from the replica's own theta_i; then v = alpha * (theta - theta_i) and
                  theta_i <- theta_i + v (elastic averaging: Zhang, Choromanska, LeCun 2015)

Then ``v`` may be compressed, with what has been left out so far added to it (error feedback). What
the coordinator gets is the decompressed ``v``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

from microgpt.compression import feedback
from microgpt.compression.base import CompressionError, Compressor
from microgpt.numerics.vectors import Vector, all_finite
from microgpt.optim.optimizer import Optimizer
from microgpt.parameters import Shapes, num_params
from microgpt.replicas.state import Assignment, ReplicaState
from microgpt.support.user_class import OwnCodeError, blamed

#: The names under which a replica keeps what is not an optimizer's or a compressor's.
WEIGHTS, RESIDUAL = "weights", "residual"
INNER, COMPRESS = "inner.", "compress."

#: What a liar makes of a vector of so many documents: see ``microgpt.replicas.byzantine``.
Lie: TypeAlias = Callable[[Vector, int], Vector]


class ReplicaStateError(ValueError):
    """A replica is not in the state that a task begins with: something has been missed."""


class ReplicaOverflowError(ArithmeticError):
    """A number of a replica is not finite after a task; the message says which."""


class Gradients(Protocol):
    """What an engine gives: see ``microgpt.engine.base.ShardGradient``."""

    @property
    def losses(self) -> Sequence[float]: ...  # noqa: D102  # as said above

    @property
    def gradient(self) -> Vector: ...  # noqa: D102  # as said above


class Computes(Protocol):
    """The part of ``microgpt.engine.base.Engine`` that is needed here."""

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]], /) -> Gradients:
        """Losses and summed gradient of the documents."""
        ...

    def losses(self, params: Vector, documents: Sequence[Sequence[int]], /) -> Sequence[float]:
        """Losses of the documents."""
        ...


@dataclass(frozen=True)
class Recipe:
    """What all replicas of a run have in common.

    ``inner``: the optimizer of local steps. ``compressor``: None for vectors as they are. ``seed``:
    of the run.
    """

    inner: Optimizer
    compressor: Compressor | None = None
    error_feedback: bool = True
    seed: int = 42

    def keeps_state(self, assignment: Assignment) -> bool:
        """Whether a replica with such work is another one after it."""
        return bool(self.layout(assignment, {"w": (2, 2)}))

    def layout(self, assignment: Assignment, shapes: Shapes) -> dict[str, int]:
        """How many numbers a replica keeps under which name after a task like this."""
        size = num_params(shapes)
        kept: dict[str, int] = {}
        if assignment.steps:
            with blamed("optimizer", self.inner, "init"):
                kept |= {INNER + name: len(x) for name, x in self.inner.init(size).items()}
        if assignment.elastic:
            kept[WEIGHTS] = size
        if self.compressor is not None:
            with blamed("compressor", self.compressor, "init"):
                slots = self.compressor.init(shapes)
                kept |= {COMPRESS + name: len(x) for name, x in slots.items()}
            if self.error_feedback:
                kept[RESIDUAL] = size
        return kept

    def may_keep(self, vectors: Mapping[str, Vector], shapes: Shapes) -> bool:
        """Whether a replica may be in such a state, after some kind of task or before the first."""
        sizes = {name: len(vector) for name, vector in vectors.items()}
        kinds = [Assignment(0, 0, 0, steps, far) for steps in (0, 1) for far in (0.0, 1.0)]
        return sizes in ({}, *(self.layout(kind, shapes) for kind in kinds))


@dataclass(frozen=True)
class Done:
    """What came of a task.

    ``losses``: (num_documents,) float64, in nats. ``vector``: (num_params,) float64, as the
    coordinator gets it; ``payload`` is what travels instead where it is compressed. ``state``: the
    replica after the task.
    """

    losses: Vector
    vector: Vector
    payload: bytes | None
    state: ReplicaState


def seed_of(seed: int, replica: int, clock: int) -> int:
    """The seed of what is drawn in one task of one replica."""
    digest = hashlib.sha256(f"{seed} replica {replica} clock {clock}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def compute(
    recipe: Recipe,
    assignment: Assignment,
    shapes: Shapes,
    params: Vector,
    documents: Sequence[Sequence[int]],
    state: ReplicaState,
    engine: Computes,
    lie: Lie | None = None,
) -> Done:
    """Do a task with the global weights ``params`` as a replica in ``state``.

    ``lie``: what makes of the vector what is sent, where it is not the truth.
    Raises ReplicaStateError if the state is not the one before the task, ValueError if there are
    fewer documents than steps, ReplicaOverflowError if a number is not finite after it,
    OwnCodeError for what an optimizer or a compressor does wrong, and what the engine raises.
    """
    if state.clock != assignment.clock and recipe.keeps_state(assignment):
        raise ReplicaStateError(
            f"replica {assignment.replica} has done {state.clock} tasks, not {assignment.clock}"
        )
    kept = dict(state.vectors)
    with np.errstate(over="ignore", invalid="ignore"):
        if assignment.steps:
            losses, vector = _local_steps(recipe, assignment, params, documents, kept, engine)
        else:
            given = engine.gradients(params, documents)
            losses, vector = np.asarray(given.losses, np.float64), given.gradient
        if lie is not None:
            vector = lie(vector, len(documents))
        payload = None
        if recipe.compressor is not None:
            _require_finite(vector)
            payload, vector = _compress(recipe, recipe.compressor, assignment, shapes, vector, kept)
    for numbers in (vector, *kept.values()):
        _require_finite(numbers)
    return Done(losses, vector, payload, ReplicaState(assignment.clock + 1, kept))


def _require_finite(numbers: Vector) -> None:
    if not all_finite(numbers):
        raise ReplicaOverflowError("a weight of a replica becomes infinite")


def _local_steps(
    recipe: Recipe,
    assignment: Assignment,
    params: Vector,
    documents: Sequence[Sequence[int]],
    kept: dict[str, Vector],
    engine: Computes,
) -> tuple[Vector, Vector]:
    """Losses of all documents, and how far the global weights are to come; ``kept`` is changed."""
    steps = assignment.steps
    if len(documents) < steps:
        raise ValueError(f"{len(documents)} documents are too few for {steps} steps")
    own = kept.get(WEIGHTS, params) if assignment.elastic else params
    slots: Mapping[str, Vector] = {
        name.removeprefix(INNER): kept[name] for name in kept if name.startswith(INNER)
    } or recipe.inner.init(len(params))
    losses: list[float] = []
    for step in range(steps):
        first, end = (place * len(documents) // steps for place in (step, step + 1))
        given = _gradients(engine, own, documents, first, end - first)
        losses.extend(given.losses)
        done = assignment.version + step / steps  # updates of the global weights, and a share
        rate = recipe.inner.learning_rate * max(0.0, 1 - done / assignment.updates)
        gradient = (1 / (end - first)) * given.gradient
        before = assignment.clock * steps + step
        with blamed("optimizer", recipe.inner, "update"):
            own, slots = recipe.inner.update(own, gradient, slots, before, rate)
            _require_vector(own, len(params))
    with blamed("optimizer", recipe.inner, "update"):
        kept |= _kept(INNER, slots)
    vector = params - own
    if assignment.elastic:
        vector = assignment.elastic * vector
        kept[WEIGHTS] = own + vector
    return np.asarray(losses, np.float64), vector


def _gradients(
    engine: Computes,
    params: Vector,
    documents: Sequence[Sequence[int]],
    first: int,
    count: int,
) -> Gradients:
    """Of some of the documents. An error names the place among all of them."""
    try:
        return engine.gradients(params, documents[first : first + count])
    except ArithmeticError as error:
        if hasattr(error, "document"):
            error.document += first
        raise


def _compress(
    recipe: Recipe,
    compressor: Compressor,
    assignment: Assignment,
    shapes: Shapes,
    vector: Vector,
    kept: dict[str, Vector],
) -> tuple[bytes, Vector]:
    """What travels, and what it comes to; ``kept`` is changed."""
    slots: Mapping[str, Vector] = {
        name.removeprefix(COMPRESS): kept[name] for name in kept if name.startswith(COMPRESS)
    } or compressor.init(shapes)
    residual = None
    if recipe.error_feedback:
        residual = kept.get(RESIDUAL, np.zeros(len(vector)))
    seed = seed_of(recipe.seed, assignment.replica, assignment.clock)
    try:
        sent = feedback.compress(compressor, vector, shapes, residual, slots, seed)
    except CompressionError as error:
        if residual is None or all_finite(vector + residual):
            raise OwnCodeError(f"compressor {type(compressor).__name__}: {error}") from error
        raise ReplicaOverflowError(str(error)) from error
    with blamed("compressor", compressor, "compress"):
        kept |= _kept(COMPRESS, sent.slots)
    if sent.residual is not None:
        kept[RESIDUAL] = sent.residual
    return sent.payload, sent.sent


def _kept(prefix: str, slots: Mapping[str, Vector]) -> dict[str, Vector]:
    """What an optimizer or a compressor keeps, by the names of a replica's state."""
    for slot in slots.values():
        _require_vector(slot, len(slot))
    return {prefix + name: slot for name, slot in slots.items()}


def _require_vector(made: object, length: int) -> None:
    if not isinstance(made, np.ndarray) or (made.dtype, made.shape) != (np.float64, (length,)):
        raise TypeError(f"it gives no vector of {length} float64 numbers")


def check_state(vectors: Mapping[str, Any], layout: Mapping[str, int]) -> None:
    """Raise ValueError unless these are finite vectors of just these names and lengths."""
    if vectors.keys() != layout.keys():
        raise ValueError("the state of a replica has missing or unknown parts")
    for name, length in layout.items():
        if len(vectors[name]) != length:
            raise ValueError(f"part {name!r} of a replica's state has not {length} numbers")
        if not all_finite(vectors[name]):
            raise ValueError(f"part {name!r} of a replica's state is not finite")
