"""Parameters in their three forms: rows of floats, one flat vector, and maps of bytes.

The flat vector is the canonical order (``parameter_shapes``, row-major). The bytes are
little-endian binary64 on every machine, so maps and digests can be compared between machines.
NumPy is not needed.
"""

from __future__ import annotations

import hashlib
import math
import random
import sys
from array import array
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TypeAlias

StateDict: TypeAlias = dict[str, list[list[float]]]
Shapes: TypeAlias = Mapping[str, tuple[int, int]]

INIT_STD = 0.08


class ParameterShapes(dict[str, tuple[int, int]]):
    """Shapes that nobody changes, for who reads many maps: what follows from them is kept."""

    @cached_property
    def names(self) -> list[str]:
        """Of the matrices, in canonical order."""
        return [*self]

    @cached_property
    def sizes(self) -> list[int]:
        """Bytes of each matrix, in canonical order."""
        return [8 * rows * columns for rows, columns in self.values()]


def num_params(shapes: Shapes) -> int:
    """How many scalars the shapes hold in all."""
    return sum(rows * columns for rows, columns in shapes.values())


def init_parameters(shapes: Shapes, rng: random.Random) -> list[float]:
    """A flat vector drawn from ``rng.gauss(0, 0.08)`` in canonical order, as microgpt.py does."""
    return [rng.gauss(0, INIT_STD) for _ in range(num_params(shapes))]


def unflatten(flat: Sequence[float], shapes: Shapes) -> StateDict:
    """The flat vector as ``{name: rows}``. Raises ValueError if the length does not fit."""
    if len(flat) != num_params(shapes):
        raise ValueError(f"{len(flat)} numbers do not fill {num_params(shapes)} parameters")
    state_dict: StateDict = {}
    at = 0
    for name, (rows, columns) in shapes.items():
        state_dict[name] = [
            [float(x) for x in flat[start : start + columns]]
            for start in range(at, at + rows * columns, columns)
        ]
        at += rows * columns
    return state_dict


def flatten(state_dict: Mapping[str, Sequence[Sequence[float]]], shapes: Shapes) -> list[float]:
    """``{name: rows}`` as one flat vector. Raises ValueError for a missing or misshapen matrix."""
    flat: list[float] = []
    for name, (rows, columns) in shapes.items():
        matrix = state_dict.get(name)
        if matrix is None:
            raise ValueError(f"the parameters have no matrix {name!r}")
        if len(matrix) != rows or any(len(row) != columns for row in matrix):
            raise ValueError(f"matrix {name!r} is not {rows} by {columns}")
        for row in matrix:
            flat.extend(row)
    return flat


def to_bytes(flat: Sequence[float]) -> bytes:
    """Numbers as little-endian binary64."""
    packed = array("d", flat)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def from_bytes(data: bytes) -> array[float]:
    """The inverse of ``to_bytes``. Raises ValueError if the length is not a multiple of 8."""
    packed = array("d")
    packed.frombytes(data)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed


def split_bytes(data: bytes, shapes: Shapes) -> dict[str, bytes]:
    """Bytes of a flat vector as ``{name: bytes}``. Raises ValueError if the length does not fit."""
    if len(data) != 8 * num_params(shapes):
        raise ValueError(f"{len(data)} bytes do not fill {num_params(shapes)} parameters")
    parts = {}
    at = 0
    for name, (rows, columns) in shapes.items():
        parts[name] = data[at : at + 8 * rows * columns]
        at += 8 * rows * columns
    return parts


def join_bytes(parts: Mapping[str, bytes], shapes: Shapes) -> bytes:
    """``{name: bytes}`` as the bytes of one flat vector.

    Raises ValueError if a name is missing or unknown, or a matrix has another size.
    """
    if isinstance(shapes, ParameterShapes) and [*parts] == shapes.names:
        in_order = [*parts.values()]  # as nearly always
        if [*map(len, in_order)] == shapes.sizes:
            return b"".join(in_order)
    if parts.keys() != shapes.keys():
        wrong = sorted(map(str, parts.keys() ^ shapes.keys()))
        raise ValueError(f"missing or unknown parameters: {', '.join(wrong[:5])}")
    sizes = [8 * rows * columns for rows, columns in shapes.values()]
    in_order = [parts[name] for name in shapes]
    if [*map(len, in_order)] != sizes:
        place = next(i for i, part in enumerate(in_order) if len(part) != sizes[i])
        found = f"parameter {[*shapes][place]!r} has {len(in_order[place])} bytes"
        raise ValueError(f"{found}, not {sizes[place]}")
    return b"".join(in_order)


def all_finite(flat: Sequence[float]) -> bool:
    """Whether no number is infinite or NaN."""
    # One that is not makes the sum so; and large ones may, which is seldom.
    return math.isfinite(sum(flat)) or all(map(math.isfinite, flat))


def sha256(*parts: bytes) -> str:
    """Hexadecimal digest of the parts one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
