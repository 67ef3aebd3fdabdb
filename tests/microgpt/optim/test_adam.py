"""Adam against microgpt.py's loop, written out in ``reference_microgpt``."""

from __future__ import annotations

import math
import random
from array import array
from dataclasses import FrozenInstanceError
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.optim.adam import AdamConfig, AdamState, bias_corrections, init, learning_rate, update
from microgpt.parameters import to_bytes
from tests.reference_microgpt import adam as reference

QUICK = settings(derandomize=True, deadline=None, max_examples=60, database=None)
MODERATE = st.floats(-1e6, 1e6)


def run(
    config: AdamConfig, params: list[float], gradients: list[list[float]], num_steps: int
) -> tuple[list[float], AdamState]:
    state = init(len(params))
    for step, gradient in enumerate(gradients):
        params, state = update(config, params, gradient, state, step, num_steps)
    return params, state


def test_defaults_are_microgpts() -> None:
    assert AdamConfig().to_dict() == {
        "learning_rate": 0.01,
        "beta1": 0.85,
        "beta2": 0.99,
        "eps": 1e-8,
    }


def test_state_starts_from_zero() -> None:
    assert init(3) == AdamState([0.0] * 3, [0.0] * 3)
    assert init(0) == ([], [])


@QUICK
@given(
    st.lists(st.tuples(MODERATE, MODERATE, MODERATE), min_size=1, max_size=6), st.integers(6, 50)
)
def test_bits_are_those_of_the_formula(gradients: list[tuple[float, ...]], num_steps: int) -> None:
    start = [0.5, -0.25, 1e-3]
    steps = [list(gradient) for gradient in gradients]
    params, state = run(AdamConfig(), start, steps, num_steps)
    expected, m, v = reference(start, steps, num_steps)
    assert to_bytes(params) == to_bytes(expected)
    assert to_bytes(state.m) == to_bytes(m)
    assert to_bytes(state.v) == to_bytes(v)


def test_other_hyperparameters_over_a_whole_run() -> None:
    rng = random.Random(3)
    start = [rng.gauss(0, 0.08) for _ in range(20)]
    gradients = [[rng.gauss(0, 1.0) for _ in start] for _ in range(60)]
    config = AdamConfig(learning_rate=0.03, beta1=0.9, beta2=0.999, eps=1e-6)
    params, state = run(config, start, gradients, 60)
    expected, m, v = reference(start, gradients, 60, 0.03, 0.9, 0.999, 1e-6)
    assert to_bytes(params) == to_bytes(expected)
    assert to_bytes([*state.m, *state.v]) == to_bytes([*m, *v])


def test_power_and_root_are_those_of_the_c_library() -> None:
    """Where g**2 is not g*g, or v**0.5 not sqrt(v), the powers are meant."""
    rng = random.Random(4)
    gradient = [rng.gauss(0, 1) for _ in range(20_000)]
    zeros = [0.0] * len(gradient)
    params, state = update(AdamConfig(), zeros, gradient, init(len(gradient)), 0, 10)
    expected, m, v = reference(zeros, [gradient], 10)
    assert to_bytes(params) == to_bytes(expected)
    assert to_bytes([*state.m, *state.v]) == to_bytes([*m, *v])


def test_first_step_has_the_size_of_the_learning_rate() -> None:
    params, _ = update(AdamConfig(), [1.0, 1.0, 1.0], [5.0, -0.001, 0.0], init(3), 0, 1000)
    assert params == pytest.approx([0.99, 1.01, 1.0], abs=1e-6)


def test_descends_to_the_minimum() -> None:
    config, params, state = AdamConfig(learning_rate=0.1), [3.0, -2.0], init(2)
    for step in range(300):
        gradient = [2 * (params[0] - 1), 8 * (params[1] - 0.5)]
        params, state = update(config, params, gradient, state, step, 300)
    assert params == pytest.approx([1.0, 0.5], abs=1e-3)


