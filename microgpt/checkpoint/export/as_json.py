"""One JSON file: the settings, and every matrix as a list of rows. Needs Python alone."""

from __future__ import annotations

import json
import sys
from typing import Any

from microgpt.checkpoint.export.portable import (
    PARTS,
    check_settings,
    parse_json,
    put_together,
    read_bytes,
    take_apart,
)
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem, write_atomically
from microgpt.parameters import from_bytes, to_bytes

#: A number as JSON takes some 20 bytes there and 24 more as an object.
MAX_JSON = 256 << 20
#: Lists and what stands in them, before they are made: empty ones take 60 times their bytes.
MAX_BRACKETS, MAX_COMMAS = 1 << 22, 1 << 25


def write(path: str, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError if the file cannot be written."""
    portable = take_apart(checkpoint)
    whole: dict[str, Any] = {**portable.settings, **{part: {} for part in PARTS}}
    for name, data in portable.matrices.items():
        part, _, matrix = name.partition("/")
        columns, flat = portable.shapes[name][1], from_bytes(data).tolist()
        whole[part][matrix] = [flat[at : at + columns] for at in range(0, len(flat), columns)]
    write_atomically(path, json.dumps(whole).encode("ascii") + b"\n")


def read(path: str) -> Checkpoint:
    """Raises CheckpointError, saying what is wrong."""
    data = read_bytes(path)
    many = data.count(b"[") + data.count(b"{") > MAX_BRACKETS or data.count(b",") > MAX_COMMAS
    if len(data) > MAX_JSON or many:
        raise CheckpointError(f"{path} is too large for JSON: use npz", Problem.FOREIGN)
    whole = parse_json(data, path)
    check_settings(whole, path)
    try:
        matrices = {
            f"{part}/{name}": to_bytes([_number(x) for row in rows for x in row])
            for part in PARTS
            for name, rows in whole[part].items()
        }
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path} is damaged: its matrices are not lists of rows of numbers", Problem.DAMAGED
        ) from error
    made = put_together(matrices, {k: v for k, v in whole.items() if k not in PARTS}, path)
    for part in PARTS:
        for name, (rows, columns) in made.shapes.items():
            matrix = whole[part][name]
            if len(matrix) != rows or any(len(row) != columns for row in matrix):
                raise CheckpointError(
                    f"{path} is damaged: {part} of {name!r} is not {rows} rows of {columns}",
                    Problem.DAMAGED,
                )
    return made


def _number(x: Any) -> float:
    if type(x) not in (int, float) or not abs(x) <= sys.float_info.max:
        raise ValueError(f"{x!r} is no number")
    return float(x)
