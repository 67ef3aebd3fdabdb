"""The shards that workers had in a window of the past."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coordinator.core.event_json import EventError
from lab.page.board import plain_span
from lab.page.event_lines import NEWEST, SELDOM, UNREAD, LineReader
from lab.page.record_search import LOOK, Epoch, Record, opened, time_of
from lab.report.spans import Span, Tracker

MOST_SPANS = 20_000
MOST_READ = 1 << 26  # bytes
UNUSED = (*UNREAD, *NEWEST, *SELDOM)


def spans_between(
    run_dir: Path, epochs: Sequence[Epoch], begin: float, end: float
) -> dict[str, Any]:
    """Those between two times, in seconds since 1970. Raises NotRecordedError."""
    found: list[list[Any]] = []
    truncated = False
    with opened(run_dir, epochs) as record:
        for span in _spans(record, begin, end):
            if span.end >= begin and span.begin <= end:
                found.append(plain_span(span))
                if truncated := len(found) >= MOST_SPANS:
                    break
    return {"spans": found, "truncated": truncated}


def _spans(record: Record, begin: float, end: float) -> Iterator[Span]:
    place = record.find(0, record.size, lambda line: _reaches(line, begin))
    place = max(place - LOOK, 0)
    epoch = record.epochs_before(place)
    reader, tracker = record.reader(epoch), Tracker(epoch)
    over: int | None = None  # the place after which all is later
    for at, line in record.lines(place, MOST_READ):
        if over is None and _reaches(line, end):
            over = at
        if over is not None and at > over + LOOK:
            return
        yield from spans_of(line, reader, tracker)


def spans_of(line: bytes, reader: LineReader, tracker: Tracker) -> Iterator[Span]:
    """What has ended with a line. One that cannot be read is passed over."""
    if line.startswith(UNUSED):
        return
    try:
        recorded = reader.read(line)
    except EventError:
        return
    for thing in tracker.take(recorded):
        if isinstance(thing, Span):
            yield thing


def _reaches(line: bytes, time: float) -> bool | None:
    found = time_of(line)
    return None if found is None else found >= time
