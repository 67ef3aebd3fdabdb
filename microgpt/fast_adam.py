"""``microgpt.adam`` for vectors: the same interface and the same bits, a thousand times faster.

The coordinator runs it on every step, so this module must not import ``microgpt.engine``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microgpt import adam, jit
from microgpt.adam import AdamConfig, AdamState

Vector = NDArray[np.float64]


def init(num_params: int) -> AdamState:
    """The state before the first step: zeros, (num_params,) float64."""
    zeros = np.zeros(num_params)
    return _state(zeros, zeros.copy())


def update(
    config: AdamConfig,
    params: Vector,
    gradient: Vector,
    state: AdamState,
    step: int,
    num_steps: int,
) -> tuple[Vector, AdamState]:
    """New parameters and state after step ``step`` (from 0) of ``num_steps``; nothing is changed.

    All vectors are (num_params,) float64, and so are the results. Raises ValueError for vectors of
    different lengths.
    """
    p, g, m, v = (_vector(x) for x in (params, gradient, state.m, state.v))
    if not len(p) == len(g) == len(m) == len(v):
        lengths = ", ".join(str(len(vector)) for vector in (p, g, m, v))
        raise ValueError(f"parameters, gradient, m and v differ in length: {lengths}")
    correction1, correction2 = adam.bias_corrections(config, step)
    numbers = np.array(
        [
            adam.learning_rate(config, step, num_steps),
            config.beta1,
            config.beta2,
            config.eps,
            correction1,
            correction2,
        ]
    )
    new = np.empty((3, len(p)))
    _update(numbers, p, g, m, v, new, 2.0, 0.5)
    return new[0], _state(new[1], new[2])


def _vector(x: Sequence[float] | Vector) -> Vector:
    return np.ascontiguousarray(x, dtype=np.float64)


def _state(m: Vector, v: Vector) -> AdamState:
    return AdamState(m, v)  # type: ignore[arg-type]  # an ndarray is a sequence of floats


@jit.entry
def _update(
    numbers: Vector,
    params: Vector,
    gradient: Vector,
    m: Vector,
    v: Vector,
    new: Vector,
    two: float,
    half: float,
) -> None:
    rate, beta1, beta2, eps, correction1, correction2 = numbers
    for i in range(len(params)):
        new_m = beta1 * m[i] + (1 - beta1) * gradient[i]
        new_v = beta2 * v[i] + (1 - beta2) * gradient[i] ** two
        m_hat, v_hat = new_m / correction1, new_v / correction2
        new[0, i] = params[i] - rate * m_hat / (v_hat**half + eps)
        new[1, i] = new_m
        new[2, i] = new_v
