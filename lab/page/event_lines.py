"""Lines of events, read at a speed that a page can keep up with. Pure.

A run with all events writes thousands of lines a second, nearly all of them of two kinds. Those are
read by a pattern of the form in which they are written; whatever has another form is read by
``coordinator.core.event_json``, which says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from coordinator.core.event_json import EventError, from_json, kind_of
from coordinator.core.events import (
    EVENTS,
    SCHEMA,
    Answered,
    Assigned,
    Evaluated,
    Event,
    Level,
    Purpose,
    Recorded,
    RoundClosed,
    RoundOpened,
    Started,
    StepDone,
    StrategyNumbers,
    TensorNorms,
    WorkerPulse,
)


def begins(event_type: type) -> bytes:
    """How a line of a kind begins."""
    return f'{{"kind": "{kind_of(event_type)}"'.encode()


#: Passed over: the metrics have the steps, and rounds are looked for when somebody asks.
UNREAD = tuple(begins(kind) for kind in (RoundOpened, RoundClosed, StepDone, Evaluated))
#: What only the newest of counts, of each worker if it is about one.
NEWEST = (begins(WorkerPulse),)
#: At most two a second: all are read, for their course.
SELDOM = tuple(begins(kind) for kind in (TensorNorms, StrategyNumbers))
#: Kinds that there are many of.
MANY = tuple(
    begins(kind)
    for kind in EVENTS
    if kind.recorded_at is not Level.SUMMARY and kind not in (TensorNorms, StrategyNumbers)
)

_NUMBER = rb"(\d{1,18})"
_SECONDS = rb"(\d{1,12}\.\d{1,20}|\d(?:\.\d{1,20})?e-\d\d)"
_SHARD = (
    rb'", "time": (\d{1,11}\.\d{1,9}), "step": ' + _NUMBER + rb', "round": ' + _NUMBER
    + rb', "version": ' + _NUMBER + rb', "start": ' + _NUMBER + rb', "count": ' + _NUMBER
    + rb', "evaluation": (true|false), "worker": ' + _NUMBER + rb', "name": "([ !#-\[\]-~]*)", '
)  # fmt: skip
_ASSIGNED = re.compile(rb'\{"kind": "assigned' + _SHARD + rb'"purpose": "(work|backup|trial)"\}\n?')
_ANSWERED = re.compile(
    rb'\{"kind": "answered' + _SHARD + rb'"trial": (true|false), "seconds": ' + _SECONDS
    + rb', "waited": ' + _SECONDS + rb"\}\n?"
)  # fmt: skip
_PURPOSES = {purpose.encode(): purpose for purpose in Purpose}
_STAMP = re.compile(rb'", "time": (\d{1,11}\.\d{1,9}), "step": (\d{1,18}),')


def shard_event(line: bytes) -> Recorded | None:
    """The event of a line that says that a shard is assigned or answered, in the usual form."""
    if found := _ASSIGNED.fullmatch(line):
        time, step, round_, version, start, count, held_out, worker, name, last = found.groups()
        event: Event = Assigned(
            int(round_), int(version), int(start), int(count), held_out == b"true", int(worker),
            name.decode(), _PURPOSES[last],
        )  # fmt: skip
        return Recorded(float(time), int(step), event)
    if found := _ANSWERED.fullmatch(line):
        (
            time, step, round_, version, start, count, held_out, worker, name, trial, seconds,
            waited,
        ) = found.groups()  # fmt: skip
        event = Answered(
            int(round_), int(version), int(start), int(count), held_out == b"true", int(worker),
            name.decode(), trial == b"true", float(seconds), float(waited),
        )  # fmt: skip
        return Recorded(float(time), int(step), event)
    return None


def stamp(line: bytes) -> tuple[int, float] | None:
    """Step and time of a line, if it begins as events do."""
    found = _STAMP.search(line, 0, 120)
    return (int(found[2]), float(found[1])) if found else None


class LineReader:
    """Reads lines, in the order of their file.

    ``schema``: the form of the first ones, if they are not the first of the file.
    """

    def __init__(self, schema: int | None = None) -> None:
        self.schema = schema

    @property
    def begun(self) -> bool:
        """Whether it is known how the lines are to be read."""
        return self.schema is not None

    def read(self, line: bytes) -> Recorded:
        """The event of a line. Raises EventError, also for a first line that begins no epoch."""
        if self.schema is not None and (known := shard_event(line)) is not None:
            return known
        recorded = from_json(line, self.schema or SCHEMA)
        if isinstance(recorded.event, Started):
            self.schema = recorded.event.schema
        elif self.schema is None:
            raise EventError("it does not begin with the version of its form")
        return recorded


def wanted(lines: list[bytes], *, shards: bool) -> Iterator[bytes]:
    """Those that are to be read, of whole lines; with ``shards`` those of shards, too.

    Without them of a worker's pulses only the newest is: nobody sees the others.
    """
    if shards:
        for line in lines:
            if not line.startswith(UNREAD):
                yield line
        return
    newest: dict[bytes, int] = {}
    few: list[tuple[int, bytes]] = []
    for place, line in enumerate(lines):
        if not line.startswith(MANY):
            few.append((place, line))
        elif line.startswith(NEWEST):
            newest[_about(line)] = place
    few += [(place, lines[place]) for place in newest.values()]
    for _, line in sorted(few):
        if not line.startswith(UNREAD):
            yield line


_WORKER = re.compile(rb'"worker": (\d{1,18}),')


def _about(line: bytes) -> bytes:
    """The worker."""
    worker = _WORKER.search(line, 0, 160)
    return worker[0] if worker else b""
