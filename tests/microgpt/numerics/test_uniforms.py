from __future__ import annotations

import pytest

from microgpt.numerics.uniforms import splitmix64, uniforms, words

#: The generator's first outputs from this state, which Rosetta Code's "Pseudo-random
#: numbers/Splitmix64" lists.
KNOWN_STATE = 1234567
KNOWN = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_the_outputs_are_those_that_are_published() -> None:
    assert splitmix64(KNOWN_STATE, 5).tolist() == KNOWN


def test_the_outputs_are_those_of_a_plain_loop_from_any_state() -> None:
    mask, state, expected = 2**64 - 1, 2**64 - 5, []
    for place in range(1, 101):
        z = (state + place * 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append(z ^ (z >> 31))
    assert splitmix64(state, 100).tolist() == expected


def test_numbers_depend_on_their_place_and_seed_alone() -> None:
    seeds = [0, 1, 2, 0x9E3779B97F4A7C15, 2**64 - 1, 2**64, 2**64 + 1, 2**200]
    firsts = {int(words(seed, 1)[0]) for seed in seeds}
    assert len(firsts) == len(seeds)
    assert words(7, 100).tolist()[:30] == words(7, 30).tolist()
    assert len(set(words(7, 10_000).tolist())) == 10_000
    assert words(7, 0).tolist() == []
    with pytest.raises(ValueError, match="at least 0"):
        words(-1, 3)


def test_uniforms_are_the_upper_53_bits() -> None:
    assert uniforms(3, 9).tolist() == [(word >> 11) / 2**53 for word in words(3, 9).tolist()]


def test_uniforms_fill_the_unit_interval_evenly() -> None:
    counts = [0] * 16
    for seed in range(100):
        for u in uniforms(seed, 1000).tolist():
            assert 0.0 <= u < 1.0
            counts[int(u * 16)] += 1
    expected = 100_000 / 16
    # The 99.9 % point of chi-squared with 15 degrees of freedom is 37.7.
    assert sum((count - expected) ** 2 / expected for count in counts) < 37.7
