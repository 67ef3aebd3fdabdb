"""How soon a shard goes to another worker, by the events of a run."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.core.event_json import to_json
from coordinator.core.events import (
    SCHEMA,
    Answered,
    Assigned,
    Event,
    Joined,
    Level,
    Lost,
    Purpose,
    Recorded,
    RoundClosed,
    RoundOutcome,
    Started,
)
from lab.faults.in_flight import InFlight

NAMES = {1: "one", 2: "two"}


def assigned(worker: int, start: int, purpose: Purpose = Purpose.WORK) -> Assigned:
    return Assigned(0, 0, start, 4, False, worker, NAMES[worker], purpose)


def answered(worker: int, start: int) -> Answered:
    return Answered(0, 0, start, 4, False, worker, NAMES[worker], False, 0.1, 0.2)


class Record:
    """A run directory that events are written to by hand, times in seconds from now."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, time.time()
        self.write((-9.0, Started(SCHEMA, "run", "epoch", 0, 5, Level.FULL)))
        self.write(*((-8.0, Joined(number, name, "tape")) for number, name in NAMES.items()))

    def write(self, *events: tuple[float, Event]) -> None:
        with open(self.folder / "events.jsonl", "a") as file:
            for after, event in events:
                file.write(to_json(Recorded(self.now + after, 0, event)) + "\n")


def strike(record: Record, *then: tuple[float, Event]) -> float | None:
    """Strike worker ``one``; the events come with the blow."""

    def until(condition: Callable[[], bool]) -> None:
        assert condition()

    return InFlight(record.folder).strike("one", lambda: record.write(*then), until)


def test_seconds_are_those_from_the_blow_to_the_next_assignment(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write((-1.0, assigned(1, 0)), (-1.0, assigned(2, 4)), (-0.5, answered(2, 4)))
    seconds = strike(record, (1.0, Lost(1, "one", 1)), (1.25, assigned(2, 0)))
    assert seconds == pytest.approx(1.25, abs=0.5), "from the blow, which came after now"


def test_what_was_handed_over_before_the_blow_does_not_count(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write((-2.0, assigned(1, 0)), (-1.0, assigned(2, 0, Purpose.BACKUP)))
    closed = RoundClosed(0, 0, False, 1, 1, RoundOutcome.APPLIED)
    assert strike(record, (1.0, Lost(1, "one", 1)), (1.1, closed)) is None


def test_a_worker_that_had_answered_had_nothing_to_hand_over(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.write((-2.0, assigned(1, 0)), (-1.0, answered(1, 0)))
    assert strike(record, (1.0, Lost(1, "one", 0)), (1.1, assigned(2, 0))) is None


def test_a_harmed_worker_is_at_work_when_it_answers_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    in_flight = InFlight(tmp_path)
    record.write((-3.0, answered(1, 0)))
    assert not in_flight.at_work(2)
    record.write((-2.0, answered(2, 4)))
    assert in_flight.at_work(2)
    in_flight.harmed("one")
    record.write((-1.0, answered(1, 8)))  # before it was harmed, and told late
    assert not in_flight.at_work(2)
    record.write((60.0, answered(1, 12)))
    assert in_flight.at_work(2)
