"""microgpt.py's Adam (``microgpt.optim.adam``) as one optimizer among others, with its bits.

    m <- beta1 * m + (1 - beta1) * g        v <- beta2 * v + (1 - beta2) * g^2
    w <- w - eta * m_hat / (v_hat^0.5 + eps)

Powers are the C library's, as in microgpt.py, so the bits are those of one platform.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.optim.adam import AdamConfig, AdamState
from microgpt.optim.optimizer import Slots, check_vectors


@dataclass(frozen=True)
class Adam(AdamConfig):
    """Adam (Kingma and Ba, arXiv 1412.6980) with the options of ``AdamConfig``, and its errors."""

    def init(self, num_params: int) -> dict[str, Vector]:
        """Means of nothing."""
        return {"m": np.zeros(num_params), "v": np.zeros(num_params)}

    def update(
        self, params: Vector, gradient: Vector, slots: Slots, step: int, rate: float
    ) -> tuple[Vector, dict[str, Vector]]:
        """See ``Optimizer.update``."""
        from microgpt.optim import adam_compiled  # loads the compiler, which few processes need

        check_vectors(params, gradient, slots, "m", "v")
        before = AdamState(slots["m"], slots["v"])  # type: ignore[arg-type]  # they are sequences
        new, after = adam_compiled.update_at(self, params, gradient, before, step, rate)
        return new, {"m": np.asarray(after.m), "v": np.asarray(after.v)}
