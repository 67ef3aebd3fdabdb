"""Logits for sampling: the tape engine's recording of the model, replayed position by position.

The recording, its fusing and its kernels are those of the training; only the result differs: all
logits of a position, and no loss. Slots keep their values between calls, so what earlier positions
left (keys and values among it) is simply there. One lane: every draw depends on those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.engine.kernels import run_forward
from microgpt.engine.program import Instruction, Program
from microgpt.engine.program_cache import recorded
from microgpt.engine.tape import Op, TapeError
from microgpt.model import Forward, GPTConfig, largest, num_positions, parameter_shapes
from microgpt.numerics import jit
from microgpt.numerics.simd import pointer
from microgpt.numerics.vectors import Vector, for_kernels
from microgpt.parameters import unflatten
from microgpt.sampling import Extend, plain

Array = Any
ONE = (0,) * 1


def largest_logits(
    params: Any, config: GPTConfig, tokens: Sequence[Any], forward: Forward
) -> list[Any]:
    """Per position a number that depends on all logits and nothing else: what keeps them alive."""
    keys: list[Any] = [[] for _ in range(config.n_layer)]
    values: list[Any] = [[] for _ in range(config.n_layer)]
    return [
        largest(forward(params, config, tokens[position], position, keys, values))
        for position in range(num_positions(config, tokens))
    ]


def compiled(
    params: Vector, config: GPTConfig, report: Callable[[str], None] = lambda line: None
) -> Extend:
    """The forward pass with the bits of ``sampling.plain``, some hundred times as fast.

    ``params``: (num_params,) float64. ``report`` gets a line to show before something takes long.
    """
    if must_compile():
        report("compiling the kernels for sampling (once on this machine)")
    return _Replay(params, config).extend


def must_compile() -> bool:
    """Whether the first use will take half a minute."""
    return isinstance(replay_position, jit.Entry) and replay_position.must_compile()


class _Replay:
    """A program with weights, and the memory it works in."""

    def __init__(self, params: Vector, config: GPTConfig) -> None:
        self.config = config
        self.params = for_kernels(params)
        program = _program(config)
        self.tables = (program.instructions, program.indices, program.numbers, program.first)
        self.slots = _logit_slots(program)
        self.panel = np.append(self.params, 0.0)[program.panel]
        self.mem = np.zeros(program.num_slots + 64)
        self.mem[: len(program.constants)] = program.constants
        self.scratch = np.zeros(64)
        self.tokens = np.zeros(config.block_size + 1, np.int32)
        self.logits = np.empty(config.vocab_size)

    def extend(self, token: int, position: int) -> list[float]:
        """See ``sampling.Extend``."""
        self.tokens[position] = token
        bad = replay_position(
            *self.tables,
            self.mem,
            self.params,
            self.panel,
            self.tokens,
            self.scratch,
            position,
            self.slots,
            self.logits,
        )
        if bad:  # plain floats have the last word, and raise what they raise
            return self._plainly(position)
        logits: list[float] = self.logits.tolist()
        return logits

    def _plainly(self, last: int) -> list[float]:
        shapes = parameter_shapes(self.config)
        extend = plain(unflatten(self.params.tolist(), shapes), self.config)
        for position in range(last):
            extend(int(self.tokens[position]), position)
        return extend(int(self.tokens[last]), last)


@lru_cache(maxsize=8)
def _program(config: GPTConfig) -> Program:
    """Read or recorded once per shape of network."""
    return recorded(config, largest_logits)


def _logit_slots(program: Program) -> Array:
    """(positions, vocab_size) int32: the operands of the instruction that makes the result."""
    slots = []
    for position, result in enumerate(program.losses):
        rows = program.instructions[program.first[position] : program.first[position + 1]]
        last = Instruction(*rows[-1].tolist())
        if last.op != Op.MAX or last.out != result:
            raise TapeError("the last instruction of a position is not the maximum of its logits")
        slots.append(program.indices[last.a : last.a + last.length])
    return np.array(slots, np.int32)


@jit.entry
def replay_position(
    ins: Array,
    indices: Array,
    numbers: Array,
    first: Array,
    mem: Array,
    params: Array,
    panel: Array,
    tokens: Array,
    scratch: Array,
    position: int,
    slots: Array,
    logits: Array,
) -> int:
    """Run one position and copy its logits. Returns how many operations had no finite result."""
    bad = run_forward(
        pointer(ins),
        first[position],
        first[position + 1],
        pointer(indices),
        pointer(numbers),
        pointer(mem),
        pointer(params),
        pointer(panel),
        pointer(tokens),
        pointer(scratch),
        ONE,
    )
    for i in range(len(logits)):
        logits[i] = mem[slots[position, i]]
    return bad
