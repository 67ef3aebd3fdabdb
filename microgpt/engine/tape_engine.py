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
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import Shapes

Result = TypeVar("Result")

#: Documents replayed together: of many, sorted by length, more end together in a block's lanes; but
#: what is packed of them should not take much more room than the caches of a core have.
FEW, MANY, MANY_BYTES = 32, 64, 3_000_000


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
        num_bytes = 8 * MANY * len(self._program.weights.pack)
        chunk = MANY if num_bytes <= MANY_BYTES else FEW
        self._state = ReplayState(self._program, config.vocab_size, chunk)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compile the kernels, which takes some seconds, or load what was compiled before.

        ``microgpt.support.stages`` tells how far that is.
        """
        if isinstance(replay_shard, jit.Entry):
            replay_shard.title = "the kernels of the tape engine"
        self.gradients(np.zeros(self._program.num_params), [[0, 0]])

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]]) -> ShardGradient:
        """See ``Engine.gradients``.

        Raises ValueError for no documents, tokens outside the vocabulary or a wrong number of
        parameters.
        """
        packed = self._checked(params, documents)
        result = self._gradients(params, packed)
        if result is None:
            parts = list(_one_by_one(params, packed, self._gradients, self._scalar.gradients))
            losses = tuple(part.losses[0] for part in parts)
            result = ShardGradient(losses, tree_sum([part.gradient for part in parts]))
        return result

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """See ``Engine.losses``. Raises ValueError for the same as ``gradients``."""
        packed = self._checked(params, documents)
        result = self._losses(params, packed)
        if result is None:
            parts = _one_by_one(params, packed, self._losses, self._scalar.losses)
            result = tuple(loss for (loss,) in parts)
        return result

    def _checked(self, params: Vector, documents: Sequence[Sequence[int]]) -> PackedDocuments:
        if params.shape != (self._program.num_params,):
            raise ValueError(
                f"the model has {self._program.num_params} parameters, not {params.shape}"
            )
        if not len(documents):
            raise ValueError("a shard has at least one document")
        return PackedDocuments.pack(documents)

    def _gradients(self, params: Vector, documents: PackedDocuments) -> ShardGradient | None:
        with self._lock:
            losses = self._replay(params, documents, True)
            if losses is None:
                return None
            return ShardGradient(losses, self._state.gradient.copy())

    def _losses(self, params: Vector, documents: PackedDocuments) -> tuple[float, ...] | None:
        with self._lock:
            return self._replay(params, documents, False)

    def _replay(
        self, params: Vector, documents: PackedDocuments, gradient: bool
    ) -> tuple[float, ...] | None:
        """The losses; None if some number on the way, needed or not, was not finite.

        Leaves the gradient in the state, if it is wanted: else forward is all.
        """
        state, num_tokens, count = self._state, len(documents.tokens), len(documents.lengths)
        state.make_room(count, num_tokens)
        state.params[:] = params
        state.tokens[:num_tokens] = documents.tokens
        state.sizes[:count] = documents.lengths
        bad = replay_shard(state.address, num_tokens, count, int(gradient))
        if bad < 0:
            self._complain(documents, bad)
        return None if bad else tuple(state.losses[:count].tolist())

    def _complain(self, documents: PackedDocuments, wrong: int) -> None:
        if wrong == TOO_SHORT:
            num_positions(self.config, documents[int(documents.lengths.argmin())])  # raises
        if wrong == WRONG_TOKEN:
            raise ValueError(f"tokens lie between 0 and {self.config.vocab_size - 1}")
        raise ValueError("the lengths of the documents do not add up to their tokens")


def _one_by_one(
    params: Vector,
    documents: PackedDocuments,
    quickly: Callable[[Vector, PackedDocuments], Result | None],
    surely: Callable[[Vector, Sequence[Sequence[int]]], Result],
) -> Iterator[Result]:
    """Each document by itself, so that no lane goes on after its document has ended.

    What is still not finite is judged by the scalar engine, which has the last word.
    """
    for index in range(len(documents)):
        one = documents[index : index + 1]
        part = quickly(params, one)
        if part is None:
            try:
                part = surely(params, one)
            except NonFiniteError as error:
                raise NonFiniteError(index, error.reason) from error
        yield part
