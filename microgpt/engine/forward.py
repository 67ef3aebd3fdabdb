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
from microgpt.engine.replay_state import Field, ReplayState
from microgpt.engine.tape import Op, TapeError
from microgpt.model import Forward, GPTConfig, largest, num_positions, parameter_shapes
from microgpt.numerics import jit
from microgpt.numerics.jit import address
from microgpt.numerics.simd import integers_at, longs_at, numbers_at
from microgpt.numerics.vectors import Vector
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
    """Whether the first use will take seconds."""
    return isinstance(replay_position, jit.Entry) and replay_position.must_compile()


class _Replay:
    """A program with weights, and the memory it works in."""

    def __init__(self, params: Vector, config: GPTConfig) -> None:
        self.config = config
        self.params = params
        program = _program(config)
        self.state = ReplayState(program, config.vocab_size, 1)
        self.state.params[:] = params
        self.state.array(Field.PANEL)[:] = params[program.panel]
        self.state.array(Field.MEM)[: len(program.constants)] = program.constants
        self.slots = _logit_slots(program)
        self.tokens = np.zeros(config.block_size + 1, np.int32)
        self.logits = np.empty(config.vocab_size)
        self.addresses = (
            self.state.address,
            address(self.tokens),
            address(self.slots),
            address(self.logits),
        )

    def extend(self, token: int, position: int) -> list[float]:
        """See ``sampling.Extend``."""
        self.tokens[position] = token
        bad = replay_position(*self.addresses, position, len(self.logits))
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
    state_address: int,
    tokens_address: int,
    slots_address: int,
    logits_address: int,
    position: int,
    num_logits: int,
) -> int:
    """Run one position and copy its logits. Returns how many operations had no finite result.

    Addresses are those of ``ReplayState.fields`` and of the arrays in ``_Replay``.
    """
    state, slots = longs_at(state_address), integers_at(slots_address)
    mem, logits = numbers_at(state[Field.MEM]), numbers_at(logits_address)
    first = integers_at(state[Field.FIRST])
    bad = run_forward(
        integers_at(state[Field.INSTRUCTIONS]),
        first[position],
        first[position + 1],
        integers_at(state[Field.INDICES]),
        numbers_at(state[Field.NUMBERS]),
        mem,
        numbers_at(state[Field.PARAMS]),
        numbers_at(state[Field.PANEL]),
        integers_at(tokens_address),
        numbers_at(state[Field.SCRATCH]),
        ONE,
    )
    for i in range(num_logits):
        logits[i] = mem[slots[position * num_logits + i]]
    return bad
