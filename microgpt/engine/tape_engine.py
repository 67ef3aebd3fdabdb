"""The tape engine: ``model.py`` is recorded once and replayed over many documents at once.

Each document is one SIMD lane, so its own operations keep their order and its results their bits:
those of the scalar engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from microgpt.data.packed import PackedDocuments
from microgpt.engine.base import NonFiniteError, ShardGradient
from microgpt.engine.fuse import fuse
from microgpt.engine.kernels_shard import TOO_SHORT, WRONG_TOKEN, replay_shard
from microgpt.engine.program import compile_tape
from microgpt.engine.program_cache import recorded
from microgpt.engine.replay_state import ReplayState
from microgpt.engine.scalar import ScalarEngine
from microgpt.engine.tracer import record
from microgpt.model import Forward, GPTConfig, gpt, num_positions, parameter_shapes
from microgpt.numerics import jit
from microgpt.numerics.jit import address
from microgpt.numerics.vectors import Vector, for_kernels
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import Shapes

Result = TypeVar("Result")

#: Documents replayed together, a power of two: their packed numbers should fit the L2 cache.
CHUNK = 32


class TapeEngine:
    """Replays a recording of the model. ``forward`` and ``shapes`` may describe another model.

    Any number of threads may use one engine; they take turns.
    """

    name = "tape"

    def __init__(
        self, config: GPTConfig, forward: Forward = gpt, shapes: Shapes | None = None
    ) -> None:
        self.config = config
        self.shapes = parameter_shapes(config) if shapes is None else shapes
        self._scalar = ScalarEngine(config, forward, self.shapes)
        if forward is gpt and shapes is None:
            self._program = recorded(config)
        else:
            self._program = compile_tape(fuse(record(config, forward, self.shapes)))
        self._state = ReplayState(self._program, config.vocab_size, CHUNK)
        self._state_address = address(self._state.fields)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compile the kernels, which takes some seconds, or load what was compiled before.

        ``microgpt.support.stages`` tells how far that is.
        """
        if isinstance(replay_shard, jit.Entry):
            replay_shard.title = "the kernels of the tape engine"
        self._gradients(np.zeros(self._program.num_params), [[0, 0]])

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """See ``Engine.gradients``.

        Raises ValueError for no documents, tokens outside the vocabulary or a wrong number of
        parameters.
        """
        params = self._checked(params, documents)
        result = self._gradients(params, documents)
        if result is None:
            parts = list(_one_by_one(params, documents, self._gradients, self._scalar.gradients))
            losses = tuple(part.losses[0] for part in parts)
            result = ShardGradient(losses, tree_sum([part.gradient for part in parts]))
        return result

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """See ``Engine.losses``. Raises ValueError for the same as ``gradients``."""
        params = self._checked(params, documents)
        result = self._losses(params, documents)
        if result is None:
            parts = _one_by_one(params, documents, self._losses, self._scalar.losses)
            result = tuple(loss for (loss,) in parts)
        return result

    def _checked(self, params: Vector, documents: Sequence[Sequence[int]]) -> Vector:
        params = for_kernels(params)
        if params.shape != (self._program.num_params,):
            raise ValueError(
                f"the model has {self._program.num_params} parameters, not {params.shape}"
            )
        if not len(documents):
            raise ValueError("a shard has at least one document")
        return params

    def _gradients(
        self, params: Vector, documents: Sequence[Sequence[int]]
    ) -> ShardGradient | None:
        gradient = np.zeros(len(params))
        losses = self._replay(params, documents, gradient)
        return None if losses is None else ShardGradient(losses, gradient)

    def _losses(
        self, params: Vector, documents: Sequence[Sequence[int]]
    ) -> tuple[float, ...] | None:
        return self._replay(params, documents, np.empty(0))

    def _replay(
        self, params: Vector, documents: Sequence[Sequence[int]], gradient: Vector
    ) -> tuple[float, ...] | None:
        """The losses; None if some number on the way, needed or not, was not finite.

        Fills ``gradient``, if it is not empty: then forward is all.
        """
        packed = PackedDocuments.pack(documents)
        count = len(packed.lengths)
        losses = np.empty(count)
        with self._lock:
            self._state.make_room(count)
            bad = replay_shard(
                self._state_address,
                address(params),
                address(packed.tokens),
                len(packed.tokens),
                address(packed.lengths),
                count,
                address(losses),
                address(gradient) if len(gradient) else 0,
            )
        if bad < 0:
            self._complain(packed, bad)
        return None if bad else tuple(losses.tolist())

    def _complain(self, documents: PackedDocuments, wrong: int) -> None:
        if wrong == TOO_SHORT:
            num_positions(self.config, documents[int(documents.lengths.argmin())])  # raises
        if wrong == WRONG_TOKEN:
            raise ValueError(f"tokens lie between 0 and {self.config.vocab_size - 1}")
        raise ValueError("the lengths of the documents do not add up to their tokens")


def _one_by_one(
    params: Vector,
    documents: Sequence[Sequence[int]],
    quickly: Callable[[Vector, Sequence[Sequence[int]]], Result | None],
    surely: Callable[[Vector, Sequence[Sequence[int]]], Result],
) -> Iterator[Result]:
    """Each document by itself, so that no lane goes on after its document has ended.

    What is still not finite is judged by the scalar engine, which has the last word.
    """
    for index, document in enumerate(documents):
        part = quickly(params, [document])
        if part is None:
            try:
                part = surely(params, [document])
            except NonFiniteError as error:
                raise NonFiniteError(index, error.reason) from error
        yield part
