from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.compression.base import CompressionError
from microgpt.compression.feedback import compress, first_residual
from microgpt.compression.registry import load_compressor
from microgpt.numerics.vectors import Vector
from tests.microgpt.compression.inputs import SMALL, SPECS, any_vector, gradient, same_bits

ROUNDING = Fraction(1, 2**53)  # half a unit in the last place, relative


@pytest.mark.parametrize("spec", SPECS)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**40), scale=st.sampled_from([1e-310, 1e-150, 1.0, 1e150]))
def test_what_was_sent_and_the_residual_are_the_sum_of_the_gradients(
    spec: str, seed: int, scale: float
) -> None:
    """But for the rounding of the two sums of a round: half a unit of each result at most."""
    compressor = load_compressor(spec)
    residual, slots = first_residual(SMALL), compressor.init(SMALL)
    missing, allowed = [Fraction(0)] * 47, [Fraction(0)] * 47
    for i in range(12):
        vector = gradient(seed + i) * scale
        whole = vector + residual
        done = compress(compressor, vector, SMALL, residual, slots, seed + i)
        assert done.residual is not None
        for j in range(47):
            missing[j] += Fraction(float(vector[j])) - Fraction(float(done.sent[j]))
            rounded = abs(Fraction(float(whole[j]))) + abs(Fraction(float(done.residual[j])))
            allowed[j] += ROUNDING * rounded
        residual, slots = done.residual, done.slots
    for j in range(47):
        assert abs(missing[j] - Fraction(float(residual[j]))) <= allowed[j]


@pytest.mark.parametrize("spec", SPECS)
def test_one_round_is_the_formula(spec: str) -> None:
    compressor = load_compressor(spec)
    vector, residual, slots = gradient(1), gradient(2), compressor.init(SMALL)
    done = compress(compressor, vector, SMALL, residual, slots, 9)
    payload, kept = compressor.compress(vector + residual, SMALL, slots, 9)
    assert done.payload == payload
    assert same_bits(done.sent, compressor.decompress(payload, SMALL, 9))
    assert done.residual is not None
    assert same_bits(done.residual, vector + residual - done.sent)
    assert done.slots.keys() == kept.keys()
    assert all(same_bits(done.slots[name], kept[name]) for name in kept)


@pytest.mark.parametrize("spec", SPECS)
def test_without_feedback_nothing_is_added_or_kept(spec: str) -> None:
    compressor, vector = load_compressor(spec), gradient(1)
    done = compress(compressor, vector, SMALL, None, compressor.init(SMALL), 9)
    payload, _ = compressor.compress(vector, SMALL, compressor.init(SMALL), 9)
    assert done.payload == payload
    assert same_bits(done.sent, compressor.decompress(payload, SMALL, 9))
    assert done.residual is None


@pytest.mark.parametrize("spec", ["topk:1", "randomk:1"])
@given(vector=any_vector)
def test_where_nothing_is_lost_the_residual_stays_zero(spec: str, vector: Vector) -> None:
    done = compress(load_compressor(spec), vector, SMALL, first_residual(SMALL), {}, 3)
    assert (done.sent == vector).all()
    assert done.residual is not None
    assert not done.residual.any()


def test_every_coordinate_of_topk_has_its_turn() -> None:
    vector = np.linspace(0.25, 1.0, 47) * np.resize([1.0, -1.0], 47)
    compressor = load_compressor("topk:0.02")
    residual, turns = first_residual(SMALL), np.zeros(47, int)
    rounds = math.ceil(2 * float(np.abs(vector).sum() / np.abs(vector).min()))
    for seed in range(rounds):
        done = compress(compressor, vector, SMALL, residual, {}, seed)
        assert done.residual is not None
        residual = done.residual
        turns += done.sent != 0.0
    assert int(turns.sum()) == rounds  # one number a round
    assert turns.all()


@pytest.mark.parametrize("spec", SPECS)
def test_sums_that_leave_the_range_are_refused(spec: str) -> None:
    compressor = load_compressor(spec)
    largest = np.full(47, 1.7e308)
    with pytest.raises(CompressionError, match="cannot be compressed"):
        compress(compressor, largest, SMALL, largest, compressor.init(SMALL), 0)


@pytest.mark.parametrize("wrong", [np.zeros(46), np.full(47, np.nan)])
def test_a_residual_that_cannot_be_is_refused(wrong: Vector) -> None:
    with pytest.raises(CompressionError):
        compress(load_compressor("topk"), gradient(1), SMALL, wrong, {}, 0)