def test_learning_rate_falls_linearly_to_zero() -> None:
    config = AdamConfig(learning_rate=0.01)
    rates = [learning_rate(config, step, 1000) for step in range(1001)]
    assert rates[0] == 0.01
    assert rates[500] == 0.005
    assert rates[999] == 0.01 * (1 - 999 / 1000)
    assert rates[1000] == 0.0
    assert all(a > b for a, b in pairwise(rates))


def test_bias_corrections_begin_with_one_minus_beta() -> None:
    config = AdamConfig()
    assert bias_corrections(config, 0) == (1 - 0.85, 1 - 0.99)
    assert bias_corrections(config, 9) == (1 - 0.85**10, 1 - 0.99**10)


def test_nothing_given_is_changed() -> None:
    params, gradient = [1.0, 2.0], [0.5, -0.5]
    state = AdamState([0.1, 0.2], [0.3, 0.4])
    first = update(AdamConfig(), params, gradient, state, 3, 10)
    assert (params, gradient, state) == ([1.0, 2.0], [0.5, -0.5], ([0.1, 0.2], [0.3, 0.4]))
    assert update(AdamConfig(), params, gradient, state, 3, 10) == first  # and so it is repeatable


def test_arrays_give_the_same_bits_as_lists() -> None:
    rng = random.Random(5)
    lists = [[rng.gauss(0, 1) for _ in range(50)] for _ in range(3)]
    state = AdamState(lists[2], [abs(x) for x in lists[0]])
    m, v = array("d", state.m), array("d", state.v)
    by_list = update(AdamConfig(), lists[0], lists[1], state, 2, 10)
    arrays = [array("d", numbers) for numbers in lists]
    by_array = update(AdamConfig(), arrays[0], arrays[1], AdamState(m, v), 2, 10)
    assert to_bytes(by_array[0]) == to_bytes(by_list[0])
    assert to_bytes([*by_array[1].m, *by_array[1].v]) == to_bytes([*by_list[1].m, *by_list[1].v])
    assert (list(m), list(v)) == (state.m, state.v)


@pytest.mark.parametrize("lengths", [(3, 2, 2, 2), (2, 3, 2, 2), (2, 2, 3, 2), (2, 2, 2, 1)])
def test_lengths_must_agree(lengths: tuple[int, int, int, int]) -> None:
    params, gradient, m, v = ([0.0] * length for length in lengths)
    with pytest.raises(ValueError, match="zip"):
        update(AdamConfig(), params, gradient, AdamState(m, v), 0, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": -0.1}, "learning_rate cannot be negative"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number"),
        ({"learning_rate": math.inf}, "learning_rate must be a finite number"),
        ({"learning_rate": "0.1"}, "learning_rate must be a number, not '0.1'"),
        ({"learning_rate": None}, "learning_rate must be a number"),
        ({"beta1": 1.0}, r"beta1 must lie in \[0, 1\), not 1.0"),
        ({"beta1": -0.1}, r"beta1 must lie in \[0, 1\)"),
        ({"beta2": 1}, r"beta2 must lie in \[0, 1\)"),
        ({"beta2": 1.5}, r"beta2 must lie in \[0, 1\)"),
        ({"beta2": True}, "beta2 must be a number"),
        ({"eps": 0.0}, "eps must be positive"),
        ({"eps": -1e-8}, "eps must be positive"),
        ({"eps": math.nan}, "eps must be a finite number"),
    ],
)
def test_hyperparameters_outside_their_ranges(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamConfig(**wrong)


def test_limits_that_are_allowed() -> None:
    config = AdamConfig(learning_rate=0, beta1=0, beta2=0)
    assert all(type(number) is float for number in config.to_dict().values())
    params, _ = update(config, [1.0], [123.0], init(1), 0, 10)
    assert params == [1.0]


def test_config_is_frozen_and_comes_back_from_its_map() -> None:
    config = AdamConfig(beta1=0.5)
    with pytest.raises(FrozenInstanceError):
        config.beta1 = 0.6  # type: ignore[misc]
    assert AdamConfig(**config.to_dict()) == config
