"""What holds for every compressor, whatever it does."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings

from microgpt.compression.base import CompressionError
from microgpt.compression.feedback import compress, first_residual
from microgpt.compression.registry import load_compressor
from microgpt.numerics.vectors import Vector
from tests.marks import soak
from tests.microgpt.compression.inputs import (
    NAMES,
    SMALL,
    SPECS,
    any_vector,
    gradient,
    same_bits,
    sent_by,
)

every = pytest.mark.parametrize("spec", SPECS)
pytestmark = pytest.mark.filterwarnings("error")


@every
@pytest.mark.parametrize("examples", [12, soak(60)])
def test_any_finite_vector_makes_a_payload_that_is_accepted(spec: str, examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(any_vector)
    def accepted(vector: Vector) -> None:
        is_accepted(spec, vector)

    accepted()


def is_accepted(spec: str, vector: Vector) -> None:
    """Two rounds of it, with what the compressor keeps from one to the next."""
    compressor = load_compressor(spec)
    slots = compressor.init(SMALL)
    for seed in range(2):
        payload, slots = compressor.compress(vector, SMALL, slots, seed)
        assert type(payload) is bytes
        assert len(payload) == compressor.size(SMALL)
        sent = compressor.decompress(payload, SMALL, seed)
        assert sent.shape == (47,)
        assert sent.dtype == np.float64
        assert np.isfinite(sent).all()
        assert {k: v.shape for k, v in slots.items()} == {
            k: v.shape for k, v in compressor.init(SMALL).items()
        }


@every
def test_the_answer_depends_on_the_arguments_alone_and_changes_none(spec: str) -> None:
    vector = gradient(1)
    vector.setflags(write=False)
    slots = load_compressor(spec).init(SMALL)
    for numbers in slots.values():
        numbers.setflags(write=False)
    first = load_compressor(spec).compress(vector, SMALL, slots, 2**70)
    second = load_compressor(spec).compress(vector.copy(), SMALL, slots, 2**70)
    assert first[0] == second[0]
    assert all(same_bits(first[1][name], second[1][name]) for name in slots)


@every
def test_payloads_may_be_any_buffer(spec: str) -> None:
    compressor = load_compressor(spec)
    payload, _ = compressor.compress(gradient(1), SMALL, compressor.init(SMALL), 1)
    expected = compressor.decompress(payload, SMALL, 1)
    view = memoryview(bytearray(payload))
    assert same_bits(compressor.decompress(view, SMALL, 1), expected)  # type: ignore[arg-type]  # what a socket gives


@every
@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite_are_refused(spec: str, wrong: float) -> None:
    vector = gradient(1)
    vector[11] = wrong
    compressor = load_compressor(spec)
    with pytest.raises(CompressionError, match="cannot be compressed"):
        compressor.compress(vector, SMALL, compressor.init(SMALL), 0)


@every
def test_vectors_of_another_length_are_refused(spec: str) -> None:
    compressor = load_compressor(spec)
    with pytest.raises(CompressionError, match="46 numbers do not fill 47 parameters"):
        compressor.compress(gradient(1)[:46], SMALL, compressor.init(SMALL), 0)


@pytest.mark.parametrize(
    "spec",
    [
        "int8:stochastic",
        "qsgd:levels=3",
        "qsgd:levels=5,norm=max",
        "randomk:density=0.3,unbiased=true",
    ],
)
def test_unbiased_compressors_are_right_in_the_mean(spec: str) -> None:
    assert furthest_from_the_mean(spec) < 4.5


@pytest.mark.parametrize("spec", ["int8", "topk:0.3", "randomk:0.3", "onebit"])
def test_the_bound_on_the_mean_tells_biased_compressors(spec: str) -> None:
    assert furthest_from_the_mean(spec) > 10


def furthest_from_the_mean(spec: str) -> float:
    """How many standard deviations the mean over 2,000 seeds is away from the vector, at most."""
    rng = random.Random(2)
    vector = np.array([rng.choice([1.0, -1.0]) * rng.uniform(0.2, 1.0) for _ in range(47)])
    sent = np.array([sent_by(spec, vector, seed=seed) for seed in range(2000)])
    # Numbers that are always sent alike differ by the rounding of NumPy's mean.
    deviation = np.maximum(sent.std(axis=0) / math.sqrt(2000), 1e-12)
    return float((np.abs(sent.mean(axis=0) - vector) / deviation).max())


@pytest.mark.parametrize(
    "spec", ["int8", "sign", "onebit", "onebit:column", "topk:0.1", "powersgd"]
)
def test_compressors_for_error_feedback_leave_less_than_there_was(spec: str) -> None:
    for seed in range(50):
        vector = gradient(seed)
        left = vector - sent_by(spec, vector, seed=seed)
        assert float(np.sum(left**2)) < float(np.sum(vector**2))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if load_compressor(spec).feedback])
def test_where_feedback_is_the_default_the_residual_settles(spec: str) -> None:
    assert growth_of_residual(spec) < 2.5


@pytest.mark.parametrize("spec", ["randomk:density=0.3,unbiased=true", "qsgd:1", "sign:vote=true"])
def test_where_it_is_not_the_residual_may_grow_for_ever(spec: str) -> None:
    assert not load_compressor(spec).feedback
    assert growth_of_residual(spec) > 2.5


def growth_of_residual(spec: str) -> float:
    """How much larger the largest residual of rounds 300 to 1199 is than that of those before.

    The gradient is the same in every round.
    """
    compressor, vector = load_compressor(spec), gradient(9) * 10
    residual, slots, sizes = first_residual(SMALL), compressor.init(SMALL), []
    for seed in range(1200):
        done = compress(compressor, vector, SMALL, residual, slots, seed)
        assert done.residual is not None
        residual, slots = done.residual, done.slots
        sizes.append(float(np.abs(residual).max()))
    return max(sizes[300:]) / max(sizes[:300])


#: Bytes of a payload of the default model; its gradient is 33,536 bytes without compression.
SIZES = {
    "f32": 16_768,
    "f16": 8_384,
    "bf16": 8_384,
    "int8": 4_264,
    "int8:stochastic": 4_264,
    "qsgd": 2_168,
    "sign": 596,
    "sign:vote=true": 524,
    "onebit": 668,
    "onebit:column": 3_596,
    "topk": 420,
    "topk:1": 41_920,
    "randomk": 336,
    "powersgd": 6_496,
    "powersgd:1": 3_248,
}


@pytest.mark.parametrize("spec", SIZES)
def test_payloads_of_the_default_model_have_these_sizes(spec: str) -> None:
    compressor = load_compressor(spec)
    vector = gradient(1, NAMES)
    assert vector.shape == (4_192,)
    payload, _ = compressor.compress(vector, NAMES, compressor.init(NAMES), 5)
    assert len(payload) == compressor.size(NAMES) == SIZES[spec]


@every
@settings(max_examples=20, deadline=None)
@given(vector=any_vector)
def test_seeds_change_only_what_is_drawn(spec: str, vector: Vector) -> None:
    if spec.startswith(("qsgd", "randomk", "sign")) or "stochastic" in spec:
        return
    assert same_bits(sent_by(spec, vector, seed=1), sent_by(spec, vector, seed=2))


@pytest.mark.parametrize("spec", ["int8:stochastic", "qsgd", "randomk:0.3"])
def test_other_seeds_draw_otherwise(spec: str) -> None:
    vector = gradient(random.Random(3).randrange(100))
    assert not same_bits(sent_by(spec, vector, seed=1), sent_by(spec, vector, seed=2))
