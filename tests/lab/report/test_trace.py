"""The timeline as a Chrome trace, read by the rules of the format."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from coordinator.core.event_json import EventError
from coordinator.core.events import Evaluated, Finished, Joined, Lost, Outcome, StepDone
from lab.report.reading import read_run
from lab.report.trace import write_trace
from tests.lab.report.directories import make_run, started, write_events
from tests.lab.report.test_spans import Told, answer, given
from tests.lab.report.trace_reader import Trace, check_nested

TOLD: list[Told] = [
    (0.0, started()),
    (0.0, Joined(1, 'a "name"', "tape")),
    (0.5, Joined(2, "b", "tape")),
    (1.0, given(0)),
    (1.0, given(0, 2)),
    (1.0, given(0, 4, worker=2)),
    (2.0, answer(0)),
    (2.25, answer(0, 2)),
    (2.25, StepDone(1, 2.5, 1.0, 2)),
    (3.0, Lost(2, "b", 1)),
    (3.5, Evaluated(1, 2.75, 0.5)),
    (4.0, Finished(Outcome.DONE, "x")),
]


def traced(*paths: Path) -> Trace:
    file = io.StringIO()
    write_trace([read_run(path) for path in paths], file)
    return Trace(file.getvalue())


def test_each_run_is_a_process_and_each_worker_a_thread(tmp_path: Path) -> None:
    paths = [make_run(tmp_path / name) for name in ("one", "two")]
    for path in paths:
        write_events(path, TOLD)
    trace = traced(*paths)
    assert trace.processes == {1: "one", 2: "two"}
    names = {0: "coordinator", 1: 'a "name" (1)', 2: "b (2)"}
    assert trace.threads == {(p, t): name for p in (1, 2) for t, name in names.items()}


def test_times_are_microseconds_since_the_run_began(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_events(path, TOLD)
    trace = traced(path)
    found = [(e["ts"], e["dur"]) for e in trace.complete[1, 1]]
    assert found == [(1.5e6, 0.5e6), (2.0e6, 0.25e6)]
    spans = [(b["tid"], b["ts"], e["ts"], b["args"]["outcome"]) for b, e in trace.spans]
    assert spans == [
        (1, 1e6, 2e6, "answered"), (1, 1e6, 2.25e6, "answered"), (2, 1e6, 3e6, "lost"),
    ]  # fmt: skip
    assert trace.counters == {"loss": [(2.25e6, 2.5)], "validation loss": [(3.5e6, 2.75)]}
    instants = [(e["name"], e["tid"], e["ts"]) for e in trace.instants]
    assert ("lost", 2, 3e6) in instants
    assert ("finished", 0, 4e6) in instants


def test_times_that_cannot_be_are_refused(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_events(path, [*TOLD[:4], (1e307, answer(0)), *TOLD[4:]])
    with pytest.raises(EventError, match=r"line 5: answered: 1e\+307 is no time$"):
        traced(path)


def test_events_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    (path / "events.jsonl").write_text("{}\n")
    with pytest.raises(EventError, match="there is no kind of event None"):
        traced(path)


def test_the_reader_of_the_format_refuses_what_is_wrong() -> None:
    where = {"pid": 1, "tid": 0, "name": "x"}
    for events in (
        [{"ph": "X", "ts": 0.0, "dur": -1.0, **where}],
        [{"ph": "b", "cat": "c", "id": "1", "ts": 0.0, **where}],
        [{"ph": "i", "s": "t", "ts": 0.0, **where}],  # of a thread without a name
        [{"ph": "i", "s": "t", "ts": float("nan"), **where}],
    ):
        with pytest.raises((AssertionError, KeyError)):
            Trace(json.dumps({"displayTimeUnit": "ms", "traceEvents": events}))
    with pytest.raises(AssertionError, match="overlap"):
        check_nested([{"ts": 0.0, "dur": 2.0}, {"ts": 1.0, "dur": 2.0}])
