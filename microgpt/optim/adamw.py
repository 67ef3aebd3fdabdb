"""AdamW: Adam with decoupled weight decay (Loshchilov and Hutter, arXiv 1711.05101).

    m <- beta1 * m + (1 - beta1) * g
    v <- beta2 * v + (1 - beta2) * g * g
    w <- w * (1 - eta * lambda) - eta * m_hat / (sqrt(v_hat) + eps)

with ``m_hat = m / (1 - beta1^t)`` and ``v_hat = v / (1 - beta2^t)`` in step t = 1, 2, ... The decay
is multiplied by the rate in force, as in PyTorch: the paper's schedule multiplier times its lambda.
Rate, betas and eps are those of microgpt.py, whose runs are too short for the usual 0.9 and 0.999;
lambda = 0.01 is PyTorch's. With ``decay=0`` it is ``adam`` but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.checks import check_numbers
from microgpt.optim.optimizer import Slots, check_vectors, whole_power


@dataclass(frozen=True)
class AdamW:
    """Adam with decay. Raises ValueError for betas outside [0, 1), or an eps not above 0."""

    learning_rate: float = 0.01
    beta1: float = 0.85
    beta2: float = 0.99
    eps: float = 1e-8
    decay: float = 0.01

    def __post_init__(self) -> None:
        check_numbers(self, below_one=("beta1", "beta2"), positive=("eps",))

    def init(self, num_params: int) -> dict[str, Vector]:
        """Means of nothing."""
        return {"m": np.zeros(num_params), "v": np.zeros(num_params)}

    @np.errstate(over="ignore", invalid="ignore")
    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        check_vectors(params, gradient, slots, "m", "v")
        m = self.beta1 * slots["m"] + (1.0 - self.beta1) * gradient
        v = self.beta2 * slots["v"] + (1.0 - self.beta2) * (gradient * gradient)
        m_hat = m / (1.0 - whole_power(self.beta1, step + 1))
        v_hat = v / (1.0 - whole_power(self.beta2, step + 1))
        decayed = params * (1.0 - rate * self.decay)
        return decayed - rate * m_hat / (np.sqrt(v_hat) + self.eps), {"m": m, "v": v}
