"""The tables of a program and the memory it works in, as one list of addresses for the kernels.

To pass some thirty arrays one by one would take longer than one document does.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.program import Program
from microgpt.numerics.jit import address
from microgpt.numerics.vectors import Vector


class Field(IntEnum):
    """Places in the list. What is called NUM or so is a number, all others are addresses."""

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
    PANEL_SIZE = auto()
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


class ReplayState:
    """``fields``: (len(Field),) int64, what ``kernels_shard.replay_shard`` reads.

    ``chunk``: documents replayed together, a power of two up to 64.
    """

    def __init__(self, program: Program, num_choices: int, chunk: int) -> None:
        self.fields = np.zeros(len(Field), np.int64)
        self._kept: dict[Field, NDArray[Any]] = {}
        tables, positions = program.weights, len(program.losses)
        self.chunk, self.num_params, self._levels = chunk, program.num_params, 0
        self._documents = 0
        tables_and_memory: dict[Field, NDArray[Any]] = {
            Field.INSTRUCTIONS: program.instructions,
            Field.INDICES: program.indices,
            Field.NUMBERS: program.numbers,
            Field.CONSTANTS: program.constants,
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
            Field.PANEL: aligned(len(program.panel)),
            Field.SHARES: np.array([0.0] + [1 / n for n in range(1, positions + 1)]),
            Field.MEM: aligned(2 * program.num_slots * 8),
            Field.SCRATCH: aligned(64),
            # One row more for lanes without a document, and numbers that are read but not used.
            Field.PACKED: aligned((chunk + 1) * len(tables.pack) + 64),
            Field.STACK: aligned(128 * (chunk.bit_length() + 1)),
            Field.LANE_TOKENS: np.zeros((positions + 1) * 8, np.int32),
            Field.LANE_LENGTHS: np.zeros(8, np.int64),
            Field.LANE_ROWS: np.zeros(8, np.int64),
            Field.ORDER: np.zeros(chunk, np.int64),
            Field.SEEN: np.zeros(num_choices, np.int64),
        }
        for field, table in tables_and_memory.items():
            self._keep(field, table)
        for field, number in {
            Field.NUM_CONSTANTS: len(program.constants),
            Field.NUM_SLOTS: program.num_slots,
            Field.NUM_BLOCKS: len(tables.rows),
            Field.NUM_WIDE: tables.num_wide,
            Field.NUM_POSITIONS: positions,
            Field.NUM_PARAMS: program.num_params,
            Field.NUM_CHOICES: num_choices,
            Field.PANEL_SIZE: len(program.panel),
            Field.WIDTH: len(tables.pack),
            Field.CHUNK: chunk,
        }.items():
            self.fields[field] = number
        self.make_room(chunk)

    def array(self, field: Field) -> NDArray[Any]:
        """A table or the working memory behind an address."""
        return self._kept[field]

    def make_room(self, num_documents: int) -> None:
        """Have working memory for a shard of so many documents."""
        if num_documents <= self._documents:
            return
        self._documents = num_documents
        for field in (Field.STARTS, Field.LENGTHS):
            self._keep(field, np.zeros(num_documents, np.int32))
        levels = 1 + (-(-num_documents // self.chunk)).bit_length()
        self._keep(Field.PARTIAL, np.zeros((levels, self.num_params)))

    def _keep(self, field: Field, array: NDArray[Any]) -> None:
        self._kept[field] = array
        self.fields[field] = address(array)


def aligned(size: int) -> Vector:
    """(size,) zeros that begin at a cache line."""
    buffer = np.zeros(size + 8)
    start = (-address(buffer) // 8) % 8
    return buffer[start : start + size]
