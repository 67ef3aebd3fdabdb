"""``centered-clip``: no vector moves the result by more than tau (Karimireddy et al., 2012.10333).

    m_i <- beta * m_i + (1 - beta) * x_i                      (m_i <- x_i in the first round)
    v <- v + (1 / n) * sum of (m_i - v) * min(1, tau / ||m_i - v||),  L times

``v`` is the result, and the center of the next round; it begins with zeros. ``m_i`` is the worker
momentum of the paper's algorithm 2: it takes away the noise behind which attacks hide that do a
little harm every time. Here it is kept beside ``v`` for each place, which for honest replicas comes
to the same and lets a replica be lost. tau = 10 and beta = 0.9 as in the paper's experiments; L = 1
is enough as each round begins where the one before has ended. n may be any number; f replicas that
mean harm move ``v`` by at most f * tau / n in each of the L turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from microgpt.aggregation.base import Combined, Matrix, mean_of, stacked
from microgpt.numerics.reductions import norm
from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_count, check_numbers
from microgpt.optim.optimizer import Slots


@dataclass(frozen=True)
class CenteredClip:
    """Clipping about the last result. Raises ValueError for options that cannot be.

    Its slots are ``center`` and, unless the momentum is 0, ``momentum.I`` for each place I that
    there has been.
    """

    tau: float = 10.0
    iterations: int = 1
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self, below_one=("momentum",), positive=("tau",))
        check_count(self, "iterations", 1)

    def least(self) -> int:
        """One is enough."""
        return 1

    def init(self, num_params: int) -> dict[str, Vector]:
        """The first center: zeros."""
        return {"center": np.zeros(num_params)}

    @np.errstate(over="ignore", invalid="ignore")
    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """See ``Aggregation.combine``. Raises ValueError for slots without a center, too."""
        rows = stacked(vectors, self.least())
        if "center" not in slots or slots["center"].shape != rows[0].shape:
            raise ValueError(f"there must be a slot center of the vectors' shape {rows[0].shape}")
        after = dict(slots)
        if self.momentum:
            rows = self._with_momentum(rows, slots)
            after |= {f"momentum.{place}": row for place, row in enumerate(rows)}
        center = slots["center"]
        for _ in range(self.iterations):
            center = center + mean_of(np.array([self._clipped(row - center) for row in rows]))
        return Combined(center, after | {"center": center})

    def _with_momentum(self, rows: Matrix, slots: Slots) -> Matrix:
        before = [slots.get(f"momentum.{place}") for place in range(len(rows))]
        new = [
            row if old is None else self.momentum * old + (1.0 - self.momentum) * row
            for old, row in zip(before, rows, strict=True)
        ]
        return np.array(new)

    def _clipped(self, apart: Vector) -> Vector:
        largest = float(np.abs(apart).max(initial=0.0))
        if largest == 0.0:
            return apart
        direction = apart / largest  # whose norm cannot overflow, as that of the largest may
        length = norm(direction)
        return apart if largest * length <= self.tau else direction * (self.tau / length)
