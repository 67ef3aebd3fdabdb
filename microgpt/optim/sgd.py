"""Stochastic gradient descent (Robbins and Monro, 1951).

    w <- w - eta * g

As an outer optimizer at rate 1 it takes the mean of the replicas' weights as it is, which is plain
local SGD (arXiv 1805.09767) or federated averaging (arXiv 1602.05629).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_numbers
from microgpt.optim.optimizer import Slots, check_vectors


@dataclass(frozen=True)
class SGD:
    """Plain steps along the gradient; no state. Raises ValueError for a rate below 0."""

    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self)

    def init(self, num_params: int) -> dict[str, Vector]:
        """Nothing is remembered."""
        return {}

    @np.errstate(over="ignore", invalid="ignore")
    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        check_vectors(params, gradient, slots)
        return params - rate * gradient, {}
