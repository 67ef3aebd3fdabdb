from __future__ import annotations

import math
import random

import numpy as np
import pytest

from microgpt.compression.base import CompressionError
from microgpt.compression.powersgd import PowerSGD
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes
from tests.microgpt.compression.inputs import NAMES, SMALL, gradient, sent_by

ONE: Shapes = {"a": (6, 9)}
Matrix = list[list[float]]


def times(left: Matrix, right: Matrix) -> Matrix:
    return [
        [math.fsum(a * b for a, b in zip(row, column, strict=True)) for column in transposed(right)]
        for row in left
    ]


def transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def orthogonalised(matrix: Matrix) -> Matrix:
    done: Matrix = []
    for column in transposed(matrix):
        for other in done:
            along = math.fsum(a * b for a, b in zip(column, other, strict=True))
            column = [a - along * b for a, b in zip(column, other, strict=True)]
        length = math.sqrt(math.fsum(a * a for a in column))
        done.append([a / length for a in column])
    return transposed(done)


def flat(matrix: Matrix) -> list[float]:
    return [x for row in matrix for x in row]


def product_of_random(rng: random.Random, rows: int, columns: int, rank: int) -> Vector:
    left = [[rng.gauss(0, 1) for _ in range(rank)] for _ in range(rows)]
    right = [[rng.gauss(0, 1) for _ in range(columns)] for _ in range(rank)]
    return np.array(times(left, right)).reshape(-1)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_three_rounds_are_the_steps_of_the_paper(rank: int) -> None:
    compressor = PowerSGD(rank)
    slots = compressor.init(ONE)
    q: Matrix = slots["q"].reshape(9, rank).tolist()
    for seed in range(3):
        vector = gradient(seed, ONE)
        matrix: Matrix = vector.reshape(6, 9).tolist()
        p = orthogonalised(times(matrix, q))
        q = times(transposed(matrix), p)
        payload, slots = compressor.compress(vector, ONE, slots, seed)
        sent = compressor.decompress(payload, ONE, seed)
        expected = flat(times(p, transposed(q)))
        assert sent.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert slots["q"].tolist() == pytest.approx(flat(q), rel=1e-9, abs=1e-12)


def test_a_matrix_of_the_rank_is_sent_whole() -> None:
    rng = random.Random(2)
    for rank in (1, 2, 3):
        vector = product_of_random(rng, 6, 9, rank)
        sent = sent_by(PowerSGD(rank), vector, ONE)
        assert sent.tolist() == pytest.approx(vector.tolist(), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("rank", [2, 3])
def test_a_matrix_of_a_smaller_rank_is_sent_whole_and_noise_is_not_taken_for_more(
    rank: int,
) -> None:
    vector = product_of_random(random.Random(3), 6, 9, 1)
    payload, slots = PowerSGD(rank).compress(vector, ONE, PowerSGD(rank).init(ONE), 0)
    sent = PowerSGD(rank).decompress(payload, ONE, 0)
    assert sent.tolist() == pytest.approx(vector.tolist(), rel=1e-9, abs=1e-12)
    assert not slots["q"].reshape(9, rank)[:, 1:].any()


def test_the_rank_is_not_lost_after_zeros_or_a_matrix_of_a_smaller_rank() -> None:
    rng = random.Random(4)
    compressor = PowerSGD(2)
    slots = compressor.init(ONE)
    for vector in (np.zeros(54), product_of_random(rng, 6, 9, 1), np.zeros(54)):
        _, slots = compressor.compress(vector, ONE, slots, 0)
    vector = product_of_random(rng, 6, 9, 2)
    payload, _ = compressor.compress(vector, ONE, slots, 0)
    sent = compressor.decompress(payload, ONE, 0)
    assert sent.tolist() == pytest.approx(vector.tolist(), rel=1e-9, abs=1e-12)


def test_warm_starts_find_the_best_approximation_of_a_matrix_that_stays() -> None:
    matrix = gradient(6, ONE).reshape(6, 9)
    values = np.linalg.svd(matrix, compute_uv=False)
    best = math.sqrt(float(np.sum(values[2:] ** 2)))
    compressor = PowerSGD(2)
    slots, errors = compressor.init(ONE), []
    for seed in range(200):
        payload, slots = compressor.compress(matrix.reshape(-1), ONE, slots, seed)
        sent = compressor.decompress(payload, ONE, seed)
        errors.append(float(np.linalg.norm(sent - matrix.reshape(-1))))
    assert errors[0] > 1.01 * best
    assert errors[-1] == pytest.approx(best, rel=1e-6)


@pytest.mark.parametrize("scale", [1e-320, 1e-200, 1e200, 1e306])
def test_neither_tiny_nor_huge_matrices_lose_their_direction(scale: float) -> None:
    vector = product_of_random(random.Random(5), 6, 9, 2) * scale
    compressor = PowerSGD(2)
    slots = compressor.init(ONE)
    for seed in range(3):
        payload, slots = compressor.compress(vector, ONE, slots, seed)
    sent = compressor.decompress(payload, ONE, 0)
    assert sent.tolist() == pytest.approx(vector.tolist(), rel=1e-3, abs=scale * 1e-2)


def test_what_would_not_get_smaller_is_sent_as_it_is() -> None:
    vector = gradient(7)
    sent = sent_by(PowerSGD(2), vector)
    assert sent[35:].tolist() == vector[35:].tolist()  # "b" is 2 by 3, "c" 6 by 1
    assert sent[:35].tolist() != vector[:35].tolist()
    assert PowerSGD(3).init(SMALL)["q"].shape == (0,)
    assert sent_by(PowerSGD(3), vector).tolist() == vector.tolist()


def test_memory_that_does_not_fit_is_refused() -> None:
    slots = PowerSGD(2).init(NAMES)
    for wrong in ({}, {"q": np.zeros(5)}, {"q": slots["q"] * np.nan}, PowerSGD(1).init(NAMES)):
        with pytest.raises(CompressionError, match="remembers does not fit"):
            PowerSGD(2).compress(gradient(1, NAMES), NAMES, wrong, 0)
