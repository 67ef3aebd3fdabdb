"""Lowers a scheduled tape to the integer tables that the kernels run.

Memory is an array of slots, each of as many numbers as there are lanes; slot ``s`` holds a value
and slot ``num_slots + s`` its gradient. The first slots hold the constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.first_contributions import FirstContributions, Operands
from microgpt.engine.rewrite import Longs, arguments_at
from microgpt.engine.schedule import Group, schedule
from microgpt.engine.tape import MEANINGS, Op, Tape
from microgpt.engine.weight_tables import ParameterUse, WeightTables, weight_tables

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

#: Rows of a matrix that one pass of a kernel computes together, and lists are padded to.
BLOCK = 8
NONE = np.zeros(0, np.int32)


class Instruction(NamedTuple):
    """One row of the instruction table: all are numbers of int32.

    ``op``; number of ``results``, in slots from ``out``; ``length``: terms of each; ``a``, ``b``:
    where in the table of indices the operands stand; ``number``: where exponents stand; ``token``,
    ``stride``: as in ``Node``; ``needs_a``, ``needs_b``: whether operands receive gradients;
    ``forward``, ``backward``: where the packed weights of a ROW group begin; ``first_a``,
    ``first_b``: whether backward meets the operands' gradients here for the first time.
    """

    op: int
    results: int
    length: int
    out: int
    a: int = 0
    b: int = 0
    number: int = 0
    token: int = 0
    stride: int = 0
    needs_a: int = 0
    needs_b: int = 0
    forward: int = 0
    backward: int = 0
    first_a: int = 0
    first_b: int = 0


@dataclass(frozen=True)
class Program:
    """``instructions``: (n, 15) int32, see ``Instruction``; ``indices``: int32 operand lists.

    ``numbers``: exponents ``c`` followed by ``c - 1``. ``constants``: values of the first slots.
    ``first``: (positions + 1,) first instruction of each position. ``losses``: (positions,) slots
    of the losses. ``clear``: slots whose gradients must be zero before backward starts, those of
    position ``p`` from ``clear_first[p]``.
    ``panel``: which parameter each packed weight is; padding, whose products nobody reads, is 0.
    ``weights``: how the gradients of parameters are gathered, see ``WeightTables``.
    """

    instructions: Ints
    indices: Ints
    numbers: Floats
    constants: Floats
    first: Ints
    losses: Ints
    panel: Ints
    clear: Ints
    clear_first: Ints
    num_slots: int
    num_params: int
    weights: WeightTables


def compile_tape(tape: Tape) -> Program:
    """The program of a fused tape."""
    return _Compiler(tape).run()


class _Compiler:
    """What grows while groups are lowered one after the other.

    ``slot``: (num_nodes,) where the results of nodes stand.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.instructions: list[Instruction] = []
        self.operands: list[Operands] = []
        self.indices = _Growing()
        self.lists: dict[bytes, int] = {}
        self.numbers: list[float] = []
        self.panel = _Growing()
        self.panels: dict[tuple[int, bytes], int] = {}
        self.slot = np.zeros(len(tape), np.int32)
        constants = np.flatnonzero(tape.op == Op.CONST)
        # Slot 0 also takes what nobody needs; slot 1 is a factor.
        self.constants = np.concatenate([[0.0, 1.0], tape.number[constants]])
        self.slot[constants] = np.arange(2, len(self.constants))
        self.num_slots = len(self.constants)

    def run(self) -> Program:
        tape, first, created = self.tape, [0], [self.num_slots]
        positions = schedule(tape)
        for groups in positions:
            for group in groups:
                self._lower(group)
            first.append(len(self.instructions))
            created.append(self.num_slots)
        losses = self.slot[list(tape.losses)]
        firsts = FirstContributions(self.operands, first, created, losses)
        instructions = np.array(self.instructions, np.int32).reshape(-1, len(Instruction._fields))
        instructions[:, -2:] = firsts.fresh
        return Program(
            instructions,
            self.indices.array(),
            np.array(self.numbers, np.float64),
            self.constants,
            np.array(first, np.int32),
            losses,
            self.panel.array(),
            firsts.clear,
            firsts.clear_first,
            self.num_slots,
            tape.num_params,
            weight_tables(self._uses(positions), tape.num_params, len(tape.losses), BLOCK),
        )

    def _lower(self, group: Group) -> None:
        members = np.array(group.members)
        some = self.tape.node(group.members[0])
        results, out = len(members), self.num_slots
        self.slot[members] = np.arange(out, out + results)
        self.num_slots += _round_up(results) if group.op is Op.ROW else results
        number, forward, backward = len(self.numbers), 0, 0
        if group.op in (Op.POW, Op.RATIO):
            self.numbers += [some.number, some.number - 1]
        if group.op is Op.ROW:
            forward, backward = self._panels(self.tape.param[members], len(some.args))
        a, b = self._operands(group, members)
        self.instructions.append(
            Instruction(
                int(group.op),
                results,
                len(some.args) // 2 if group.op is Op.DOT else len(some.args),
                out,
                a,
                b,
                number,
                some.token,
                some.stride,
                int(group.needs[0]),
                int(group.needs[1]),
                forward,
                backward,
            )
        )

    def _operands(self, group: Group, members: Longs) -> tuple[int, int]:
        """Where the lists of operands stand; notes which of them receive gradients."""
        op, tape = group.op, self.tape
        if op in (Op.LOAD, Op.GATHER):
            self.operands.append(Operands(NONE, NONE, chooses=False))
            return self._list(tape.param[members]), 0
        read = members[:1] if op is Op.ROW else members  # ROWs of a group read the same
        slots = self.slot[tape.args[arguments_at(tape, read)]].reshape(len(read), -1)
        one_list = MEANINGS[op].arity < 0 and op is not Op.DOT
        half = slots.shape[1] if one_list else max(1, slots.shape[1] // 2)
        first, second = slots[:, :half].ravel(), slots[:, half:].ravel()
        add_to_b = group.needs[1] or (op is Op.DOT and group.needs[0])
        a = first if any(group.needs) else NONE
        self.operands.append(Operands(a, second if add_to_b else NONE, op is Op.PICK))
        if op is Op.ROW:
            first = np.append(first, np.zeros(-len(first) % BLOCK, np.int32))
        return self._list(first), 0 if one_list else self._list(second)

    def _list(self, entries: Ints) -> int:
        key = entries.tobytes()
        if key not in self.lists:
            self.lists[key] = self.indices.append(entries)
        return self.lists[key]

    def _panels(self, starts: Ints, columns: int) -> tuple[int, int]:
        """Where the weights of these rows are packed for forward and for backward.

        Forward [block of rows][column][row in block], backward [block of columns][row][column].
        """
        key = (columns, starts.tobytes())
        if key not in self.panels:
            matrix = np.zeros((_round_up(len(starts)), _round_up(columns)), np.int32)
            matrix[: len(starts), :columns] = np.add.outer(starts, np.arange(columns))
            forward = matrix[:, :columns].reshape(-1, BLOCK, columns).transpose(0, 2, 1)
            rows = matrix[: len(starts)]
            backward = rows.reshape(len(starts), -1, BLOCK).transpose(1, 0, 2)
            self.panels[key] = self.panel.append(forward.ravel())
            self.panel.append(backward.ravel())
        return self.panels[key], self.panels[key] + _round_up(len(starts)) * columns

    def _uses(self, positions: list[list[Group]]) -> list[ParameterUse]:
        """All uses of parameters, when all slots are known: gradients stand after the values."""
        uses: list[ParameterUse] = []
        for position, groups in enumerate(positions):
            for group in groups:
                if group.op is Op.ROW:
                    args = self.tape.node(group.members[0]).args
                    x = tuple(self.slot[list(args)].tolist())
                    factors = (self.slot[group.members] + self.num_slots).tolist()
                    starts = self.tape.param[group.members].tolist()
                    for i, start, factor in zip(group.members, starts, factors, strict=True):
                        uses.append(ParameterUse(start, (i,), position, factor, True, x))
                elif group.op in (Op.LOAD, Op.GATHER):
                    uses += self._reads(position, group)
        return uses

    def _reads(self, position: int, group: Group) -> Iterator[ParameterUse]:
        """Runs of consecutive parameters are used together; a GATHER uses a run per token."""
        starts = self.tape.param[group.members].tolist()
        slots = (self.slot[group.members] + self.num_slots).tolist()
        some = self.tape.node(group.members[0])
        choices = self.tape.num_choices if group.op is Op.GATHER else 1
        longest = len(starts) if choices == 1 else some.stride
        begin = 0
        for end in range(1, len(starts) + 1):
            adjacent = end < len(starts) and starts[end] == starts[end - 1] + 1
            if adjacent and end - begin < longest:
                continue
            ids, x = tuple(group.members[begin:end]), tuple(slots[begin:end])
            for choice in range(choices):
                start = starts[begin] + choice * some.stride
                token = (some.token, choice) if group.op is Op.GATHER else None
                yield ParameterUse(start, ids, position, 1, False, x, token)
            begin = end


class _Growing:
    """Arrays one after the other."""

    def __init__(self) -> None:
        self.parts: list[Ints] = [NONE]
        self.size = 0

    def append(self, part: Ints) -> int:
        """Where this part begins."""
        self.parts.append(part)
        self.size += len(part)
        return self.size - len(part)

    def array(self) -> Ints:
        """All parts."""
        return np.concatenate(self.parts)


def _round_up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
