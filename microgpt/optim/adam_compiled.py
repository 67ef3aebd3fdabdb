"""``microgpt.optim.adam`` for vectors: the same interface and bits, a thousand times faster.

The coordinator runs it on every step, so this module must not import ``microgpt.engine``.
"""

from __future__ import annotations

import numpy as np

from microgpt.numerics import jit
from microgpt.numerics.libm import power
from microgpt.numerics.simd import load, offset, pointer, splat, store
from microgpt.numerics.vectors import Vector, for_kernels
from microgpt.optim import adam
from microgpt.optim.adam import AdamConfig, AdamState

LANES = 8
EIGHT = (0,) * LANES


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
    rate = adam.learning_rate(config, step, num_steps)
    return update_at(config, params, gradient, state, step, rate)


def update_at(
    config: AdamConfig,
    params: Vector,
    gradient: Vector,
    state: AdamState,
    step: int,
    rate: float,
) -> tuple[Vector, AdamState]:
    """``update`` at any learning rate ``rate``; the configuration's is not looked at."""
    p, g, m, v = (for_kernels(x) for x in (params, gradient, state.m, state.v))
    if not len(p) == len(g) == len(m) == len(v):
        lengths = ", ".join(str(len(vector)) for vector in (p, g, m, v))
        raise ValueError(f"parameters, gradient, m and v differ in length: {lengths}")
    correction1, correction2 = adam.bias_corrections(config, step)
    numbers = np.array([rate, config.beta1, config.beta2, config.eps, correction1, correction2])
    new = np.empty((3, len(p)))
    _update(numbers, p, g, m, v, new, np.empty(3 * LANES))
    return new[0], _state(new[1], new[2])


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
    scratch: Vector,
) -> None:
    """Parameters, m and v as the rows of ``new``. ``scratch``: (3 * LANES,), written."""
    rate, beta1, beta2, eps = numbers[0], numbers[1], numbers[2], numbers[3]
    correction1, correction2 = numbers[4], numbers[5]
    rest1, rest2 = 1.0 - beta1, 1.0 - beta2
    whole = len(params) // LANES
    square = pointer(scratch)
    v_hat, root = offset(square, LANES), offset(square, 2 * LANES)
    p, g, old_m, old_v = pointer(params), pointer(gradient), pointer(m), pointer(v)
    new_p = pointer(new)
    new_m, new_v = offset(new_p, len(params)), offset(new_p, 2 * len(params))
    for i in range(whole):
        power(square, 0, g, i, 2.0, EIGHT)
        a = splat(beta1, EIGHT) * load(old_m, i, EIGHT) + splat(rest1, EIGHT) * load(g, i, EIGHT)
        b = splat(beta2, EIGHT) * load(old_v, i, EIGHT)
        b = b + splat(rest2, EIGHT) * load(square, 0, EIGHT)
        store(v_hat, 0, b / splat(correction2, EIGHT))
        power(root, 0, v_hat, 0, 0.5, EIGHT)
        slope = splat(rate, EIGHT) * (a / splat(correction1, EIGHT))
        slope = slope / (load(root, 0, EIGHT) + splat(eps, EIGHT))
        store(new_p, i, load(p, i, EIGHT) - slope)
        store(new_m, i, a)
        store(new_v, i, b)
    for i in range(whole * LANES, len(params)):
        new_m[i] = beta1 * m[i] + rest1 * gradient[i]
        new_v[i] = beta2 * v[i] + rest2 * gradient[i] ** 2.0
        slope_i = rate * (new_m[i] / correction1)
        new_p[i] = params[i] - slope_i / ((new_v[i] / correction2) ** 0.5 + eps)
