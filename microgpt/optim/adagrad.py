"""AdaGrad (Duchi, Hazan and Singer, JMLR 12, 2011), with a diagonal matrix.

    s <- s + g * g
    w <- w - eta * g / (sqrt(s) + eps)

Each weight has a rate of its own, which falls with all gradients that it has ever had. With the
rate 0.1 the loss of the names falls faster than with 0.01; eps = 1e-10 is PyTorch's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_numbers
from microgpt.optim.optimizer import Slots, check_vectors


@dataclass(frozen=True)
class AdaGrad:
    """Rates that fall with the squares seen. Raises ValueError for an eps that is not positive."""

    learning_rate: float = 0.1
    eps: float = 1e-10

    def __post_init__(self) -> None:
        check_numbers(self, positive=("eps",))

    def init(self, num_params: int) -> dict[str, Vector]:
        """No squares seen."""
        return {"squares": np.zeros(num_params)}

    @np.errstate(over="ignore", invalid="ignore")
    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        check_vectors(params, gradient, slots, "squares")
        squares = slots["squares"] + gradient * gradient
        return params - rate * gradient / (np.sqrt(squares) + self.eps), {"squares": squares}
