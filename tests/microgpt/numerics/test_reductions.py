from __future__ import annotations

import math
import random
import sys
from fractions import Fraction

import numpy as np
import pytest

from microgpt.numerics.reductions import (
    LARGEST,
    bounded_sum_rows,
    norm,
    norms,
    product,
    tree_sum_rows,
)
from microgpt.numerics.vectors import tree_sum_of
from microgpt.optim.reduction import tree_sum


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_rows_are_summed_by_the_pairwise_tree(count: int) -> None:
    rows = np.array([[math.exp(10 * math.sin(i + j)) for j in range(3)] for i in range(count)])
    assert tree_sum_rows(rows).tolist() == [tree_sum(list(column)) for column in rows.T]
    assert tree_sum_rows(rows)[0] == tree_sum_of(np.ascontiguousarray(rows[:, 0]))


def test_a_sum_over_no_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing"):
        tree_sum_rows(np.zeros((0, 3)))


def test_a_product_of_matrices_is_its_definition_in_the_order_of_the_tree() -> None:
    rng = random.Random(1)
    left = [[rng.gauss(0, 1) for _ in range(7)] for _ in range(4)]
    right = [[rng.gauss(0, 1) for _ in range(3)] for _ in range(7)]
    got = product(np.array(left), np.array(right))
    assert got.tolist() == [
        [tree_sum([left[i][m] * right[m][k] for m in range(7)]) for k in range(3)] for i in range(4)
    ]


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1.0, 1e200, 1e307])
def test_a_norm_neither_overflows_nor_vanishes(scale: float) -> None:
    numbers = np.array([3.0, 0.0, -4.0]) * scale
    assert norm(numbers) == pytest.approx(5 * scale, rel=1e-15)


def test_a_norm_is_near_the_exact_one() -> None:
    rng = random.Random(2)
    numbers = [rng.gauss(0, 1) * 10.0 ** rng.randrange(-9, 9) for _ in range(1000)]
    exact = math.sqrt(sum(Fraction(x) ** 2 for x in numbers))
    assert norm(np.array(numbers)) == pytest.approx(exact, rel=1e-15)


def test_rows_have_norms_of_their_own_whatever_zeros_stand_behind_them() -> None:
    numbers = np.random.Generator(np.random.PCG64(3)).normal(size=(4, 300))
    padded = np.hstack([numbers, np.zeros((4, 212))])
    assert norms(padded).tolist() == norms(numbers).tolist() == [norm(row) for row in numbers]


def test_a_bounded_sum_is_the_sum_or_the_largest_number() -> None:
    numbers = np.array([[1.5, 1e308, -1e308], [2.25, 1.5e308, -1.5e308]])
    assert bounded_sum_rows(numbers).tolist() == [3.75, LARGEST, -LARGEST]


def test_the_norm_of_zeros_is_0_and_none_is_infinite() -> None:
    assert norm(np.zeros(5)) == 0.0
    assert norm(np.full(9, sys.float_info.max)) == sys.float_info.max
