"""Sums over many numbers whose bits are the same on every machine.

NumPy's own sums add in an order that depends on the processor's vector width, and its products of
matrices are a BLAS's. Here every sum is the pairwise tree of ``microgpt.optim.reduction``.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgpt.numerics.vectors import Vector

#: The largest finite number.
LARGEST = sys.float_info.max


def tree_sum_rows(numbers: NDArray[Any]) -> NDArray[Any]:
    """(n, ...) float64 summed over the first axis by the pairwise tree, level by level: (...).

    Raises ValueError for no rows.
    """
    if not len(numbers):
        raise ValueError("a sum over nothing has no value")
    while len(numbers) > 1:
        even = len(numbers) & ~1
        pairs = numbers[:even:2] + numbers[1:even:2]
        numbers = pairs if even == len(numbers) else np.concatenate([pairs, numbers[-1:]])
    result: NDArray[Any] = numbers[0]
    return result


def product(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, m) times (m, k): (n, k), each sum by the pairwise tree over the m products."""
    return tree_sum_rows(left.T[:, :, None] * right[:, None, :])


def bounded_sum_rows(numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    """``tree_sum_rows``, where sums beyond the range are the largest finite number of their sign.

    The numbers must be of one sign, and finite.
    """
    with np.errstate(over="ignore"):
        sums: NDArray[np.float64] = np.clip(tree_sum_rows(numbers), -LARGEST, LARGEST)
    return sums


def norm(numbers: Vector) -> float:
    """The Euclidean norm of (n,) finite numbers; see ``norms``."""
    return float(norms(numbers[None, :])[0])


def norms(rows: NDArray[np.float64]) -> Vector:
    """(n,) the Euclidean norms of (n, m) finite numbers.

    Squares neither overflow nor vanish: a row's largest magnitude is taken out before. A norm
    beyond the range of binary64 is its largest finite number. Raises ValueError if m is 0.
    """
    largest = np.abs(rows).max(axis=1)
    parts = rows / np.where(largest == 0.0, 1.0, largest)[:, None]
    with np.errstate(over="ignore"):
        # The root is finite, from 1 to the root of m; only this product may leave the range.
        found: Vector = np.minimum(largest * np.sqrt(tree_sum_rows((parts * parts).T)), LARGEST)
    return found
