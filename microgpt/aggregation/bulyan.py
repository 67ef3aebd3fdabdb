"""``bulyan``: Krum's choices, and of those the middle (El Mhamdi et al., arXiv 1802.07927).

Krum alone may choose a vector that is near in almost all parameters and far off in one. Bulyan
first takes theta = n - 2f vectors, one by one: each time the one that Krum chooses of those left.
Of these, for each parameter k on its own:

    Bulyan_k = (1 / beta) * sum of the beta = theta - 2f numbers closest to the median of all theta

The median is one of the numbers, the lower one of the two in the middle; of two numbers equally
close the lower one is taken. n >= 4f + 3 is needed; f = 1 by default, which is as many as seven
replicas bear. With f or fewer that mean harm, the median lies between honest numbers, and no number
that counts is farther from it than an honest one.

As the last of the theta are chosen, Krum's k - f - 2 neighbours among k vectors come down to one,
and further, where one is looked at still. Two vectors that are each other's nearest have the same
score then, and the one of the lower place is taken: so the order of replicas may matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, Matrix, ascending, mean_of, stacked
from microgpt.aggregation.krum import scores, squared_distances
from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_count
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class Bulyan:
    """Krum again and again, then a trimmed mean about the median. Raises ValueError for f < 0."""

    f: int = 1

    def __post_init__(self) -> None:
        check_count(self, "f", 0)

    def least(self) -> int:
        """So many that beta is at least 3."""
        return 4 * self.f + 3

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        rows = stacked(vectors, self.least())
        left = self._left(squared_distances(rows))
        chosen = [place for place in range(len(rows)) if place not in left]
        near = closest_to_median(rows[chosen], len(chosen) - 2 * self.f)
        return Combined(mean_of(near), {}, tuple(left))

    def _left(self, distances: Matrix) -> list[int]:
        """The places that are left once theta have been chosen, ascending."""
        left = list(range(len(distances)))
        while len(left) > 2 * self.f:
            among = distances[np.ix_(left, left)]
            neighbours = min(max(len(left) - self.f - 2, 1), len(left) - 1)
            del left[int(np.argmin(scores(among, neighbours))) if neighbours else 0]
        return left


def closest_to_median(rows: Matrix, count: int) -> Matrix:
    """(count, num_params): of each column the numbers closest to its median, ascending."""
    ordered = ascending(rows)
    apart = np.abs(ordered - ordered[(len(ordered) - 1) // 2])
    # They stand side by side: it is enough to know how many below them are farther than above.
    spare = len(ordered) - count
    first = np.add.reduce(apart[count:] < apart[:spare], axis=0)  # of whole numbers, exact
    return np.take_along_axis(ordered, first + np.arange(count)[:, None], axis=0)
