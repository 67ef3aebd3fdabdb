"""A step's time is divided into phases without a gap, written to a file and read again."""

from __future__ import annotations

import json
from collections import deque
from itertools import accumulate, count
from pathlib import Path

import pytest

from microgpt.support import step_clock
from microgpt.support.step_clock import NO_CLOCK, StepClock, StepTimes


def clocked(*times: float) -> StepClock:
    """A clock that reads these times, one after the other; the first when it is made.

    With each step the process has had a processor for one second longer than in the step before.
    """
    readings = deque(times)
    used = accumulate(count(1.0))
    return StepClock(("send", "wait"), readings.popleft, lambda: next(used))


def test_every_moment_belongs_to_the_phase_that_ends_it(tmp_path: Path) -> None:
    clock = clocked(9.0, 10.0, 10.5, 12.5, 12.75, 13.0, 99.0)
    clock.lap("wait")  # before the first step
    clock.enter(7)
    clock.lap("send")
    clock.lap("wait")
    clock.enter(8)
    clock.lap("send")
    clock.enter(8)
    clock.lap("send")
    clock.enter(9)
    clock.lap("wait")  # in a step that does not end
    clock.write(tmp_path / "times.json")
    assert step_clock.read(tmp_path / "times.json") == [
        StepTimes(7, {"send": 0.5, "wait": 2.0}, 2.0),
        StepTimes(8, {"send": 0.5, "wait": 0.0}, 3.0),
    ]


def test_what_is_no_phase_is_refused() -> None:
    with pytest.raises(KeyError, match="dream"):
        clocked(0.0, 1.0).lap("dream")


def test_a_long_run_keeps_its_last_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_clock, "MOST_STEPS", 3)
    clock = clocked(0.0)
    for step in range(6):
        clock.enter(step)
    clock.write(tmp_path / "times.json")
    assert [each.step for each in step_clock.read(tmp_path / "times.json")] == [2, 3, 4]


def test_nothing_is_measured_or_written_where_nobody_asks(tmp_path: Path) -> None:
    NO_CLOCK.lap("dream")
    NO_CLOCK.enter(1)
    NO_CLOCK.write(tmp_path / "times.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"version": 0, "phases": [], "steps": []})])
def test_another_file_is_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "times.json").write_text(text)
    with pytest.raises(ValueError, match=r"line 1|version 1"):
        step_clock.read(tmp_path / "times.json")
