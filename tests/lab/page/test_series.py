"""A long run in short columns, and when its steps were done."""

from __future__ import annotations

from itertools import pairwise

from lab.page.series import Row, Series, columns
from lab.page.step_times import StepTimes


def row(step: int) -> Row:
    return Row(step, 1.0 / step, float(step), step * 0.5, step * 32, step * 10, step * 20)


def test_a_million_steps_stay_a_few_points_with_the_first_and_the_last() -> None:
    series = Series(most=100)
    for step in range(1, 100_001):
        series.add(row(step))
        if step % 9_973 == 0:
            kept = series.thinned()
            assert 45 <= len(kept) <= 101
            assert (kept[0].step, kept[-1].step) == (1, step)
    gaps = {b.step - a.step for a, b in pairwise(kept[1:-1])}
    assert len(gaps) == 1
    assert kept[-1].documents == 32 * kept[-1].step


def test_new_steps_are_told_once_and_thinned_when_there_are_many() -> None:
    series = Series()
    for step in range(1, 8):
        series.add(row(step))
    assert [r.step for r in series.take_new(most=10)] == [1, 2, 3, 4, 5, 6, 7]
    assert series.take_new() == []
    for step in range(8, 108):
        series.add(row(step))
    new = series.take_new(most=10)
    assert [r.step for r in new] == [*range(17, 108, 10)]


def test_nobody_asking_takes_no_memory() -> None:
    series = Series(most=10)
    for step in range(1, 1001):
        series.add(row(step))
    assert len(series._new) < 20
    assert series.take_new()[-1].step == 1000


def test_columns_have_one_length() -> None:
    assert columns([]) == {name: [] for name in Row._fields}
    assert columns([row(2)])["seconds"] == [1.0]


def test_times_of_steps_go_on_from_events_by_the_work_on_them() -> None:
    times = StepTimes()
    assert times.time_of(1, 0.0, 0.5) is None
    times.note(0, 100.0)
    times.note(0, 103.0)  # workers were awaited
    times.note(3, 110.0)
    assert times.time_of(1, 0.0, 0.5) == 103.5
    assert times.time_of(2, 0.5, 1.5) == 104.5
    assert times.time_of(3, 1.5, 9.0) == 110.0  # an event knows
    assert times.time_of(4, 9.0, 9.25) == 110.25


def test_an_epoch_that_goes_back_has_other_times() -> None:
    times = StepTimes()
    for step in range(1, 6):
        times.note(step, 100.0 + step)
    times.note(2, 200.0)  # goes on after step 2
    assert times.time_of(2, 0.5, 1.0) == 102.0  # as it was
    assert times.time_of(3, 1.0, 1.5) == 200.5


def test_times_are_bounded() -> None:
    times = StepTimes(most=100)
    for step in range(10_000):
        times.note(step, float(step))
    assert len(times._steps) <= 101
    assert times.time_of(10_000, 0.0, 1.0) == 9_999.0 + 1.0
