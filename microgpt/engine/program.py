"""Lowers a scheduled tape to the integer tables that the kernels run.

Memory is an array of slots, each of as many numbers as there are lanes; slot ``s`` holds a value
and slot ``num_slots + s`` its gradient. The first slots hold the constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.schedule import Group, schedule
from microgpt.engine.tape import Node, Op, Tape
from microgpt.engine.weight_tables import ParameterUse, WeightTables, weight_tables

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]

#: Rows of a matrix that one pass of a kernel computes together, and lists are padded to.
BLOCK = 8


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
    """What grows while groups are lowered one after the other."""

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        self.nodes = tape.nodes()
        self.slot: dict[int, int] = {}
        self.instructions: list[Instruction] = []
        self.indices: list[int] = []
        self.lists: dict[tuple[int, ...], int] = {}
        self.numbers: list[float] = []
        self.panel: list[int] = []
        self.panels: dict[tuple[int, ...], int] = {}
        self.constants = [0.0, 1.0]  # slot 0 also takes what nobody needs; slot 1 is a factor
        self.uses: list[ParameterUse] = []
        for i, node in enumerate(self.nodes):
            if node.op is Op.CONST:
                self.slot[i] = len(self.constants)
                self.constants.append(node.number)
        self.num_slots = len(self.constants)

    def run(self) -> Program:
        tape, first, created = self.tape, [0], [self.num_slots]
        for position, groups in enumerate(schedule(tape)):
            for group in groups:
                self._lower(position, group)
            first.append(len(self.instructions))
            created.append(self.num_slots)
        clear, clear_first = self._mark_first(first, created)
        uses = [use.moved(self.num_slots) for use in self.uses]
        return Program(
            np.array(self.instructions, np.int32).reshape(-1, len(Instruction._fields)),
            np.array(self.indices, np.int32),
            np.array(self.numbers, np.float64),
            np.array(self.constants, np.float64),
            np.array(first, np.int32),
            np.array([self.slot[loss] for loss in tape.losses], np.int32),
            np.array(self.panel, np.int32),
            np.array(clear, np.int32),
            np.array(clear_first, np.int32),
            self.num_slots,
            tape.num_params,
            weight_tables(uses, tape.num_params, len(tape.losses), BLOCK),
        )

    def _mark_first(self, first: list[int], created: list[int]) -> tuple[list[int], list[int]]:
        """Mark operands whose gradients are met for the first time; list what must be cleared.

        What is used at a later position, too, is cleared: where its gradient begins depends on the
        length of the document.
        """
        readers: dict[int, set[int]] = {}
        for position in range(len(first) - 1):
            for instruction in self.instructions[first[position] : first[position + 1]]:
                for slots in self._operand_slots(instruction):
                    for slot in slots:
                        readers.setdefault(slot, set()).add(position)
        clear, clear_first = [], [0]
        for position in range(len(first) - 1):
            own = range(created[position], created[position + 1])
            met = {slot for slot, where in readers.items() if where != {position}}
            met.update(self.slot[loss] for loss in self.tape.losses)
            met.update(range(created[0]))
            written: set[int] = set()
            for i in range(first[position + 1] - 1, first[position] - 1, -1):
                instruction = self.instructions[i]
                a, b = self._operand_slots(instruction)
                both = a + b
                fresh = [
                    bool(slots) and len(set(slots)) == len(slots) and met.isdisjoint(slots)
                    for slots in (a, b)
                ]
                if set(a) & set(b) or instruction.op == Op.PICK:  # PICK writes to one of many
                    fresh = [False, False]
                self.instructions[i] = instruction._replace(
                    first_a=int(fresh[0]), first_b=int(fresh[1])
                )
                written.update(a if fresh[0] else (), b if fresh[1] else ())
                met.update(both)
            clear += [slot for slot in own if slot not in written]
            clear_first.append(len(clear))
        return clear, clear_first

    def _operand_slots(self, instruction: Instruction) -> tuple[list[int], list[int]]:
        """The slots to whose gradients backward adds: first and second operands, without slot 0."""
        op, n, k = instruction.op, instruction.results, instruction.length
        if not (instruction.needs_a or instruction.needs_b):
            return [], []
        count = {Op.ROW: k, Op.SUM: n * k, Op.DOT: n * k, Op.PICK: n * k}.get(Op(op), n)
        a = self.indices[instruction.a : instruction.a + count]
        two = op in (Op.ADD, Op.MUL, Op.DOT, Op.RATIO) and (instruction.needs_b or op == Op.DOT)
        return a, self.indices[instruction.b : instruction.b + count] if two else []

    def _lower(self, position: int, group: Group) -> None:
        nodes = [self.nodes[i] for i in group.members]
        out, some = self.num_slots, nodes[0]
        self.slot.update(zip(group.members, range(out, out + len(nodes)), strict=True))
        padded = _round_up(len(nodes)) if group.op is Op.ROW else len(nodes)
        self.num_slots += padded
        length = len(some.args) // 2 if group.op is Op.DOT else len(some.args)
        number = len(self.numbers)
        if group.op in (Op.POW, Op.RATIO):
            self.numbers += [some.number, some.number - 1]
        forward = backward = 0
        if group.op is Op.ROW:
            forward, backward = self._panels(nodes)
        a, b = self._operands(group.op, nodes)
        self.instructions.append(
            Instruction(
                int(group.op),
                len(nodes),
                length,
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
        self._note_uses(position, group, nodes)

    def _operands(self, op: Op, nodes: list[Node]) -> tuple[int, int]:
        if op in (Op.LOAD, Op.GATHER):
            return self._list([node.param for node in nodes]), 0
        if op is Op.ROW:
            slots = [self.slot[arg] for arg in nodes[0].args]
            return self._list(slots + [0] * (_round_up(len(slots)) - len(slots))), 0
        lists = [[self.slot[arg] for arg in node.args] for node in nodes]
        if op in (Op.SUM, Op.MAX, Op.PICK):
            return self._list([slot for slots in lists for slot in slots]), 0
        half = max(1, len(lists[0]) // 2)
        a = self._list([slot for slots in lists for slot in slots[:half]])
        return a, self._list([slot for slots in lists for slot in slots[half:]])

    def _list(self, entries: list[int]) -> int:
        key = tuple(entries)
        if key not in self.lists:
            self.lists[key] = len(self.indices)
            self.indices += entries
        return self.lists[key]

    def _panels(self, nodes: list[Node]) -> tuple[int, int]:
        """Where the weights of these rows are packed for forward and for backward.

        Forward [block of rows][column][row in block], backward [block of columns][row][column].
        """
        starts = tuple(node.param for node in nodes)
        columns = len(nodes[0].args)
        key = (columns, *starts)
        size = _round_up(len(starts)) * columns
        if key not in self.panels:
            matrix = np.zeros((_round_up(len(starts)), _round_up(columns)), np.int64)
            matrix[: len(starts), :columns] = np.add.outer(starts, np.arange(columns))
            forward = matrix[:, :columns].reshape(-1, BLOCK, columns).transpose(0, 2, 1)
            rows = matrix[: len(starts)]
            backward = rows.reshape(len(starts), -1, BLOCK).transpose(1, 0, 2)
            self.panels[key] = len(self.panel)
            self.panel += [*forward.ravel().tolist(), *backward.ravel().tolist()]
        return self.panels[key], self.panels[key] + size

    def _note_uses(self, position: int, group: Group, nodes: list[Node]) -> None:
        slots = [self.slot[i] for i in group.members]
        if group.op is Op.ROW:
            x = tuple(self.slot[arg] for arg in nodes[0].args)
            for i, node, slot in zip(group.members, nodes, slots, strict=True):
                ids = (i,) * len(x)
                self.uses.append(ParameterUse(node.param, ids, position, slot, True, x, False))
        elif group.op in (Op.LOAD, Op.GATHER):
            self._note_reads(position, group, nodes, slots)

    def _note_reads(self, position: int, group: Group, nodes: list[Node], slots: list[int]) -> None:
        """Runs of consecutive parameters are used together; a GATHER uses a run per token."""
        choices = self.tape.num_choices if group.op is Op.GATHER else 1
        longest = len(nodes) if choices == 1 else nodes[0].stride
        begin = 0
        for end in range(1, len(nodes) + 1):
            adjacent = end < len(nodes) and nodes[end].param == nodes[end - 1].param + 1
            if adjacent and end - begin < longest:
                continue
            ids, x = tuple(group.members[begin:end]), tuple(slots[begin:end])
            some = nodes[begin]
            for choice in range(choices):
                start = some.param + choice * some.stride
                token = (some.token, choice) if group.op is Op.GATHER else None
                self.uses.append(ParameterUse(start, ids, position, 1, False, x, True, token))
            begin = end


def _round_up(count: int) -> int:
    return -(-count // BLOCK) * BLOCK
