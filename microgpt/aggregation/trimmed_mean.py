"""``trimmed-mean``: the mean without extremes (Yin et al., arXiv 1803.01498, definition 2).

    trmean_b{x^1 ... x^m}_k = mean of x^1_k ... x^m_k without the b * m largest and smallest

Here f = b * m, the number of vectors that may mean harm, is given: f = 1. With f or fewer of them
among n >= 2f + 1, each parameter lies between honest ones. The numbers that are left are added in
ascending order. ``f=0`` is the mean but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, ascending, mean_of, stacked
from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_count
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class TrimmedMean:
    """The coordinate-wise trimmed mean. Raises ValueError for an f below 0."""

    f: int = 1

    def __post_init__(self) -> None:
        check_count(self, "f", 0)

    def least(self) -> int:
        """One must be left."""
        return 2 * self.f + 1

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        ordered = ascending(stacked(vectors, self.least()))
        return Combined(mean_of(ordered[self.f : len(ordered) - self.f]), {})
