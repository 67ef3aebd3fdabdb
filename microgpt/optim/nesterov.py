"""Gradient descent with Nesterov's momentum (Nesterov, 1983), in PyTorch's form.

    v <- mu * v + g
    w <- w - eta * (g + mu * v)

The weights stand where the velocity is about to carry them, so the gradient is one of the place
ahead (Sutskever et al., 2013). The defaults are those of DiLoCo's outer step (arXiv 2311.08105),
where ``g`` is the mean of the replicas' ``theta - theta_i``: eta = 0.7, mu = 0.9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_numbers
from microgpt.optim.optimizer import Slots, check_vectors


@dataclass(frozen=True)
class Nesterov:
    """Nesterov's momentum. Raises ValueError for a momentum outside [0, 1)."""

    learning_rate: float = 0.7
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self, below_one=("momentum",))

    def init(self, num_params: int) -> dict[str, Vector]:
        """No velocity yet."""
        return {"velocity": np.zeros(num_params)}

    @np.errstate(over="ignore", invalid="ignore")
    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        check_vectors(params, gradient, slots, "velocity")
        velocity = self.momentum * slots["velocity"] + gradient
        return params - rate * (gradient + self.momentum * velocity), {"velocity": velocity}
