"""Gradient descent with momentum, the heavy ball (Polyak, 1964).

    v <- mu * v + g
    w <- w - eta * v

``v`` is a sum of gradients, as in PyTorch, and not of steps: a change of the rate acts on all of it
at once. With a constant gradient it grows to ``g / (1 - mu)``, so 0.9 makes steps ten times as long
as plain ones; mu = 0.9 is the usual choice (Sutskever et al., 2013). The rate 0.5 is one that
trains the names well.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_numbers
from microgpt.optim.optimizer import Slots, check_vectors


@dataclass(frozen=True)
class Momentum:
    """Heavy-ball momentum. Raises ValueError for a momentum outside [0, 1)."""

    learning_rate: float = 0.5
    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_numbers(self, below_one=("momentum",))

    def init(self, num_params: int) -> dict[str, Vector]:
        """A ball at rest."""
        return {"velocity": np.zeros(num_params)}

    @np.errstate(over="ignore", invalid="ignore")
    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        check_vectors(params, gradient, slots, "velocity")
        velocity = self.momentum * slots["velocity"] + gradient
        return params - rate * velocity, {"velocity": velocity}
