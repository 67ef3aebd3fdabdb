"""The tape engine: ``model.py`` is recorded once and replayed over many documents at once.

Each document is one SIMD lane, so its own operations keep their order and its results their bits:
those of the scalar engine.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.base import NonFiniteError, ShardGradient
from microgpt.engine.fuse import fuse
from microgpt.engine.kernels_shard import replay_shard
from microgpt.engine.program import Program, compile_tape
from microgpt.engine.program_cache import recorded
from microgpt.engine.scalar import ScalarEngine
from microgpt.engine.tracer import record
from microgpt.model import Forward, GPTConfig, gpt, num_positions, parameter_shapes
from microgpt.numerics import jit
from microgpt.numerics.vectors import Vector, for_kernels
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import Shapes

Ints: TypeAlias = NDArray[np.int32]
Result = TypeVar("Result")

#: Documents replayed together, a power of two: their packed numbers should fit the L2 cache.
CHUNK = 32
#: Functions that numba compiles for ``replay_shard``, counted once.
KERNELS = 88


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
        self._buffers = _Buffers(self._program, config.vocab_size)
        self._lock = threading.Lock()

    def warm_up(self) -> None:
        """Compile the kernels, which takes about half a minute, or load what was compiled before.

        ``microgpt.support.stages`` tells how far that is.
        """
        if isinstance(replay_shard, jit.Entry):
            replay_shard.title = "the kernels of the tape engine"
            replay_shard.kernels = KERNELS
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
        if not documents:
            raise ValueError("a shard has at least one document")
        return params

    def _gradients(
        self, params: Vector, documents: Sequence[Sequence[int]]
    ) -> ShardGradient | None:
        gradient = np.empty(len(params))
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
        losses = np.empty(len(documents))
        tables = self._tokens(documents)
        with self._lock:
            bad = self._buffers.replay(params, *tables, losses, gradient)
        if bad < 0:
            raise ValueError(f"tokens lie between 0 and {self.config.vocab_size - 1}")
        return None if bad else tuple(losses.tolist())

    def _tokens(self, documents: Sequence[Sequence[int]]) -> tuple[Ints, Ints, Ints]:
        """All tokens one after the other; where documents begin; their numbers of positions."""
        sizes = np.fromiter(map(len, documents), np.int32, len(documents))
        if sizes.min() < 2:
            num_positions(self.config, documents[int(sizes.argmin())])  # raises
        ends = np.cumsum(sizes, dtype=np.int32)
        tokens = np.fromiter(chain.from_iterable(documents), np.int32, int(ends[-1]))
        return tokens, ends - sizes, np.minimum(sizes - 1, self.config.block_size)


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


class _Buffers:
    """A program's tables as the kernels take them, and the memory they work in."""

    def __init__(self, program: Program, num_choices: int) -> None:
        self.num_choices = num_choices
        tables = program.weights
        self.program = (
            program.instructions,
            program.indices,
            program.numbers,
            program.constants,
            program.first,
            program.losses,
            tables.pack,
            tables.pack_first,
            program.clear,
            program.clear_first,
            program.num_slots,
        )
        self.weights = (tables.rows, tables.shape, tables.skip, tables.uses, tables.num_wide)
        self.panel_of = program.panel
        self.panel = np.zeros(len(program.panel))
        positions = len(program.losses)
        self.shares = np.array([0.0] + [1 / n for n in range(1, positions + 1)])
        self.mem = aligned(2 * program.num_slots * 8)
        self.scratch = aligned(64)
        # One row more for lanes without a document, and some numbers that are read but not used.
        self.packed = aligned((CHUNK + 1) * len(tables.pack) + 64)
        self.width = len(tables.pack)
        self.stack = aligned(128 * (CHUNK.bit_length() + 1))
        self.partial = np.zeros((2, program.num_params))

    def replay(
        self,
        params: Vector,
        tokens: Ints,
        starts: Ints,
        lengths: Ints,
        losses: Vector,
        gradient: Vector,
    ) -> int:
        """Run the kernels, which fill ``losses`` and any ``gradient``: see ``replay_shard``."""
        levels = 1 + (-(-len(lengths) // CHUNK)).bit_length()
        if levels > len(self.partial):
            self.partial = np.zeros((levels, self.partial.shape[1]))
        return int(
            replay_shard(
                self.program,
                self.weights,
                self.panel_of,
                params,
                self.panel,
                tokens,
                starts,
                lengths,
                self.shares,
                self.mem,
                self.scratch,
                self.packed,
                self.width,
                self.stack,
                self.partial,
                losses,
                gradient,
                CHUNK,
                self.num_choices,
            )
        )


def aligned(size: int) -> Vector:
    """(size,) zeros that begin at a cache line."""
    buffer = np.zeros(size + 8)
    start = (-buffer.ctypes.data // 8) % 8
    return buffer[start : start + size]
