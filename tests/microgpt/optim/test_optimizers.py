"""Each optimizer against an independent scalar reading of its paper, and against PyTorch.

``PYTORCH`` was made once with torch 2.15.0, ``torch.optim.Adam``, ``AdamW``, ``SGD`` (with
``momentum`` and ``nesterov``) and ``Adagrad`` on one float64 parameter ``START``: before each step
``param_groups[0]["lr"]`` was set to the rate times the step's entry of ``SCHEDULE``, and ``grad``
to its row of ``GRADIENTS``. The numbers are the parameter after each step.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.numerics.vectors import Vector
from microgpt.optim import adam
from microgpt.optim.adam import AdamConfig
from microgpt.optim.optimizer import Optimizer, OptimizerError, whole_power
from microgpt.optim.registry import OPTIMIZERS, describe_optimizer, load_optimizer

START = [0.5, -1.25, 3.0, 0.0]
GRADIENTS = [[0.1, -2.0, 0.003, 1.0], [-0.4, 0.5, 0.003, 0.0], [0.25, 1.5, -7.0, -1.0]]
SCHEDULE = [1.0, 0.5, 0.25]
PYTORCH = {
    "adam:learning_rate=0.01,beta1=0.85,beta2=0.99,eps=1e-8": [
        [0.4900000009999999, -1.24000000005, 2.990000033333222, -0.0099999999],
        [0.49291365960326117, -1.2377702046803258, 2.9850000499998335, -0.01325706273031542],
        [0.4929755529211596, -1.2380875374502567, 2.9866737487790345, -0.012926777174484174],
    ],
    "adamw:learning_rate=0.01,beta1=0.85,beta2=0.99,eps=1e-8,decay=0.01": [
        [0.4899500009999999, -1.23987500005, 2.989700033333222, -0.0099999999],
        [0.49283916210321116, -1.2375832109303233, 2.9845505649981665, -0.01325656273032042],
        [0.49288873444205694, -1.2378696041199808, 2.9861496500132425, -0.012925945760420917],
    ],
    "adamw:learning_rate=0.02,beta1=0.9,beta2=0.999,eps=1e-6,decay=0.3": [
        [0.47700019999800003, -1.222500009999995, 2.9620066644451852, -0.019999980000020002],
        [0.48116421515187296, -1.21413783147915, 2.9431239766744426, -0.02664055312297294],
        [0.4806346440047454, -1.2127303164009275, 2.9419010165361685, -0.026171254246879622],
    ],
    "sgd:0.3": [
        [0.47, -0.65, 2.9991, -0.3],
        [0.53, -0.725, 2.99865, -0.3],
        [0.51125, -0.8375, 3.52365, -0.22499999999999998],
    ],
    "momentum:learning_rate=0.1,momentum=0.9": [
        [0.49, -1.05, 2.9997, -0.1],
        [0.5055, -0.985, 2.999415, -0.14500000000000002],
        [0.5062249999999999, -0.99325, 3.17428675, -0.14025],
    ],
    "nesterov:learning_rate=0.7,momentum=0.9": [
        [0.367, 1.4099999999999997, 2.99601, -1.3299999999999998],
        [0.60465, 1.6444999999999996, 2.9931645000000002, -1.6135],
        [0.5654675, 1.3300249999999996, 5.319856525, -1.408575],
    ],
    "adagrad:learning_rate=0.01,eps=1e-10": [
        [0.49000000001, -1.2400000000005, 2.990000000333333, -0.009999999999],
        [0.4948507125095502, -1.241212678125623, 2.986464466510734, -0.009999999999],
        [0.493554522891406, -1.2426835491391017, 2.9889644660515144, -0.008232233046158631],
    ],
}  # fmt: skip


def path(
    optimizer: Optimizer, start: Sequence[float], gradients: Sequence[Sequence[float]]
) -> list[Vector]:
    """The weights after each step, with the rates of ``SCHEDULE`` again and again."""
    params, slots = np.array(start), optimizer.init(len(start))
    weights = []
    for step, gradient in enumerate(gradients):
        rate = optimizer.learning_rate * SCHEDULE[step % len(SCHEDULE)]
        params, slots = optimizer.update(params, np.array(gradient), slots, step, rate)
        weights.append(params)
    return weights


@pytest.mark.parametrize("spec", PYTORCH)
def test_numbers_of_pytorch(spec: str) -> None:
    ours = path(load_optimizer(spec), START, GRADIENTS)
    for mine, theirs in zip(ours, PYTORCH[spec], strict=True):
        assert mine == pytest.approx(theirs, rel=1e-12, abs=1e-15)


def test_every_optimizer_is_compared_with_pytorch() -> None:
    assert {spec.partition(":")[0] for spec in PYTORCH} == OPTIMIZERS.keys()


# The papers, read for one weight, with exact fractions and roots where they come.


def exact_root(x: Fraction) -> Fraction:
    """The square root to 60 digits."""
    scale = 10**120
    return Fraction(math.isqrt(x.numerator * scale // x.denominator), 10**60)


def read_sgd(w: Fraction, gs: list[Fraction], rates: list[Fraction]) -> Fraction:
    return w - sum((rate * g for rate, g in zip(rates, gs, strict=True)), Fraction(0))


def read_momentum(w: Fraction, gs: list[Fraction], rates: list[Fraction]) -> Fraction:
    """The velocity after step t is the sum of mu^(t-i) g_i."""
    mu = Fraction(0.9)
    for t, rate in enumerate(rates):
        w -= rate * sum((mu ** (t - i) * gs[i] for i in range(t + 1)), Fraction(0))
    return w


def read_nesterov(w: Fraction, gs: list[Fraction], rates: list[Fraction]) -> Fraction:
    """The gradient, and the velocity once more: g_t + sum of mu^(t-i+1) g_i."""
    mu = Fraction(0.9)
    for t, rate in enumerate(rates):
        w -= rate * (gs[t] + sum((mu ** (t - i + 1) * gs[i] for i in range(t + 1)), Fraction(0)))
    return w


def read_adagrad(w: Fraction, gs: list[Fraction], rates: list[Fraction]) -> Fraction:
    for t, rate in enumerate(rates):
        root = exact_root(sum((g * g for g in gs[: t + 1]), Fraction(0)))
        w -= rate * gs[t] / (root + Fraction(1e-10))
    return w


def read_adamw(w: Fraction, gs: list[Fraction], rates: list[Fraction]) -> Fraction:
    """Unrolled means, divided by the sum of their weights."""
    b1, b2, eps, decay = Fraction(0.85), Fraction(0.99), Fraction(1e-8), Fraction(0.01)
    for t, rate in enumerate(rates):
        places = range(t + 1)
        m_hat = sum(b1 ** (t - i) * gs[i] for i in places) / sum(b1 ** (t - i) for i in places)
        v_hat = sum(b2 ** (t - i) * gs[i] ** 2 for i in places) / sum(b2 ** (t - i) for i in places)
        w -= rate * (Fraction(m_hat) / (exact_root(Fraction(v_hat)) + eps) + decay * w)
    return w


@pytest.mark.parametrize(
    ("spec", "reading"),
    [
        ("sgd", read_sgd),
        ("momentum", read_momentum),
        ("nesterov", read_nesterov),
        ("adagrad", read_adagrad),
        ("adamw", read_adamw),
        ("adamw:decay=0.01", read_adamw),
    ],
)
def test_papers_read_with_exact_fractions(spec: str, reading: object) -> None:
    rng = random.Random(11)
    optimizer = load_optimizer(spec)
    start = [rng.gauss(0, 1) for _ in range(5)]
    gradients = [[rng.gauss(0, 10.0 ** rng.randint(-3, 3)) for _ in start] for _ in range(12)]
    rates = [optimizer.learning_rate * SCHEDULE[t % 3] for t in range(len(gradients))]
    ours = path(optimizer, start, gradients)[-1]
    for place, weight in enumerate(start):
        exact = reading(  # type: ignore[operator]
            Fraction(weight), [Fraction(g[place]) for g in gradients], [Fraction(r) for r in rates]
        )
        assert ours[place] == pytest.approx(float(exact), rel=1e-11)


def test_adam_has_the_bits_of_microgpts() -> None:
    rng = np.random.default_rng(7)
    config, num_params, steps = AdamConfig(), 1003, 9
    optimizer = load_optimizer("adam")
    params, slots = rng.normal(size=num_params), optimizer.init(num_params)
    plain, state = params.tolist(), adam.init(num_params)
    for step in range(steps):
        gradient = rng.normal(size=num_params)
        rate = adam.learning_rate(config, step, steps)
        params, slots = optimizer.update(params, gradient, slots, step, rate)
        plain, state = adam.update(config, plain, gradient.tolist(), state, step, steps)
    assert params.tobytes() == np.array(plain).tobytes()
    assert slots["m"].tobytes() == np.array(state.m).tobytes()
    assert slots["v"].tobytes() == np.array(state.v).tobytes()


def test_adamw_without_decay_is_adam_but_for_rounding() -> None:
    rng = np.random.default_rng(8)
    gradients = rng.normal(size=(20, 100)).tolist()
    with_decay_0 = path(load_optimizer("adamw:decay=0"), [0.5] * 100, gradients)
    ours = path(load_optimizer("adam"), [0.5] * 100, gradients)
    assert with_decay_0[-1] == pytest.approx(ours[-1], rel=1e-13)


def test_without_momentum_there_is_plain_descent_to_the_bit() -> None:
    gradients = np.random.default_rng(9).normal(size=(6, 40)).tolist()
    plain = path(load_optimizer("sgd:0.3"), [0.1] * 40, gradients)[-1]
    for name in ("momentum", "nesterov"):
        without = path(
            load_optimizer(f"{name}:learning_rate=0.3,momentum=0"), [0.1] * 40, gradients
        )
        assert without[-1].tobytes() == plain.tobytes()


def test_weights_without_a_gradient_only_decay() -> None:
    for name in OPTIMIZERS:
        weights = path(load_optimizer(name), [2.0, -3.0], [[0.0, 0.0]] * 3)
        expected = [2.0, -3.0]
        if name == "adamw":
            for factor in SCHEDULE:
                expected = [w * (1.0 - 0.01 * factor * 0.01) for w in expected]
        assert weights[-1].tolist() == expected


@pytest.mark.parametrize("name", OPTIMIZERS)
class TestEveryOptimizer:
    def test_nothing_given_is_changed_and_the_answer_is_new(self, name: str) -> None:
        optimizer = load_optimizer(name)
        _, slots = optimizer.update(
            np.ones(9), np.full(9, 0.3), optimizer.init(9), 0, optimizer.learning_rate
        )
        params, gradient = np.arange(9.0), np.linspace(-1, 1, 9)
        given_vectors = [params, gradient, *slots.values()]
        before = [vector.tobytes() for vector in given_vectors]
        for vector in given_vectors:
            vector.flags.writeable = False
        new, after = optimizer.update(params, gradient, slots, 1, 0.01)
        assert [vector.tobytes() for vector in given_vectors] == before
        for made in (new, *after.values()):
            assert not any(np.shares_memory(made, vector) for vector in given_vectors)
        again, _ = optimizer.update(params, gradient, slots, 1, 0.01)
        assert again.tobytes() == new.tobytes()

    def test_each_weight_has_bits_of_its_own(self, name: str) -> None:
        """However many weights stand together, each moves as if it were alone."""
        rng = np.random.default_rng(3)
        gradients = rng.normal(size=(5, 37))
        together = path(load_optimizer(name), [0.25] * 37, gradients.tolist())[-1]
        for place in range(37):
            alone = path(load_optimizer(name), [0.25], gradients[:, place : place + 1].tolist())
            assert alone[-1].tobytes() == together[place : place + 1].tobytes()

    def test_the_minimum_of_a_bowl_is_found(self, name: str) -> None:
        optimizer = load_optimizer(name)
        params, slots = np.array([3.0, -2.0]), optimizer.init(2)
        minimum = np.array([1.0, 0.5])
        for step in range(2000):
            gradient = np.array([0.2, 0.5]) * (params - minimum)
            rate = max(optimizer.learning_rate, 0.1) * (1 - step / 2000)
            params, slots = optimizer.update(params, gradient, slots, step, rate)
        assert params == pytest.approx(minimum, abs=2e-2)

    def test_what_overflows_is_infinite_without_a_warning(self, name: str) -> None:
        optimizer = load_optimizer(name)
        huge = np.array([1.7e308, -1.7e308])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            params, slots = optimizer.update(huge, -huge, optimizer.init(2), 0, 1e300)
            optimizer.update(params, -huge, slots, 1, 1e300)

    def test_vectors_of_other_lengths_or_slots_are_refused(self, name: str) -> None:
        optimizer = load_optimizer(name)
        three, two = np.ones(3), np.ones(2)
        with pytest.raises(ValueError, match=r"the gradient: shape \(2,\)"):
            optimizer.update(three, two, optimizer.init(3), 0, 0.1)
        with pytest.raises(ValueError, match="slots are"):
            optimizer.update(three, three, {"stranger": three}, 0, 0.1)
        if slots := optimizer.init(2):
            with pytest.raises(ValueError, match=f"slot {next(iter(slots))}: shape"):
                optimizer.update(three, three, slots, 0, 0.1)
        with pytest.raises(ValueError, match="the gradient: shape"):
            optimizer.update(three, np.ones((3, 1)), optimizer.init(3), 0, 0.1)

    def test_its_text_makes_it_again(self, name: str) -> None:
        optimizer = load_optimizer(f"{name}:0.123")
        assert optimizer.learning_rate == 0.123
        text = describe_optimizer(optimizer)
        assert text.startswith(f"{name}:learning_rate=0.123")
        assert load_optimizer(text) == optimizer

    def test_options_that_cannot_be_are_refused(self, name: str) -> None:
        kind = OPTIMIZERS[name]
        ranges = {"beta1": (1.0, -0.1), "beta2": (1.0,), "momentum": (1.0, -0.1), "eps": (0.0,)}
        for option in load_optimizer(name).__dataclass_fields__:  # type: ignore[attr-defined]
            for wrong in (*ranges.get(option, (-0.1,)), math.nan, math.inf, "x", True):
                with pytest.raises(ValueError, match=option):
                    kind(**{option: wrong})


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("nestrov", "there is no optimizer 'nestrov': did you mean nesterov? (or FILE.py:Class)"),
        ("nesterov:momentun=0.5",
         "optimizer nesterov has no option 'momentun': did you mean momentum?"),
        ("sgd:fast", "optimizer sgd: option learning_rate wants a number, not 'fast'"),
        ("nesterov:momentum=1", "optimizer nesterov: momentum must lie in [0, 1), not 1.0"),
        ("sgd:-1", "optimizer sgd: learning_rate cannot be negative, as -1.0 is"),
        ("sgd:", "optimizer 'sgd:' is not of the form NAME, NAME:VALUE or NAME:KEY=VALUE,..."),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_one_sentence(spec: str, sentence: str) -> None:
    with pytest.raises(OptimizerError) as failed:
        load_optimizer(spec)
    assert str(failed.value) == sentence


def test_the_canonical_text_names_all_options() -> None:
    text = "nesterov:learning_rate=0.7,momentum=0.9"
    assert describe_optimizer(load_optimizer("nesterov")) == text


@settings(derandomize=True, deadline=None, database=None)
@given(st.floats(0, 0.9999999), st.integers(0, 3000))
def test_whole_powers(base: float, exponent: int) -> None:
    exact = Fraction(base) ** exponent
    bound = 2.0**-52 * max(exponent, 1)
    if exact < Fraction(1e-290):
        assert 0.0 <= whole_power(base, exponent) <= 1e-289
    else:
        assert abs(Fraction(whole_power(base, exponent)) / exact - 1) <= bound
