"""A run's timeline as a Chrome trace, which Perfetto (ui.perfetto.dev) and others open.

The form: "Trace Event Format", Google, 2016: one JSON object with ``traceEvents``. A run is a
process, a worker a thread in it. The time in which a worker had a shard is an asynchronous span, as
several overlap; the time in which its engine was at work is a complete event.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from coordinator.core.event_json import kind_of
from coordinator.core.events import Evaluated, Recorded, Started, StepDone
from lab.event_reader import EventReader
from lab.report.reading import RunRecord, open_file
from lab.report.spans import Lane, Mark, Span, Tracker

MICROSECONDS = 1e6
MOST = 1e15  # thirty years
COORDINATOR = 0  # thread of what is about the whole run


def write_trace(runs: Sequence[RunRecord], file: TextIO) -> None:
    """Write the events of the runs. Each begins at time 0. Raises EventError or OSError."""
    file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
    separator = ""
    for process, run in enumerate(runs, 1):
        for event in _events(run.path, process, run.name):
            file.write(separator + json.dumps(event))
            separator = ",\n"
    file.write("\n]}\n")


def _events(run_dir: Path, process: int, name: str) -> Iterator[dict[str, Any]]:
    trace = _Trace(process)
    yield trace.named("process_name", COORDINATOR, name)
    yield trace.named("thread_name", COORDINATOR, "coordinator")
    reader, tracker = EventReader(run_dir), Tracker()
    open_file(reader.path).close()  # a pipe would be waited for
    losses: list[dict[str, Any]] = []

    def events() -> Iterator[Recorded]:
        for _, recorded in reader.one_by_one():
            losses.extend(trace.losses(recorded))
            yield recorded

    for thing in tracker.follow(events()):
        yield from losses
        losses.clear()
        yield from trace.of(thing, tracker)
    yield from losses


class _Trace:
    """Turns what happened in a run into events of the form."""

    def __init__(self, process: int) -> None:
        self._process = process
        self._begin: float | None = None
        self._threads: dict[Lane, int] = {}
        self._spans = 0

    def named(self, what: str, thread: int, name: str) -> dict[str, Any]:
        """What a process or a thread is called."""
        return {
            "ph": "M", "name": what, "pid": self._process, "tid": thread, "args": {"name": name},
        }  # fmt: skip

    def losses(self, recorded: Recorded) -> Iterator[dict[str, Any]]:
        """A loss as a counter."""
        if self._begin is None:
            self._begin = recorded.time
        event = recorded.event
        if isinstance(event, StepDone | Evaluated):
            name = "loss" if isinstance(event, StepDone) else "validation loss"
            yield {
                "ph": "C", "name": name, "ts": self._at(recorded.time), "pid": self._process,
                "tid": COORDINATOR, "args": {"nats per token": event.loss},
            }  # fmt: skip

    def of(self, thing: Span | Mark, tracker: Tracker) -> Iterator[dict[str, Any]]:
        """A span or a mark."""
        thread = COORDINATOR
        if thing.lane is not None:
            known = thing.lane in self._threads
            thread = self._threads.setdefault(thing.lane, len(self._threads) + 1)
            if not known:
                name = tracker.names.get(thing.lane, ("", ""))[0]
                yield self.named("thread_name", thread, f"{name} ({thing.lane.number})")
        yield from (
            self._span(thing, thread) if isinstance(thing, Span) else [self._mark(thing, thread)]
        )

    def _span(self, span: Span, thread: int) -> Iterator[dict[str, Any]]:
        shard = span.shard
        where = {"pid": self._process, "tid": thread}
        label = {
            "name": f"round {shard.round}: {span.kind}",
            "args": {
                "round": shard.round, "version": shard.version, "first document": shard.start,
                "documents": shard.count, "outcome": span.outcome,
            },
        }  # fmt: skip
        self._spans += 1
        flight = {"cat": "in flight", "id": f"{self._process}.{self._spans}", **where, **label}
        yield {"ph": "b", "ts": self._at(span.begin), **flight}
        yield {"ph": "e", "ts": self._at(span.end), **flight}
        if span.computing is not None:
            begin = self._at(span.computing)
            took = self._at(span.end) - begin
            yield {"ph": "X", "cat": "computing", "ts": begin, "dur": took, **where, **label}

    def _mark(self, mark: Mark, thread: int) -> dict[str, Any]:
        return {
            "ph": "i", "s": "p" if isinstance(mark.event, Started) else "t",
            "name": kind_of(mark.event), "cat": "event", "ts": self._at(mark.time),
            "pid": self._process, "tid": thread, "args": {"text": mark.text},
        }  # fmt: skip

    def _at(self, time: float) -> float:
        """Microseconds since the run began, to a nanosecond."""
        passed = (time - (self._begin or 0.0)) * MICROSECONDS
        return round(max(-MOST, min(passed, MOST)), 3)
