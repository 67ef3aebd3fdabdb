"""Courses of norms and numbers: over the whole run, and no more of them than a page can show."""

from __future__ import annotations

from itertools import pairwise

from coordinator.core.events import StrategyNumbers, TensorNorms
from lab.page.courses import MOST, Courses


def test_a_course_spans_the_whole_run_in_even_steps() -> None:
    courses = Courses()
    for version in range(1, 10_001):
        courses.take_norms(TensorNorms(version, ("wte",), (), (0.5,)))
    told = courses.snapshot()
    steps = [message["step"] for message in told["earlier"]["tensors"]]
    assert steps[0] == 1
    assert len(steps) <= MOST
    assert {later - earlier for earlier, later in pairwise(steps)} == {128}
    assert told["tensors"]["step"] == 10_000


def test_histograms_count_from_the_start() -> None:
    courses = Courses()
    for version in (1, 2):
        courses.take_numbers(StrategyNumbers(version, {"drift": 0.5}, {"staleness": {"0": 3}}))
    last = courses.take_numbers(StrategyNumbers(3, {"drift": 0.25}, {"staleness": {"1": 1}}))
    assert last["histograms"] == {"staleness": {"1": 1}}
    told = courses.snapshot()
    assert told["numbers"]["numbers"] == {"drift": 0.25}
    assert told["numbers"]["histograms"] == {"staleness": {"0": 6, "1": 1}}
    before = [(message["step"], message["numbers"]) for message in told["earlier"]["numbers"]]
    assert before == [(1, {"drift": 0.5}), (2, {"drift": 0.5})]


def test_of_a_run_that_tells_none_there_are_none() -> None:
    nothing: dict[str, object] = {
        "tensors": None,
        "numbers": None,
        "earlier": {"tensors": [], "numbers": []},
    }
    assert Courses().snapshot() == nothing
