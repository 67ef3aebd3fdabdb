"""Flat float64 vectors in canonical parameter order, and their form on the wire and on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.parameters import Shapes, join_bytes, split_bytes

#: (num_params,) float64.
Vector: TypeAlias = NDArray[np.float64]

LITTLE_ENDIAN = np.dtype("<f8")


def vector_to_bytes(vector: Vector) -> bytes:
    """The numbers as little-endian binary64."""
    return vector.astype(LITTLE_ENDIAN, copy=False).tobytes()


def vector_from_bytes(data: bytes) -> Vector:
    """The inverse of ``vector_to_bytes``. Raises ValueError if the length is no multiple of 8."""
    numbers = np.frombuffer(data, LITTLE_ENDIAN)
    return numbers if LITTLE_ENDIAN.isnative else numbers.astype(np.float64)


def vector_to_map(vector: Vector, shapes: Shapes) -> dict[str, bytes]:
    """``{name: bytes}``, as weights and gradients travel. Raises ValueError for another length."""
    return split_bytes(vector_to_bytes(vector), shapes)


def vector_from_map(parts: Mapping[str, bytes], shapes: Shapes) -> Vector:
    """The inverse of ``vector_to_map``. Raises ValueError for wrong names or sizes."""
    return vector_from_bytes(join_bytes(parts, shapes))


def tree_sum_of(numbers: Vector) -> float:
    """The pairwise tree sum of ``microgpt.optim.reduction`` over (n,) numbers, level by level.

    Raises ValueError for none.
    """
    if not len(numbers):
        raise ValueError("a sum over nothing has no value")
    while len(numbers) > 1:
        even = len(numbers) & ~1
        pairs = numbers[:even:2] + numbers[1:even:2]
        numbers = pairs if even == len(numbers) else np.append(pairs, numbers[-1])
    return float(numbers[0])


def for_kernels(numbers: Sequence[float] | Vector) -> Vector:
    """A vector as compiled code takes it, the same one if it is like that already.

    What came from bytes is read-only, which is another type: code would be compiled for it again.
    """
    if type(numbers) is np.ndarray and numbers.dtype == np.float64 and numbers.flags.carray:
        return numbers
    return np.require(numbers, np.float64, ("C", "ALIGNED", "WRITEABLE"))


def all_finite(numbers: Vector) -> bool:
    """Whether no number is infinite or NaN."""
    return 0 not in np.isfinite(numbers).tobytes()  # half of what all() takes for short ones
