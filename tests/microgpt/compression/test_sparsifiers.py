from __future__ import annotations

import math
import struct
from collections import Counter

import numpy as np
import pytest

from microgpt.compression.randomk import RandomK, random_places
from microgpt.compression.topk import TopK, how_many
from tests.microgpt.compression.inputs import SMALL, gradient, same_bits, sent_by


@pytest.mark.parametrize("density", [0.001, 0.1, 0.3, 0.99])
def test_topk_sends_the_largest_numbers_and_of_equal_ones_the_first(density: float) -> None:
    for seed in range(20):
        vector = np.round(gradient(seed), 1)  # many are equal
        k = max(1, round(density * 47))
        order = sorted(range(47), key=lambda i: (-abs(vector[i]), i))
        expected = [float(v) if i in order[:k] else 0.0 for i, v in enumerate(vector)]
        assert sent_by(TopK(density), vector).tolist() == expected


def test_the_bytes_of_topk_are_places_and_numbers() -> None:
    vector = np.array([0.5, -3.0, 0.0, 3.0, 1.0])
    payload, _ = TopK(0.4).compress(vector, {"a": (1, 5)}, {}, 0)
    assert payload == struct.pack("<HHdd", 1, 3, -3.0, 3.0)


def test_places_take_four_bytes_only_where_two_do_not_suffice() -> None:
    last_of_two, first_of_four = {"a": (256, 256)}, {"a": (65_537, 1)}
    assert TopK(1e-9).size(last_of_two) == 2 + 8
    assert TopK(1e-9).size(first_of_four) == 4 + 8
    for shapes, count in ((last_of_two, 65_536), (first_of_four, 65_537)):
        vector = np.zeros(count)
        vector[-1] = 2.5
        assert same_bits(sent_by(TopK(1e-9), vector, shapes), vector)


@pytest.mark.parametrize(
    ("density", "count", "k"), [(0.01, 4192, 42), (1e-9, 5, 1), (1.0, 5, 5), (0.5, 1, 1)]
)
def test_how_many_numbers_are_sent(density: float, count: int, k: int) -> None:
    assert how_many(density, count) == k


def test_randomk_sends_numbers_at_places_of_the_seed_alone() -> None:
    vector = np.arange(1.0, 48.0)
    for seed in range(20):
        places = random_places(seed, 47, 14).tolist()
        assert places == sorted(set(places))
        sent = sent_by(RandomK(0.3), vector, seed=seed)
        assert sent.tolist() == [float(v) if i in places else 0.0 for i, v in enumerate(vector)]
        twice = sent_by(RandomK(0.3, unbiased=True), vector, seed=seed)
        assert twice.tolist() == [v * (47 / 14) for v in sent]


def test_every_place_and_every_pair_is_drawn_as_often_as_any_other() -> None:
    singles: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    draws = 6000
    for seed in range(draws):
        places = random_places(seed, 8, 2).tolist()
        singles.update(places)
        pairs[places[0], places[1]] += 1
    assert len(pairs) == 28
    for expected, counts in ((draws / 4, singles), (draws / 28, pairs)):
        for count in counts.values():
            assert abs(count - expected) < 4.5 * math.sqrt(expected)


@pytest.mark.parametrize("spec", ["topk:1", "randomk:1", "randomk:density=1,unbiased=true"])
def test_a_density_of_1_changes_no_bit(spec: str) -> None:
    vector = gradient(3)
    vector[:4] = [-0.0, 5e-324, 1.7976931348623157e308, -2.2250738585072014e-308]
    assert same_bits(sent_by(spec, vector, SMALL, seed=8), vector)
