"""Sums over many numbers whose bits are the same on every machine.

NumPy's own sums add in an order that depends on the processor's vector width, and its products of
matrices are a BLAS's. Here every sum is the pairwise tree of ``microgpt.optim.reduction``.
"""

from __future__ import annotations

import sys
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microgpt.numerics.vectors import Vector, tree_sum_of

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


def norm(numbers: Vector) -> float:
    """The Euclidean norm of (n,) finite numbers.

    Squares neither overflow nor vanish: the largest magnitude is taken out before. A norm beyond
    the range of binary64 is its largest finite number.
    """
    largest = float(np.abs(numbers).max(initial=0.0))
    if largest == 0.0:
        return 0.0
    parts = numbers / largest
    # Finite numbers in [1, n]; only the last product may leave the range.
    return min(largest * sqrt(tree_sum_of(parts * parts)), LARGEST)
