"""``mean``: the arithmetic mean, which trusts everybody.

    mean(x_1 ... x_n) = (1 / n) * (x_1 + ... + x_n)

The sum is the pairwise tree of ``microgpt.optim.reduction``. One vector that means harm moves the
result wherever it likes (Blanchard et al., arXiv 1703.02757, lemma 1). No options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, mean_of, stacked
from microgpt.numerics.vectors import Vector
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class Mean:
    """The arithmetic mean."""

    def least(self) -> int:
        """One is enough."""
        return 1

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``."""
        return Combined(mean_of(stacked(vectors, self.least())), {})
