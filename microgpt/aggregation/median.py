"""``median``: the median of each parameter on its own (Yin et al., arXiv 1803.01498, definition 1).

    med{x^1 ... x^m}_k = the one-dimensional median of x^1_k ... x^m_k

For an even number of vectors it is half the sum of the two in the middle. As long as more than half
of the vectors are honest, each parameter lies between honest ones. No options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, ascending, stacked
from microgpt.numerics.vectors import Vector
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class Median:
    """The coordinate-wise median."""

    def least(self) -> int:
        """One is enough; three are, to bear one that means harm."""
        return 1

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        ordered = ascending(stacked(vectors, self.least()))
        half = len(ordered) // 2
        if len(ordered) % 2:
            return Combined(ordered[half], {})
        return Combined((ordered[half - 1] + ordered[half]) * 0.5, {})
