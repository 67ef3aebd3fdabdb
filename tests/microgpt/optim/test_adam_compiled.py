"""``fast_adam`` has the bits of ``adam``, and powers and exp those of the C library."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.numerics import libm
from microgpt.numerics.jit import entry
from microgpt.numerics.simd import pointer
from microgpt.numerics.vectors import Vector
from microgpt.optim import adam, adam_compiled
from microgpt.optim.adam import AdamConfig

MANY = 1 << 19
EIGHT = (0,) * 8

numbers = st.floats(-1e150, 1e150) | st.floats(-1e-160, 1e-160) | st.just(0.0)


@entry
def powers(out: Any, x: Any, exponent: float) -> None:
    for i in range(len(x) // 8):
        libm.power(pointer(out), i, pointer(x), i, exponent, EIGHT)


@entry
def exponentials(out: Any, x: Any) -> None:
    for i in range(len(x) // 8):
        libm.exponential(pointer(out), i, pointer(x), i, EIGHT)


def python_power(x: float, exponent: float) -> float:
    """``x ** exponent`` of Python's floats, with C's results where Python raises."""
    try:
        power = x**exponent
    except OverflowError:
        return math.inf
    except ZeroDivisionError:
        return math.copysign(math.inf, x) if exponent % 2 == 1 else math.inf
    return math.nan if isinstance(power, complex) else power


def differing(found: Vector, expected: list[float]) -> int:
    reference = np.array(expected)
    both_nan = np.isnan(found) & np.isnan(reference)
    return int(((found.view(np.int64) != reference.view(np.int64)) & ~both_nan).sum())


DRAWS: dict[str, Callable[[np.random.Generator], Vector]] = {
    "around one": lambda rng: rng.uniform(0.25, 4.0, MANY),
    "wide": lambda rng: 10.0 ** rng.uniform(-30.0, 30.0, MANY),
    "extreme": lambda rng: 10.0 ** rng.uniform(-323.0, 308.0, MANY // 8),
    "near one": lambda rng: 1.0 + rng.integers(-99999, 99999, MANY // 8).astype(float) * 2.0**-52,
    "powers of two": lambda rng: np.ldexp(1.0, rng.integers(-1074, 1024, MANY // 8)),
    "squares": lambda rng: rng.integers(1, 2**26, MANY // 8).astype(float) ** 2,
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("exponent", [2.0, 1.0, 0.5, -0.5, -1.0, -1.5, -2.0])
def test_powers_have_the_bits_of_python(exponent: float, draw: str) -> None:
    x = DRAWS[draw](np.random.default_rng(1))
    out = np.empty_like(x)
    powers(out, x, exponent)
    assert differing(out, [python_power(value, exponent) for value in x.tolist()]) == 0


def test_powers_of_special_numbers() -> None:
    smallest = math.ulp(0.0)
    x = np.array([0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, smallest, -2.0, -0.3] * 4)
    for exponent in (3.0, 2.0, 1.0, 0.5, -0.5, -1.0, -1.5, -2.0, 0.37):
        out = np.empty_like(x)
        powers(out, x, exponent)
        assert differing(out, [python_power(value, exponent) for value in x.tolist()]) == 0


@pytest.mark.parametrize(
    ("low", "high", "count"),
    [(-40.0, 0.0, MANY), (-1.0, 1.0, MANY), (-1e-5, 1e-5, MANY // 8), (-750.0, 709.0, MANY // 8)],
)
def test_exp_has_the_bits_of_python(low: float, high: float, count: int) -> None:
    x = np.random.default_rng(2).uniform(low, high, count)
    out = np.empty_like(x)
    exponentials(out, x)
    assert differing(out, [math.exp(value) for value in x.tolist()]) == 0


def test_exp_of_special_numbers() -> None:
    x = np.array([0.0, -0.0, math.inf, -math.inf, math.nan, 710.0, -746.0, 1e-300])
    out = np.empty_like(x)
    exponentials(out, x)
    expected = [1.0, 1.0, math.inf, 0.0, math.nan, math.inf, 0.0, 1.0]
    assert differing(out, expected) == 0


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=40), st.integers(0, 99))
def test_same_bits_as_the_definition(rows: list[tuple[float, float, float]], step: int) -> None:
    params, gradient, m = (list(column) for column in zip(*rows, strict=True))
    v = [abs(x) for x in gradient]
    expected, (expected_m, expected_v) = adam.update(
        AdamConfig(), params, gradient, adam.AdamState(m, v), step, 100
    )
    state = adam.AdamState(np.array(m), np.array(v))  # type: ignore[arg-type]
    found, (found_m, found_v) = adam_compiled.update(
        AdamConfig(), np.array(params), np.array(gradient), state, step, 100
    )
    assert differing(found, expected) == 0
    assert differing(np.asarray(found_m), list(expected_m)) == 0
    assert differing(np.asarray(found_v), list(expected_v)) == 0


def test_same_bits_over_many_steps() -> None:
    rng = np.random.default_rng(3)
    size = 1003
    params = rng.normal(size=size)
    slow, state = params.tolist(), adam.init(size)
    fast, fast_state = params, adam_compiled.init(size)
    for step in range(50):
        gradient = rng.normal(size=size) * 10.0 ** rng.integers(-12, 2, size)
        gradient[step::7] = 0.0
        slow, state = adam.update(AdamConfig(), slow, gradient.tolist(), state, step, 50)
        fast, fast_state = adam_compiled.update(AdamConfig(), fast, gradient, fast_state, step, 50)
    assert differing(fast, slow) == 0
    assert differing(np.asarray(fast_state.v), list(state.v)) == 0


def test_nothing_is_changed_in_place() -> None:
    params, gradient = np.ones(9), np.full(9, 0.5)
    state = adam_compiled.init(9)
    new, new_state = adam_compiled.update(AdamConfig(), params, gradient, state, 0, 10)
    assert (params == 1.0).all()
    assert not np.any(state.m)
    assert not np.any(state.v)
    kept = new.copy()
    adam_compiled.update(AdamConfig(), new, gradient, new_state, 1, 10)
    assert (new == kept).all()


def test_vectors_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="differ in length: 3, 2, 3, 3"):
        adam_compiled.update(AdamConfig(), np.ones(3), np.ones(2), adam_compiled.init(3), 0, 10)
