"""Slices of time: what a worker did in each, however long and however many its shards are."""

from __future__ import annotations

from typing import Any

import pytest

from lab.top.strips import LEVELS, MOST_SLICES, PLAIN_LEVELS, SLICE, Slice, Strips, letter

NOTHING = Slice(0.0, 0.0, 0.0)


def span(begin: float, computing: float | None, end: float, kind: str = "work") -> list[Any]:
    return [1, 2, begin, computing, end, "answered", kind, 0, 0, 32, 0]


def test_a_span_is_divided_among_the_slices_that_it_touches() -> None:
    strips = Strips()
    strips.add(span(10.0, 10.25, 10.625))
    assert strips.of(1, 2, 10.7, 4) == [
        NOTHING, Slice(0.0, 0.0, 1.0), Slice(1.0, 0.0, 1.0), Slice(0.5, 0.0, 0.5)
    ]  # fmt: skip
    assert strips.of(1, 2, 11.0, 2) == [NOTHING, NOTHING]
    assert strips.of(1, 3, 10.7, 1) == strips.of(2, 2, 10.7, 1) == [NOTHING]


def test_shares_add_up_over_spans_to_no_more_than_all() -> None:
    strips = Strips()
    strips.add(span(1.0, 1.0625, 1.125))
    strips.add(span(1.0, 1.125, 1.25, "evaluation"))
    assert strips.of(1, 2, 1.1, 1) == [Slice(0.75, 0.5, 1.0)]


def test_a_span_that_no_answer_has_ended_was_no_computing() -> None:
    strips = Strips()
    strips.add(span(1.0, None, 1.125))
    assert strips.of(1, 2, 1.1, 1) == [Slice(0.0, 0.0, 0.5)]


def test_memory_is_bounded_whatever_is_told() -> None:
    strips = Strips()
    strips.add(span(0.0, 0.0, 1e9))  # thirty years
    assert len(strips._workers[1, 2]) <= MOST_SLICES + 1
    for number in range(3 * MOST_SLICES):
        strips.add(span(2e9 + number * SLICE, None, 2e9 + (number + 0.5) * SLICE))
    assert len(strips._workers[1, 2]) <= 2 * MOST_SLICES
    for worker in range(2000):
        strips.add([1, worker, 0.0, 0.0, 1.0, "answered", "work", 0, 0, 1, 0])
    assert len(strips._workers) <= 512


@pytest.mark.parametrize("levels", [LEVELS, PLAIN_LEVELS])
def test_letters_are_as_high_as_shares(levels: str) -> None:
    shares = [0.0, 1e-9, 0.125, 0.5, 0.95, 1.0, 1.0000001]
    places = [levels.index(letter(share, levels)) for share in shares]
    assert places == [0, 1, 1, 4, 8, 8, 8]
