"""The rules against two published implementations, whose results are kept as numbers.

``BYZFL`` was made once with byzfl 0.0.11: ``Average``, ``Median``, ``TrMean``, ``Krum``,
``MultiKrum`` and ``CenteredClipping(L, tau)`` on ``VECTORS``. Its Krum looks at n - f - 1
neighbours where the paper has n - f - 2, and its Multi-Krum keeps n - f, so it was given f + 1.
``FLOWER`` was made with flwr 1.42.0, ``flwr.server.strategy.aggregate``: ``aggregate_krum`` with
``to_keep`` 0 or n - f, and ``aggregate_bulyan`` with ``aggregate_krum``.
"""

from __future__ import annotations

import numpy as np
import pytest

from microgpt.aggregation.registry import load_aggregation

VECTORS = [
    np.array(vector)
    for vector in [
        [-4.125, -3.625, -3.75, 0.75],
        [-2.375, -0.125, -1.0, 4.625],
        [-1.625, 4.625, -4.5, 4.25],
        [100.0, -50.0, 75.0, -25.0],
        [0.875, 3.625, 2.0, 3.0],
        [-0.75, -4.5, -4.625, 0.75],
        [2.375, 0.0, 1.0, 1.75],
        [3.375, -2.375, 3.875, -2.25],
        [0.5, 0.25, -60.0, 0.125],
        [0.125, -2.25, -2.875, 3.125],
        [3.125, 0.75, 3.125, 3.875],
    ]
]
BYZFL = {
    "mean": [9.227272727272727, -4.875, 0.75, -0.45454545454545453],
    "median": [0.5, -0.125, -1.0, 1.75],
    "trimmed-mean:2":
        [0.6607142857142857, -1.0535714285714286, -0.8571428571428571, 1.9107142857142858],
    "krum:2": [0.125, -2.25, -2.875, 3.125],
    "krum:3": [2.375, 0.0, 1.0, 1.75],
    "multi-krum:f=2,m=8": [-0.296875, -0.1875, -1.328125, 2.765625],
    "multi-krum:f=3,m=7": [-0.10714285714285714, -0.875, -0.875, 2.5535714285714284],
    "centered-clip:tau=10,momentum=0":
        [0.7623906335683711, -0.6804380862523793, -1.0247562479029697, 1.6427355023283559],
    "centered-clip:tau=2,iterations=3,momentum=0":
        [0.5611255890829373, -0.427416781358836, -0.5050816942482571, 1.5029837369688224],
}  # fmt: skip
BYZFL_MEDIAN_OF_TEN = [0.3125, -1.1875, -1.9375, 1.25]
BYZFL_TWO_ROUNDS = [  # tau = 4; the second with half of each vector, the last one first
    [0.4447733709361746, -0.3858726994044044, -0.4645743527081509, 1.2394127034926876],
    [0.3870102635894154, -0.370685142379554, -0.5530221397582035, 1.0413397099495687],
]
FLOWER = {
    "krum:1": [2.375, 0.0, 1.0, 1.75],
    "krum:2": [0.125, -2.25, -2.875, 3.125],
    "krum:3": [2.375, 0.0, 1.0, 1.75],
    "multi-krum:1": [0.15, -0.3625, -6.675, 2.0],
    "multi-krum:2": [0.1111111111111111, -0.4305555555555556, -0.75, 2.2083333333333335],
    "multi-krum:3": [-0.296875, -0.1875, -1.328125, 2.765625],
    "bulyan:1": [0.25, -0.5714285714285714, -1.9642857142857142, 3.0535714285714284],
    "bulyan:2": [0.08333333333333333, 0.20833333333333334, -0.9583333333333334, 3.3333333333333335],
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "theirs"),
    [*BYZFL.items(), *FLOWER.items()],
    ids=[
        f"{kind}-{spec}" for kind, table in (("byzfl", BYZFL), ("flower", FLOWER)) for spec in table
    ],
)
def test_published_implementations(spec: str, theirs: list[float]) -> None:
    rule = load_aggregation(spec)
    ours = rule.combine(VECTORS, rule.init(4)).vector
    assert ours == pytest.approx(theirs, rel=1e-13, abs=1e-15)


def test_the_median_of_an_even_number() -> None:
    rule = load_aggregation("median")
    assert rule.combine(VECTORS[:10], {}).vector.tolist() == BYZFL_MEDIAN_OF_TEN


def test_the_center_stays_from_round_to_round() -> None:
    rule = load_aggregation("centered-clip:tau=4,momentum=0")
    first = rule.combine(VECTORS, rule.init(4))
    second = rule.combine([0.5 * vector for vector in reversed(VECTORS)], first.slots)
    assert first.vector == pytest.approx(BYZFL_TWO_ROUNDS[0], rel=1e-13)
    assert second.vector == pytest.approx(BYZFL_TWO_ROUNDS[1], rel=1e-13)
