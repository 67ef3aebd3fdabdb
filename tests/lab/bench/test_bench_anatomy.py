"""The anatomy of a step: what is read from the clocks of processes, and how it is drawn."""

from __future__ import annotations

from collections import deque
from io import StringIO
from itertools import count
from pathlib import Path

import pytest
from rich.console import Console

from lab.bench import anatomy
from lab.bench.anatomy import Anatomy
from lab.bench.cells import Cell
from microgpt.support.step_clock import StepClock

CELL = Cell(2, 32, 16)
COORDINATOR = ("waiting", "tree sum", "update", "rest")


def write(path: Path, phases: tuple[str, ...], *steps: tuple[int, tuple[float, ...]]) -> None:
    """What a clock writes that has seen these phases in these steps."""
    readings = deque([0.0])
    for _, seconds in steps:
        for each in seconds:
            readings.append(readings[-1] + each)
    used = count(step=0.25)
    clock = StepClock(phases, readings.popleft, lambda: next(used))
    for number, _ in steps:
        clock.enter(number)
        for phase in phases:
            clock.lap(phase)
    clock.enter(0)
    clock.write(path)


def two_workers(folder: Path) -> None:
    """The clocks of three processes over three steps, of which the first is not to count."""
    write(
        folder / "coordinator.json",
        COORDINATOR,
        (1, (9.0, 9.0, 9.0, 9.0)),
        (2, (2.0, 0.5, 0.5, 1.0)),
        (3, (5.0, 0.5, 1.5, 1.0)),
    )
    worker = ("idle", "engine")
    write(folder / "worker-1.json", worker, (1, (9.0, 9.0)), (2, (3.0, 1.0)), (3, (7.0, 1.0)))
    # One that was still in the last step at the end, and one that never was in any of these.
    write(folder / "worker-2.json", worker, (2, (2.5, 3.5)))
    write(folder / "worker-3.json", worker, (1, (9.0, 9.0)))


def test_it_is_read_from_the_clocks_of_all_processes(tmp_path: Path) -> None:
    two_workers(tmp_path)
    records = [{"step": 2, "seconds": 4.0}, {"step": 3, "seconds": 8.0}]
    found = anatomy.read(tmp_path, CELL, 1, records)
    assert found == Anatomy(
        CELL,
        1,
        step=6.0,
        coordination=2.25,  # 4 - 1 - 3.5 in one step, 8 - 2 - 1 in the other
        processes={
            "coordinator": {"waiting": 3.5, "tree sum": 0.5, "update": 1.0, "rest": 1.0},
            "worker-1": {"idle": 5.0, "engine": 1.0},
            "worker-2": {"idle": 2.5, "engine": 3.5},
        },
        processor={"coordinator": 0.25, "worker-1": 0.25, "worker-2": 0.25},
    )
    assert [*found.processes] == ["coordinator", "worker-1", "worker-2"]
    assert [sum(phases.values()) for phases in found.processes.values()] == [6.0, 6.0, 6.0]
    plain = found.to_json()
    assert (plain["workers"], plain["batch"], plain["width"]) == CELL
    assert plain["processes"] == found.processes
    assert plain["processor"] == found.processor


def test_without_clocks_there_is_none(tmp_path: Path) -> None:
    assert anatomy.read(tmp_path, CELL, 0, [{"step": 1, "seconds": 1.0}]) is None


def test_it_is_drawn_as_a_bar_for_each_process(tmp_path: Path) -> None:
    two_workers(tmp_path)
    found = anatomy.read(tmp_path, CELL, 0, [{"step": 3, "seconds": 8.0}])
    assert found is not None
    coordinator, worker = found.processes.values()
    assert anatomy.bar(coordinator).plain == "w" * 38 + "T" * 4 + "U" * 11 + "." * 7
    assert anatomy.bar(worker).plain == "i" * 53 + "E" * 7
    assert anatomy.legend(worker).plain.split() == [
        *("i", "idle", "7,000,000", "us", "(88%)"),
        *("E", "engine", "1,000,000", "us", "(12%)"),
    ]
    console = Console(width=100, record=True, file=StringIO())
    console.print(anatomy.drawn(found))
    lines = console.export_text().splitlines()
    assert lines[0].rstrip() == "a step of 8,000,000 us: width 16, batch 32, workers: 2"
    assert [line.split()[0] for line in lines if line[:1].strip() and line != lines[0]] == [
        "coordinator",
        "worker-1",
    ]


@pytest.mark.parametrize(
    ("seconds", "letters"),
    [((1.0, 1.0, 1.0), (4, 3, 3)), ((0.0, 0.0, 2.0), (0, 0, 10)), ((0.26, 0.7, 0.04), (3, 7, 0))],
)
def test_all_letters_of_a_bar_are_used(
    seconds: tuple[float, ...], letters: tuple[int, ...]
) -> None:
    phases = dict(zip("abc", seconds, strict=True))
    assert tuple(anatomy.shares(phases, 10).values()) == letters
