"""Writes events down while training goes on: what that takes is taken where nobody waits.

``add`` keeps an event and no more. It becomes a line while the coordinator waits for workers, a few
at a time; a thread takes the lines to the disk several times a second, so that a slow disk, or a
full one, is not waited for. After ``kill -9`` at most the last ``FLUSH_SECONDS`` are missing.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from pathlib import Path
from typing import NamedTuple

from coordinator.core.event_json import kind_of, to_json
from coordinator.core.events import DetailEnded, EventBase, LeftOut, Level, Recorded
from coordinator.run import line_file
from coordinator.run.line_file import LineFile, encoded

FLUSH_SECONDS = 0.2
AT_ONCE = 16  # events that are turned into lines before the loop looks for messages again
MOST_WAITING = 100_000  # events that a hanging disk does not take; others are counted
CLOSE_SECONDS = 10.0  # for the disk to take the last ones


class Limit(NamedTuple):
    """So many ``bytes`` a record may have before no more than ``level`` is added to it."""

    bytes: int
    level: Level


class EventLog:
    """The events of a run, appended to ``path``. All but the writing itself is one thread's.

    Raises OSError if the file cannot be opened.
    """

    def __init__(self, path: Path, limit: Limit | None = None) -> None:
        cut_half_line(path)
        self._limit = limit
        self._size = path.stat().st_size if path.exists() else 0
        self._reduced: Level | None = None  # what is recorded since the limit was reached
        self._said: deque[tuple[str, bool]] = deque()
        self._file = LineFile(path, lambda text, warning: self._said.append((text, warning)))
        self._events: deque[Recorded] = deque()
        self._lines: list[str] = []
        self._left_out: Counter[type[EventBase]] = Counter()
        self._encoding = threading.Lock()  # whoever has it turns events into lines
        self._writing = threading.Lock()  # and whoever has this one writes them
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="events", daemon=True)
        self._thread.start()

    def add(self, recorded: Recorded) -> None:
        """Write it down soon. Takes no time to speak of, whatever the disk does."""
        if self._reduced is not None and not self._reduced.has(recorded.event.recorded_at):
            return
        self._add(recorded)
        limit = self._limit
        if limit is not None and self._reduced is None and self._size >= limit.bytes:
            self._reduced = limit.level
            self._add(recorded._replace(event=DetailEnded(limit.bytes, limit.level)))

    def _add(self, recorded: Recorded) -> None:
        if self._left_out and len(self._events) < MOST_WAITING // 2:
            for event_type, number in self._left_out.items():
                told = LeftOut(kind_of(event_type), number)
                self._events.append(Recorded(recorded.time, recorded.step, told))
            self._left_out.clear()
        if self._left_out or len(self._events) >= MOST_WAITING:
            self._left_out[type(recorded.event)] += 1
        else:
            self._events.append(recorded)

    def settle(self) -> None:
        """Do a little of what is to be done. For moments in which nothing else is."""
        while self._said:
            line_file.tell(*self._said.popleft())
        if self._events and self._encoding.acquire(blocking=False):
            try:
                self._encode(AT_ONCE)
            finally:
                self._encoding.release()

    def flush(self) -> None:
        """Write what there is; it is in the file when this returns, if there is room."""
        self._flush()

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Write what there is, and close; a disk that hangs is given up after ``timeout``."""
        self._closed.set()
        self._thread.join(timeout)
        self.settle()

    def _encode(self, most: int) -> None:
        for _ in range(min(most, len(self._events))):
            self._lines.append(to_json(self._events.popleft()))

    def _work(self) -> None:
        while not self._closed.wait(FLUSH_SECONDS):
            self._flush()
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        with self._writing:
            with self._encoding:
                self._encode(MOST_WAITING)
                lines, self._lines = self._lines, []
            if lines:
                data = encoded("\n".join(lines)) + b"\n"
                self._file.write(data)
                self._size += len(data)


def cut_half_line(path: Path) -> None:
    """Cut off what a killed process has left behind the last whole line. Raises OSError."""
    if not path.exists():
        return
    with open(path, "r+b") as file:
        data = file.read()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            file.truncate(whole)
