"""Each quantizer against its paper's formula, number by number in plain Python."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest

from microgpt.compression.qsgd import QSGD
from microgpt.compression.registry import load_compressor
from microgpt.compression.sign import Sign
from microgpt.numerics.uniforms import uniforms
from tests.microgpt.compression.inputs import SMALL, gradient, near, parts, sent_by

SEEDS = range(20)


@pytest.mark.parametrize("seed", SEEDS)
def test_int8_rounds_to_the_nearest_of_255_numbers_of_its_matrix(seed: int) -> None:
    vector = gradient(seed)
    expected: list[float] = []
    for numbers in parts(vector):
        most = max(map(abs, numbers))
        expected += [round(v / most * 127.0) / 127.0 * most for v in numbers]
    assert sent_by("int8", vector).tolist() == expected


def test_int8_rounds_ties_to_even() -> None:
    vector = np.array([127.0, 0.5, -1.5, 2.5, -3.5, 0.25])
    sent = sent_by("int8", vector, {"a": (2, 3)})
    assert sent.tolist() == [127.0, 0.0, -2.0, 2.0, -4.0, 0.0]


@pytest.mark.parametrize("seed", SEEDS)
def test_stochastic_int8_rounds_up_with_the_probability_of_the_fraction(seed: int) -> None:
    vector, u = gradient(seed), iter(uniforms(seed, 47).tolist())
    expected: list[float] = []
    for numbers in parts(vector):
        most = max(map(abs, numbers))
        for v in numbers:
            units = abs(v) / most * 127.0
            whole = math.floor(units) + (next(u) < units - math.floor(units))
            expected.append(math.copysign(whole, v) / 127.0 * most)
    assert sent_by("int8:stochastic", vector, seed=seed).tolist() == expected


@pytest.mark.parametrize("norm", ["l2", "max"])
@pytest.mark.parametrize(("levels", "bucket"), [(7, 512), (1, 10), (4, 16), (1000, 47)])
def test_qsgd_is_a_level_of_the_norm_of_its_bucket(levels: int, bucket: int, norm: str) -> None:
    for seed in SEEDS:
        vector, u = gradient(seed), uniforms(seed, 47).tolist()
        got = sent_by(QSGD(levels, bucket, norm), vector, seed=seed).tolist()
        for start in range(0, 47, bucket):
            v = vector[start : start + bucket].tolist()
            length = math.sqrt(math.fsum(x * x for x in v)) if norm == "l2" else max(map(abs, v))
            for i, x in enumerate(v, start):
                r = levels * abs(x) / length
                xi = (math.floor(r) + (u[i] < r - math.floor(r))) / levels
                assert near(got[i], length * math.copysign(1.0, x) * xi)


def test_qsgd_sends_levels_in_as_many_bits_as_they_need() -> None:
    # One bucket of norm 5, s = 1: codes 1 + sgn * level, two bits each, lowest first.
    payload, _ = QSGD(1).compress(np.array([5.0, 0.0, -0.0, 0.0, 0.0]), {"a": (1, 5)}, {}, 3)
    assert payload == np.array(5.0, "<f8").tobytes() + bytes([0b01_01_01_10, 0b01])


def test_qsgd_errs_within_the_bound_of_its_paper() -> None:
    vector = gradient(5)
    for levels in (1, 3, 7, 50):
        compressor = QSGD(levels)
        error = sum(
            float(np.sum((sent_by(compressor, vector, seed=seed) - vector) ** 2))
            for seed in range(400)
        )
        bound = min(47 / levels**2, math.sqrt(47) / levels) * float(np.sum(vector**2))
        assert 0.05 * bound < error / 400 < bound


@pytest.mark.parametrize("seed", SEEDS)
def test_sign_is_the_mean_magnitude_of_the_matrix_times_the_sign(seed: int) -> None:
    vector = gradient(seed)
    got = sent_by("sign", vector).tolist()
    for numbers, sent in zip(parts(vector), parts(np.array(got)), strict=True):
        scale = math.fsum(map(abs, numbers)) / len(numbers)
        for v, s in zip(numbers, sent, strict=True):
            assert near(s, math.copysign(scale, s if v == 0.0 else v))


def test_the_sign_of_a_zero_is_drawn() -> None:
    negative = sum(
        int((sent_by("sign:vote=true", np.zeros(47), seed=seed) < 0).sum()) for seed in range(200)
    )
    # 9,400 fair coins: 4.5 standard deviations are 218.
    assert abs(negative - 4700) < 218
    both = np.array([0.0, -0.0] * 23 + [0.0])
    assert (sent_by("sign:true", both, seed=4) == sent_by("sign:true", -both, seed=4)).all()


def test_a_vote_sends_a_bit_for_a_number() -> None:
    vector = np.array([1.0, -1.0, -2.0, 3.0, 1e-300, -1e300, 4.0, 4.0, -4.0])
    payload, _ = Sign(vote=True).compress(vector, {"a": (3, 3)}, {}, 0)
    assert payload == bytes([0b00100110, 0b1])
    sent = Sign(vote=True).decompress(payload, {"a": (3, 3)}, 0)
    assert sent.tolist() == [1.0, -1.0, -1.0, 1.0, 1.0, -1.0, 1.0, 1.0, -1.0]


def test_the_majority_decides_and_a_tie_is_zero() -> None:
    compressor = Sign(vote=True)
    votes = [[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, -1.0, 1.0], [1.0, -1.0, -1.0, 1.0]]
    vectors = [np.array(vote) for vote in votes]
    combined = compressor.combine(vectors)
    assert combined is not None
    assert combined.tolist() == [1.0, -1.0, -1.0, 1.0]
    combined = compressor.combine([*vectors, np.array([-1.0, 1.0, 1.0, -1.0])])
    assert combined is not None
    assert combined.tolist() == [1.0, 0.0, -1.0, 0.0]


def test_fewer_than_half_cannot_turn_a_unanimous_vote() -> None:
    rng = random.Random(1)
    honest = [sent_by("sign:true", gradient(1), seed=9) for _ in range(5)]
    hostile = [np.array([rng.choice([1e300, -1e300]) for _ in range(47)]) for _ in range(4)]
    combined = Sign(vote=True).combine([*hostile, *honest])
    assert combined is not None
    assert combined.tolist() == honest[0].tolist()


def test_only_a_vote_combines_by_itself() -> None:
    vectors = [gradient(1), gradient(2)]
    for spec in ("f32", "int8", "qsgd", "sign", "onebit", "topk", "randomk", "powersgd"):
        assert load_compressor(spec).combine(vectors) is None


@pytest.mark.parametrize("seed", SEEDS)
def test_onebit_is_the_mean_of_the_numbers_of_the_same_sign(seed: int) -> None:
    vector = gradient(seed)
    for numbers, sent in zip(parts(vector), parts(sent_by("onebit:matrix", vector)), strict=True):
        check_means(numbers, sent)


@pytest.mark.parametrize("seed", SEEDS)
def test_onebit_of_columns_is_the_mean_within_the_column(seed: int) -> None:
    vector = gradient(seed)
    sent = parts(sent_by("onebit:column", vector))
    for numbers, got, (_, columns) in zip(parts(vector), sent, SMALL.values(), strict=True):
        for column in range(columns):
            check_means(numbers[column::columns], got[column::columns])


def check_means(numbers: list[float], sent: list[float]) -> None:
    upper = [v for v in numbers if v >= 0.0]
    lower = [v for v in numbers if v < 0.0]
    for v, s in zip(numbers, sent, strict=True):
        mine = upper if v >= 0.0 else lower
        assert near(s, math.fsum(mine) / len(mine))


@pytest.mark.parametrize("spec", ["int8", "int8:stochastic", "qsgd", "sign", "onebit"])
def test_matrices_of_zeros_stay_zeros(spec: str) -> None:
    assert not sent_by(spec, np.zeros(47)).any()
