"""``krum``: the vector that is closest to its neighbours (Blanchard et al., arXiv 1703.02757).

    s(i) = sum over i -> j of ||V_i - V_j||^2        Krum(V_1 ... V_n) = V_i* with the least s(i*)

where ``i -> j`` means that V_j is one of the n - f - 2 vectors closest to V_i. Of equal scores the
one of the lower place wins, as in the paper. n >= 2f + 3 is needed; f = 1 by default, which is as
many as five replicas bear. f vectors that lie farther off than all honest ones from each other have
no influence on the result whatsoever, however large they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, Matrix, stacked
from microgpt.numerics.reductions import tree_sum_rows
from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_count
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class Krum:
    """The vector with the best score. Raises ValueError for an f below 0."""

    f: int = 1

    def __post_init__(self) -> None:
        check_count(self, "f", 0)

    def least(self) -> int:
        """The paper's condition: ``2f + 2 < n``."""
        return 2 * self.f + 3

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        rows = stacked(vectors, self.least())
        best = int(np.argmin(scores(squared_distances(rows), len(rows) - self.f - 2)))
        rejected = tuple(place for place in range(len(rows)) if place != best)
        return Combined(rows[best], {}, rejected)


def squared_distances(rows: Matrix) -> Matrix:
    """(n, n) the squared Euclidean distances between n rows; those beyond binary64 are infinite."""
    distances = np.zeros((len(rows), len(rows)))
    for place in range(len(rows) - 1):
        apart = rows[place + 1 :] - rows[place]
        distances[place, place + 1 :] = tree_sum_rows((apart * apart).T)
    return distances + distances.T


def scores(distances: Matrix, neighbours: int) -> Vector:
    """(n,) for each of n vectors, the sum of squared distances to so many others closest to it."""
    # The first of a row in ascending order is the distance 0 to the vector itself.
    nearest = np.sort(distances, axis=1)[:, 1 : 1 + neighbours]
    result: Vector = tree_sum_rows(nearest.T)
    return result
