"""The fast readers of events and metrics give what the strict ones give."""

from __future__ import annotations

import json

import pytest

from coordinator.core.event_json import EventError, from_json, to_json
from coordinator.core.events import Answered, Assigned, Event, Purpose, Recorded
from lab.page.event_lines import LineReader, shard_event, wanted
from lab.page.metric_lines import StepLine, step_lines
from tests.lab.page import records

EVENTS: list[Event] = [
    Assigned(3, 2, 16, 8, True, 4, "ada", Purpose.BACKUP),
    Answered(3, 2, 16, 8, False, 4, "host-1 <b>", True, 0.25, 1.5e-05),
    Answered(0, 0, 0, 1, False, 1, "", False, 0.0, 12345.678901),
]


@pytest.mark.parametrize("event", EVENTS)
def test_usual_shards_are_read_by_a_pattern(event: Event) -> None:
    recorded = Recorded(1_795_000_000.25, 7, event)
    line = to_json(recorded).encode()
    assert shard_event(line) == from_json(line) == recorded


@pytest.mark.parametrize("name", ['q"uote', "back\\slash", "été", "tab\t", "\x7f"])
def test_unusual_names_are_read_strictly(name: str) -> None:
    recorded = Recorded(1.5, 7, Assigned(3, 2, 16, 8, True, 4, name, Purpose.WORK))
    line = to_json(recorded).encode()
    assert shard_event(line) is None
    reader = LineReader(schema=3)
    assert reader.read(line) == recorded


@pytest.mark.parametrize("change", [("true", "1"), ("1.500000", "NaN"), ("16", "-1"), ("}", ",}")])
def test_what_is_not_as_it_should_be_is_refused(change: tuple[str, str]) -> None:
    line = to_json(Recorded(1.5, 7, Assigned(3, 2, 16, 8, True, 4, "a", Purpose.WORK)))
    with pytest.raises(EventError):
        LineReader(schema=3).read(line.replace(*change).encode())


def test_a_record_begins_with_its_form() -> None:
    line = to_json(Recorded(1.5, 7, EVENTS[0])).encode()
    with pytest.raises(EventError, match="does not begin with the version"):
        LineReader().read(line)


def test_of_a_long_past_only_what_is_rare_or_newest_is_read() -> None:
    def pulse(worker: int, time: int) -> bytes:
        return (
            f'{{"kind": "worker_pulse", "time": {time}.000000, "step": 1, "worker": {worker}, '
        ).encode()

    ready = b'{"kind": "ready", "time": 1.000000, "step": 0, "worker": 1, "name": "a"}'
    shard = to_json(Recorded(1.5, 7, EVENTS[0])).encode()
    done = b'{"kind": "step_done", '
    lines = [pulse(1, 1), pulse(2, 2), ready, shard, pulse(1, 3), done, pulse(12, 4)]
    assert [*wanted(lines, shards=False)] == [lines[1], ready, lines[4], lines[6]]
    assert [*wanted(lines, shards=True)] == [line for line in lines if line is not done]


def test_metrics_are_read_by_one_pattern_or_strictly() -> None:
    told: list[str] = []
    text = records.metrics(49, 51).encode()
    expected = [
        StepLine(step, 2.0 + 2.0 / step, 0.006, 24, 10, 20, 2, 0.01, 2.5 if step == 50 else None)
        for step in (49, 50, 51)
    ]
    assert [*step_lines(text, "file", told.append)] == expected
    odd = json.dumps({**records.metric(50), "more": "of a later version"}).encode() + b"\n"
    mixed = [*step_lines(text[: text.index(b"\n") + 1] + odd + b"half\n", "file", told.append)]
    assert mixed == expected[:2]
    assert told == ["file: it is no record of a step"]
