"""The formulas of the lies, and what they do to the rules that they are made against."""

from __future__ import annotations

import statistics

import numpy as np
import pytest

from microgpt.aggregation.registry import load_aggregation
from microgpt.numerics.vectors import Vector
from microgpt.replicas.byzantine import KINDS, corrupt

OWN = np.array([1.0, -2.0, 0.5])
HONEST = [
    np.array(x) for x in ([1.0, -3.0, 0.0], [2.0, -1.0, 0.0], [4.0, 1.0, 0.0], [1.0, 0.0, 0.0])
]


def gradients(count: int, size: int, spread: float) -> list[Vector]:
    """Vectors about (1, 1, ...), as gradients of batches are about the true one."""
    rng = np.random.default_rng(1)
    return [1.0 + spread * rng.normal(size=size) for _ in range(count)]


def combined(rule: str, vectors: list[Vector]) -> Vector:
    return load_aggregation(rule).combine(vectors, {}).vector


def test_sign_flip() -> None:
    assert corrupt("sign-flip", OWN, 0, []).tolist() == [-1.0, 2.0, -0.5]


def test_noise_is_decided_by_its_seed_alone() -> None:
    first = corrupt("noise", np.zeros(5000), 7, [])
    assert first.tobytes() == corrupt("noise", np.ones(5000), 7, HONEST).tobytes()
    assert first.tobytes() != corrupt("noise", np.zeros(5000), 8, []).tobytes()
    assert statistics.fmean(first) == pytest.approx(0, abs=10)  # 3.5 standard errors
    assert statistics.pstdev(first) == pytest.approx(200, rel=0.05)


def test_a_little_is_enough() -> None:
    for z in (1.5, 0.3):
        expected = [
            statistics.fmean(column) - z * statistics.pstdev(column)
            for column in zip(*(vector.tolist() for vector in HONEST), strict=True)
        ]
        assert corrupt("alie", OWN, 0, HONEST, z=z) == pytest.approx(expected, rel=1e-14)
    default = corrupt("alie", OWN, 0, HONEST)
    assert default.tobytes() == corrupt("alie", OWN, 0, HONEST, z=1.5).tobytes()


def test_inner_product_manipulation() -> None:
    assert corrupt("ipm", OWN, 0, HONEST).tolist() == [-0.1 * 2.0, 0.1 * 0.75, 0.0]
    assert corrupt("ipm", OWN, 0, HONEST, epsilon=4).tolist() == [-8.0, 3.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_given_is_changed_and_lies_repeat(kind: str) -> None:
    before = [vector.tobytes() for vector in (OWN, *HONEST)]
    lie = corrupt(kind, OWN, 3, HONEST)
    assert lie.shape == OWN.shape
    assert lie.dtype == np.float64
    assert lie.tobytes() == corrupt(kind, OWN, 3, HONEST).tobytes()
    assert [vector.tobytes() for vector in (OWN, *HONEST)] == before


def test_what_cannot_be_told() -> None:
    with pytest.raises(ValueError, match="there is no lie 'little': there are sign-flip, noise"):
        corrupt("little", OWN, 0, HONEST)
    for kind in ("alie", "ipm"):
        with pytest.raises(ValueError, match="needs at least 1 vectors"):
            corrupt(kind, OWN, 0, [])


def test_noise_ruins_the_mean_and_no_robust_rule() -> None:
    honest = gradients(10, 100, 0.5)
    vectors = [*honest, corrupt("noise", honest[0], 1, [])]
    assert np.abs(combined("mean", vectors) - 1.0).max() > 20
    for rule in ("median", "trimmed-mean", "krum", "multi-krum", "bulyan"):
        assert np.abs(combined(rule, vectors) - 1.0).max() < 2


def test_a_little_is_enough_is_what_krum_chooses() -> None:
    """Nearer to all honest vectors than they are to each other, and yet off in each parameter."""
    honest = gradients(9, 1000, 1.0)
    lie = corrupt("alie", honest[0], 0, honest, z=0.5)
    assert combined("krum:f=2", [*honest, lie, lie]).tobytes() == lie.tobytes()


def test_inner_product_manipulation_turns_krum_round() -> None:
    """Where gradients are noisy, a small step uphill is the nearest to all of them."""
    honest = gradients(9, 1000, 3.0)
    lie = corrupt("ipm", honest[0], 0, honest)
    chosen = combined("krum:f=2", [*honest, lie, lie])
    assert chosen.tobytes() == lie.tobytes()
    assert sum((chosen * np.ones(1000)).tolist()) < 0


def test_inner_product_manipulation_of_the_mean_takes_a_large_epsilon() -> None:
    honest = gradients(9, 1000, 1.0)
    for epsilon, uphill in ((0.1, False), (5.0, True)):
        lie = corrupt("ipm", honest[0], 0, honest, epsilon=epsilon)
        mean = combined("mean", [*honest, lie, lie])
        assert (sum(mean.tolist()) < 0) is uphill
