"""Parts of payloads: numbers of some type, bits, and small whole numbers in a few bits each.

Whatever reads a part raises CompressionError for what no compressor writes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from microgpt.compression.base import CompressionError
from microgpt.numerics.vectors import LITTLE_ENDIAN, Vector, all_finite
from microgpt.parameters import Shapes


def split(payload: bytes, *lengths: int) -> list[bytes]:
    """The payload in parts of these lengths in bytes, of which it consists exactly."""
    if len(payload) != sum(lengths):
        raise CompressionError(f"the payload has {len(payload)} bytes, not {sum(lengths)}")
    parts, at = [], 0
    for length in lengths:
        parts.append(payload[at : at + length])
        at += length
    return parts


def exactly(payload: bytes, length: int) -> bytes:
    """The payload itself, which must have this length in bytes."""
    return split(payload, length)[0]


def to_float(vector: Vector, kind: DTypeLike) -> bytes:
    """Finite numbers rounded to the nearest (ties to even) of a smaller IEEE-754 type.

    What lies beyond the type's range becomes its largest finite number.
    """
    largest = float(np.finfo(kind).max)
    return np.clip(vector, -largest, largest).astype(kind).tobytes()


def from_float(part: bytes, kind: DTypeLike = LITTLE_ENDIAN) -> Vector:
    """(n,) float64 of finite numbers of an IEEE-754 type."""
    with np.errstate(invalid="ignore"):  # of a NaN that signals
        numbers = np.frombuffer(part, kind).astype(np.float64, copy=False)
    return finite(numbers)


def finite(numbers: Vector) -> Vector:
    """The numbers themselves, which must be finite."""
    if not all_finite(numbers):
        raise CompressionError("the payload has infinite numbers or NaN")
    return numbers


def scales(part: bytes) -> Vector:
    """(n,) float64 of numbers that are finite and not negative."""
    numbers = from_float(part)
    if len(numbers) and float(numbers.min()) < 0.0:
        raise CompressionError("the payload has a negative scale")
    return numbers


def codes_size(count: int, width: int) -> int:
    """How many bytes ``count`` codes of ``width`` bits need."""
    return (count * width + 7) // 8


def pack_codes(codes: NDArray[np.uint16], width: int) -> bytes:
    """(n,) whole numbers below 2**width, lowest bit first, without gaps; zeros fill the last byte.

    ``width`` is at most 16.
    """
    places = np.arange(width, dtype=np.uint16)
    bits = (codes[:, None] >> places) & np.uint16(1)
    return np.packbits(bits.astype(np.uint8).reshape(-1), bitorder="little").tobytes()


def unpack_codes(part: bytes, count: int, width: int) -> NDArray[np.uint16]:
    """The inverse of ``pack_codes``."""
    bits = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little")
    if bits[count * width :].any():
        raise CompressionError("the payload has bits set behind its last number")
    columns = bits[: count * width].reshape(count, width)
    codes = np.zeros(count, np.uint16)
    for place in range(width):
        codes |= columns[:, place].astype(np.uint16) << np.uint16(place)
    return codes


def pack_bits(bits: NDArray[np.bool_]) -> bytes:
    """(n,) bits, lowest bit of a byte first; zeros fill the last byte."""
    return np.packbits(bits, bitorder="little").tobytes()


def unpack_bits(part: bytes, count: int) -> NDArray[np.bool_]:
    """The inverse of ``pack_bits``."""
    bits = np.unpackbits(np.frombuffer(part, np.uint8), bitorder="little")
    if bits[count:].any():
        raise CompressionError("the payload has bits set behind its last number")
    return bits[:count].astype(np.bool_)


def sizes(shapes: Shapes) -> list[int]:
    """How many numbers each matrix has."""
    return [rows * columns for rows, columns in shapes.values()]


def matrices(vector: Vector, shapes: Shapes) -> list[NDArray[np.float64]]:
    """The matrices of a flat vector, (rows, columns) each, as views of it."""
    found, at = [], 0
    for rows, columns in shapes.values():
        found.append(vector[at : at + rows * columns].reshape(rows, columns))
        at += rows * columns
    return found
