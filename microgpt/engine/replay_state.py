"""The tables of a program and the memory it works in, as one list of addresses for the kernels.

To pass some thirty arrays one by one would take longer than one document does.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.program import Instruction, Program
from microgpt.engine.tape import Op
from microgpt.engine.weight_tables import WeightTables
from microgpt.numerics.jit import address
from microgpt.numerics.vectors import Vector

#: Numbers of one level of the stack: eight rows by sixteen columns.
LEVEL = 128
#: Blocks of weights that are worked at together.
TOGETHER = 4
#: See ``_runs``.
TILE = -2

FORWARD = Instruction._fields.index("forward")


class Field(IntEnum):
    """Places in the list. What is called NUM or so is a number, all others are addresses.

    ``NOTHING`` is always 0.
    """

    INSTRUCTIONS = 0
    INDICES = auto()
    NUMBERS = auto()
    CONSTANTS = auto()
    NUM_CONSTANTS = auto()
    FIRST = auto()
    LOSSES = auto()
    CLEAR = auto()
    CLEAR_FIRST = auto()
    NUM_SLOTS = auto()
    PACK = auto()
    PACK_FIRST = auto()
    ROWS = auto()
    SHAPE = auto()
    SKIP = auto()
    USES = auto()
    NUM_BLOCKS = auto()
    NUM_WIDE = auto()
    NUM_POSITIONS = auto()
    NUM_PARAMS = auto()
    NUM_CHOICES = auto()
    PANEL_OF = auto()
    PANEL_RUNS = auto()
    NUM_PANEL_RUNS = auto()
    PANEL = auto()
    SHARES = auto()
    MEM = auto()
    SCRATCH = auto()
    PACKED = auto()
    WIDTH = auto()
    STACK = auto()
    PARTIAL = auto()
    CHUNK = auto()
    LANE_TOKENS = auto()
    LANE_LENGTHS = auto()
    LANE_ROWS = auto()
    ORDER = auto()
    STARTS = auto()
    LENGTHS = auto()
    SEEN = auto()
    SINGLE = auto()
    PARTS = auto()
    NUM_PARTS = auto()
    LEVELS = auto()
    PARAMS = auto()
    TOKENS = auto()
    SIZES = auto()
    RESULTS = auto()
    GRADIENT = auto()
    NOTHING = auto()


class ReplayState:
    """``fields``: (len(Field),) int64 at ``address``, what ``kernels_shard.replay_shard`` reads.

    Of a shard: ``params`` (float64), all ``tokens`` and the ``sizes`` of the documents in tokens
    (int32); ``losses`` and ``gradient`` (float64) are results. ``chunk``: documents replayed
    together, a power of two up to 64.
    """

    def __init__(self, program: Program, num_choices: int, chunk: int) -> None:
        self.fields = np.zeros(len(Field), np.int64)
        self._kept: dict[Field, NDArray[Any]] = {}
        tables, positions = program.weights, len(program.losses)
        self.chunk, self.num_params = chunk, program.num_params
        self._documents = self._tokens = 0
        parts, levels = _parts(tables), chunk.bit_length()
        integers = {
            Field.INSTRUCTIONS: marked(program),
            Field.INDICES: program.indices,
            Field.FIRST: program.first,
            Field.LOSSES: program.losses,
            Field.CLEAR: program.clear,
            Field.CLEAR_FIRST: program.clear_first,
            Field.PACK: tables.pack,
            Field.PACK_FIRST: tables.pack_first,
            Field.ROWS: tables.rows,
            Field.SHAPE: tables.shape,
            Field.SKIP: tables.skip,
            Field.USES: tables.uses,
            Field.PANEL_OF: program.panel,
            Field.PANEL_RUNS: _runs(program.panel),
            Field.PARTS: parts,
            Field.SINGLE: _tokens_of(tables),
        }
        for field, table in integers.items():
            self._keep(field, np.ascontiguousarray(table, np.int32))
        others: dict[Field, NDArray[Any]] = {
            Field.NUMBERS: np.ascontiguousarray(program.numbers, np.float64),
            Field.CONSTANTS: np.ascontiguousarray(program.constants, np.float64),
            Field.PARAMS: aligned(program.num_params),
            Field.GRADIENT: aligned(program.num_params),
            Field.PANEL: aligned(len(program.panel)),
            Field.SHARES: np.array([0.0] + [1 / n for n in range(1, positions + 1)]),
            Field.MEM: aligned(2 * program.num_slots * 8),
            Field.SCRATCH: aligned(64),
            # One row more for lanes without a document, and numbers that are read but not used.
            Field.PACKED: aligned((chunk + 1) * len(tables.pack) + 64),
            Field.STACK: aligned(LEVEL * max(TOGETHER * levels, chunk)),
            Field.LANE_TOKENS: np.zeros((positions + 1) * 8, np.int32),
            Field.LANE_LENGTHS: np.zeros(8, np.int64),
            Field.LANE_ROWS: np.zeros(8, np.int64),
            Field.ORDER: np.zeros(chunk, np.int64),
            Field.SEEN: np.zeros(num_choices, np.int64),
        }
        for field, memory in others.items():
            self._keep(field, memory)
        for field, number in {
            Field.NUM_CONSTANTS: len(program.constants),
            Field.NUM_SLOTS: program.num_slots,
            Field.NUM_BLOCKS: len(tables.rows),
            Field.NUM_WIDE: tables.num_wide,
            Field.NUM_POSITIONS: positions,
            Field.NUM_PARAMS: program.num_params,
            Field.NUM_CHOICES: num_choices,
            Field.NUM_PANEL_RUNS: len(program.panel) // 8,
            Field.WIDTH: len(tables.pack),
            Field.CHUNK: chunk,
            Field.NUM_PARTS: len(parts),
            Field.LEVELS: levels,
        }.items():
            self.fields[field] = number
        self.address = address(self.fields)
        self.params, self.gradient = self.array(Field.PARAMS), self.array(Field.GRADIENT)
        self.make_room(chunk, chunk * (positions + 1))

    def array(self, field: Field) -> NDArray[Any]:
        """A table or the working memory behind an address."""
        return self._kept[field]

    def make_room(self, num_documents: int, num_tokens: int) -> None:
        """Have working memory for a shard of so many documents with so many tokens."""
        if num_tokens > self._tokens:
            self._tokens = num_tokens
            self.tokens = self._keep(Field.TOKENS, np.zeros(num_tokens, np.int32))
        if num_documents > self._documents:
            self._documents = num_documents
            for field in (Field.STARTS, Field.LENGTHS):
                self._keep(field, np.zeros(num_documents, np.int32))
            self.sizes = self._keep(Field.SIZES, np.zeros(num_documents, np.int32))
            self.losses = self._keep(Field.RESULTS, np.zeros(num_documents))
            levels = 1 + (-(-num_documents // self.chunk)).bit_length()
            self._keep(Field.PARTIAL, np.zeros((levels, self.num_params)))

    def _keep(self, field: Field, array: NDArray[Any]) -> NDArray[Any]:
        self._kept[field] = array
        self.fields[field] = address(array)
        return array


def marked(program: Program) -> NDArray[np.int32]:
    """The instructions, and in column ``forward`` what makes kernels quicker.

    GATHER: 1 if its parameters stand one after the other. What backward may keep in registers:
    MUL and RATIO: 1 if no slot is both a first and a second operand. DOT: how many neighbours have
    the same first operands; 0 if only one, or if the second ones are not distinct and others.
    """
    table = program.instructions.copy()
    for row in table:
        found = Instruction(*row.tolist())
        if found.op == Op.GATHER:
            row[FORWARD] = (np.diff(program.indices[found.a :][: found.results]) == 1).all()
        elif found.op in (Op.MUL, Op.RATIO):
            a, b = (program.indices[i : i + found.results] for i in (found.a, found.b))
            row[FORWARD] = not np.isin(a, b).any()
        elif found.op == Op.DOT and found.length:
            size = found.results * found.length
            a, b = (program.indices[i : i + size] for i in (found.a, found.b))
            if len(np.unique(b)) == size and not np.isin(a, b).any():
                row[FORWARD] = _run_length(a.reshape(found.results, found.length))
    return table


def _run_length(lists: NDArray[np.int32]) -> int:
    """How many neighbours are equal, if all runs are of one length over 1 and differ; else 0."""
    changes = np.flatnonzero((lists[1:] != lists[:-1]).any(axis=1)) + 1
    lengths = set(np.diff([0, *changes, len(lists)]).tolist())
    run = lengths.pop()
    distinct = all(len(set(each.tolist())) == len(each) for each in lists)
    return run if run > 1 and not lengths and distinct else 0


def _runs(panel: NDArray[np.int32]) -> NDArray[np.int32]:
    """(len(panel) / 8,): the first of eight parameters side by side, or -1 where they are not so.

    ``TILE`` where the next eight groups are the columns of eight rows: the numbers of each are
    those of the group before it and one more.
    """
    groups = panel.reshape(-1, 8)
    together = (groups - groups[:, :1] == np.arange(8)).all(axis=1)
    runs = np.where(together, groups[:, 0], -1).astype(np.int32)
    follows = np.append(False, (groups[1:] == groups[:-1] + 1).all(axis=1))
    first = 0
    while first + 8 <= len(runs):
        tile = runs[first] < 0 and follows[first + 1 : first + 8].all()
        if tile:
            runs[first] = TILE
        first += 8 if tile else 1
    return runs


def _parts(tables: WeightTables) -> NDArray[np.int32]:
    """(parts, 2): blocks of rows and first columns of what is computed at once, sixteen columns."""
    columns = tables.shape[: tables.num_wide, 0].tolist()
    parts = [(block, c) for block, width in enumerate(columns) for c in range(0, width, 16)]
    return np.array(parts, np.int32).reshape(-1, 2)


def _tokens_of(tables: WeightTables) -> NDArray[np.int32]:
    """(blocks,): the token for which alone a row is used, or -1."""
    tokens = []
    for _, first, count in tables.shape.tolist():
        uses = tables.uses[first : first + count]
        values = set(uses[:, 3].tolist()) if (uses[:, 2] >= 0).all() else set()
        tokens.append(values.pop() if len(values) == 1 else -1)
    return np.array(tokens, np.int32)


def aligned(size: int) -> Vector:
    """(size,) zeros that begin at a cache line."""
    buffer = np.zeros(size + 8)
    start = (-address(buffer) // 8) % 8
    return buffer[start : start + size]
