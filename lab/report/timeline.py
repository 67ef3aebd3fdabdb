"""The part of a run's timeline that a page shows: a window of time, and all that is news.

A long run has millions of events. Those of shards are read within the window alone, which ends
early if it has too many; the others are few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.core.event_json import EventError, kind_of
from coordinator.core.events import (
    EVENTS,
    CheckpointSaved,
    Closing,
    Evaluated,
    Level,
    Ready,
    Recorded,
    Status,
)
from lab.event_reader import EventReader
from lab.report.reading import open_file
from lab.report.spans import Lane, Mark, Span, Tracker

BARS = 100  # for each worker
MOST_BARS = 1600
MOST_LANES = 32
MOST_MARKS = 200
SECONDS = 10.0  # of the window, if nobody says otherwise
#: Kinds of events that there are many of.
MANY = tuple(
    f'{{"kind": "{kind_of(event)}"'.encode()
    for event in EVENTS
    if event.recorded_at is not Level.SUMMARY
)
_TIME = re.compile(rb'"time": (\d{1,12}\.\d{1,9})')
#: Too usual to be told in a list.
USUAL = (Ready, Status, Evaluated, CheckpointSaved, Closing)


@dataclass
class Timeline:
    """Times are seconds since 1970. ``begin``: when the run's first epoch began.

    The window reaches from ``first`` to ``last``; ``spans`` lie in it. ``marks`` are the first of
    all, and ``more`` counts the others. ``problem``: why there is no more of it.
    """

    begin: float = 0.0
    first: float = 0.0
    last: float = 0.0
    lanes: list[Lane] = field(default_factory=list)
    names: dict[Lane, tuple[str, str]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    more: int = 0
    problem: str = ""


class _Window:
    """Passes over the lines of shards outside the window; see ``Timeline``."""

    def __init__(self, after: float | None, seconds: float) -> None:
        self.begin: float | None = None
        self.first: float | None = None
        self.full = False
        self._after, self._seconds = after, seconds

    @property
    def last(self) -> float:
        return (self.first or 0.0) + self._seconds

    def wants(self, line: bytes) -> bool:
        """Whether a line must be read."""
        if not line.startswith(MANY):
            return True
        if self.full or self.first is None:
            return False
        time = _TIME.search(line, 0, 200)
        return time is None or self.first <= float(time[1]) <= self.last

    def see(self, recorded: Recorded) -> None:
        """An event has been read: it may be the one at which the window begins."""
        if self.begin is None:
            self.begin = recorded.time
            if self._after is not None:
                self.first = self.begin + self._after
        if self.first is None and isinstance(recorded.event, Ready):
            self.first = recorded.time


def read_timeline(run_dir: Path, after: float | None, seconds: float) -> Timeline:
    """What happened in a run. The window begins ``after`` seconds, or when a worker is ready.

    Raises nothing: the ``problem`` says what is wrong with the rest.
    """
    found, window, tracker = Timeline(), _Window(after, seconds), Tracker()

    def events() -> Iterator[Recorded]:
        for _, recorded in reader.one_by_one(window.wants):
            window.see(recorded)
            yield recorded

    reader = EventReader(run_dir)
    try:
        open_file(reader.path).close()  # a pipe would be waited for
        for thing in tracker.follow(events()):
            most = min(BARS * max(len(tracker.names), 1), MOST_BARS)
            _add(found, thing, window, most)
    except EventError as error:
        found.problem = str(error)
    except OSError as error:
        found.problem = f"{reader.path} cannot be read: {error.strerror}"
    found.begin = window.begin or 0.0
    found.first = window.first or found.begin
    ends = [span.end for span in found.spans]
    found.last = max([found.first, *ends])
    seen = dict.fromkeys(span.lane for span in found.spans)
    found.lanes = sorted(seen)[:MOST_LANES]
    found.names = tracker.names
    return found


def _add(found: Timeline, thing: Span | Mark, window: _Window, most: int) -> None:
    if isinstance(thing, Span):
        if len(found.spans) < most and window.first is not None:
            found.spans.append(thing._replace(end=min(thing.end, window.last)))
        window.full = len(found.spans) >= most
    elif not isinstance(thing.event, USUAL):
        if len(found.marks) < MOST_MARKS:
            found.marks.append(thing)
        else:
            found.more += 1


def told_at(timeline: Timeline, time: float) -> float:
    """Seconds since the run began."""
    return time - timeline.begin


@dataclass(frozen=True)
class LaneSummary:
    """A worker in the window: documents that were used, and shares of the window's time.

    ``computing``: its engine was at work; ``busy``: it had a shard.
    """

    lane: Lane
    documents: int
    computing: float
    busy: float


def summaries(timeline: Timeline) -> list[LaneSummary]:
    """A line for each worker that had work in the window."""
    length = max(timeline.last - timeline.first, 1e-9)
    found = []
    for lane in timeline.lanes:
        spans = [span for span in timeline.spans if span.lane == lane]
        answered = [span for span in spans if span.computing is not None]
        computing = sum(s.end - s.computing for s in answered if s.computing is not None)
        documents = sum(s.shard.count for s in answered if s.outcome == "answered")
        found.append(
            LaneSummary(lane, documents, min(computing / length, 1.0), _covered(spans) / length)
        )
    return found


def _covered(spans: list[Span]) -> float:
    """Seconds in which at least one of the spans was under way."""
    total, until = 0.0, 0.0
    for span in sorted(spans, key=lambda span: span.begin):
        total += max(0.0, span.end - max(span.begin, until))
        until = max(until, span.end)
    return total
