"""``multi-krum``: the mean of the vectors with Krum's best scores (Blanchard et al., 1703.02757).

    Multi-Krum(V_1 ... V_n) = (1 / m) * sum of the m vectors with the least s(i)

with the scores of ``microgpt.aggregation.krum``, between Krum (m = 1) and the mean (m = n). By
default m = n - f, which uses as many as are honest; ``m=0`` stands for that. n >= 2f + 3 and n >= m
are needed. Of equal scores the one of the lower place is taken; the sum is in the order of places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, mean_of, stacked
from microgpt.aggregation.krum import scores, squared_distances
from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_count
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class MultiKrum:
    """The mean of the best vectors. Raises ValueError for an f or m below 0."""

    f: int = 1
    m: int = 0

    def __post_init__(self) -> None:
        check_count(self, "f", 0)
        check_count(self, "m", 0)

    def least(self) -> int:
        """As many as Krum, and as many as are taken."""
        return max(2 * self.f + 3, self.m)

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        rows = stacked(vectors, self.least())
        taken = self.m or len(rows) - self.f
        order = np.argsort(
            scores(squared_distances(rows), len(rows) - self.f - 2), kind="stable"
        ).tolist()
        return Combined(mean_of(rows[sorted(order[:taken])]), {}, tuple(sorted(order[taken:])))
