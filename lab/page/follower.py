"""Reads a run directory as it grows, and puts what is new on the board.

Bounded in all: what is read at once, and what is kept. Of a long record the events of shards are
passed over but for the last ones. What cannot be read is one sentence on the page.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from coordinator.core.event_json import EventError
from coordinator.core.events import Started
from coordinator.run.directory_owner import CONFIG
from lab.event_reader import FILE as EVENTS
from lab.page.board import Board
from lab.page.event_lines import LineReader, begins, stamp, wanted
from lab.page.growing import Chunk, GrowingFile
from lab.page.head import Head, read_page_head
from lab.page.metric_lines import step_lines
from lab.page.record_search import Epoch
from lab.replay.run_files import METRICS
from lab.report.ending import is_owned, read_ending
from lab.report.reading import RunError

RECENT = 1 << 20  # bytes of events from the end whose shards are read
STARTED = begins(Started)
QUIET = 2.0  # seconds without news after which it is looked whether somebody still writes


class Follower:
    """The run in ``path``. All of it is one thread's; ``now`` is the time since 1970."""

    def __init__(self, path: Path, *, control: bool = False) -> None:
        self.path = path
        self._control = control
        self.board = Board()
        self.complaints: list[str] = []  # for the log: each is said once
        self.head: Head | None = None
        self._head_stamp: tuple[int, int] | None = None
        self._head_problem = ""
        self._events = GrowingFile(path / EVENTS)
        self._metrics = GrowingFile(path / METRICS)
        self._reader = LineReader()
        self.epochs: list[Epoch] = []
        self._grown_at = 0.0
        self._looked = False  # whether anybody writes

    def poll(self, now: float, *, watched: bool = True) -> bool:
        """Take in what is new; whether a snapshot must be sent anew.

        While nobody watches the last events are left, so that a viewer gets their shards.
        """
        self._read_head()
        grown = self._read_events(0 if watched else RECENT)
        grown = self._read_metrics() or grown
        if grown and self._looked:
            self._grown_at, self.board.standing.ended = now, ""
        elif not self._looked or now - self._grown_at > QUIET:
            self._grown_at, self._looked = now, True
            self._look_for_an_owner()
        anew, self.board.anew = self.board.anew, False
        return anew

    def _complain(self, text: str) -> None:
        if text not in self.complaints and len(self.complaints) < 100:
            self.complaints.append(text)
        self.board.standing.problem = text

    # --- config.json -----------------------------------------------------------------------------

    def _read_head(self) -> None:
        try:
            status = (self.path / CONFIG).stat()
        except OSError:
            return
        seen = status.st_ino, status.st_mtime_ns
        if seen == self._head_stamp:
            return
        self._head_stamp = seen
        try:
            head = read_page_head(self.path, control=self._control)
        except RunError as error:
            self._head_problem = str(error)
            self._complain(self._head_problem)
            return
        if self._head_problem and self.board.standing.problem == self._head_problem:
            self.board.standing.problem = ""  # it has been mended
        self.head = head
        self.board.begin(head.run, head.parameters, head.compressed)

    # --- events.jsonl ----------------------------------------------------------------------------

    def _read_events(self, leave: int) -> bool:
        grown = False
        while True:
            try:
                chunk = self._events.read(leave=leave)
            except OSError as error:
                self._complain(f"{self._events.path} cannot be read: {error.strerror}")
                return grown
            if chunk.anew:
                self._begin_anew()
            if not chunk.lines:
                return grown
            grown = True
            self._take_lines(chunk)

    def _begin_anew(self) -> None:
        head, board = self.head, Board()
        if head is not None:
            board.begin(head.run, head.parameters, head.compressed)
        board.anew = True
        self.board, self._reader, self.epochs = board, LineReader(), []
        self._metrics = GrowingFile(self._metrics.path)

    def _take_lines(self, chunk: Chunk) -> None:
        """Of the last ones in the file those of shards, too."""
        lines, place = chunk.lines, max(len(chunk.lines) - max(RECENT - chunk.left, 0), 0)
        if place:
            place = lines.find(b"\n", place - 1) + 1 or len(lines)
        for part, shards in ((lines[:place], False), (lines[place:], True)):
            if part:
                self._take(part, shards)
        self._note_epochs(chunk)

    def _take(self, lines: bytes, shards: bool) -> None:
        split = lines.split(b"\n")
        split.pop()
        self.board.roster.partial |= not shards
        for line in wanted(split, shards=shards):
            try:
                self.board.take(self._reader.read(line))
            except EventError as error:
                self._complain(f"{self._events.path}: {error}")
        if (last := stamp(split[-1])) is not None:
            self.board.note_time(*last)

    def _note_epochs(self, chunk: Chunk) -> None:
        """Where epochs begin, for whoever looks for a place in the file."""
        at = chunk.lines.find(STARTED)
        while at >= 0:
            if at == 0 or chunk.lines[at - 1 : at] == b"\n":
                line = chunk.lines[at : chunk.lines.find(b"\n", at)]
                reader = LineReader()
                with contextlib.suppress(EventError):
                    reader.read(line)
                if reader.schema is not None:
                    self.epochs.append(Epoch(chunk.place + at, reader.schema))
            at = chunk.lines.find(STARTED, at + 1)

    # --- metrics.jsonl ---------------------------------------------------------------------------

    def _read_metrics(self) -> bool:
        grown = False
        while True:
            try:
                chunk = self._metrics.read()
            except OSError as error:
                self._complain(f"{self._metrics.path} cannot be read: {error.strerror}")
                return grown
            if chunk.anew:
                self.board.forget_steps()
            if not chunk.lines:
                return grown
            grown = True
            for line in step_lines(chunk.lines, str(self._metrics.path), self._complain):
                self.board.add_step(line)

    # --- how it stands ---------------------------------------------------------------------------

    def _look_for_an_owner(self) -> None:
        """Whether a run that says nothing was killed: nobody holds the lock on its folder."""
        standing = self.board.standing
        if standing.time is None:
            return  # it has not begun
        if standing.phase(1) in ("running", "paused") and not is_owned(self.path):
            ending = read_ending(self.path)
            if ending.how in ("killed", "unknown"):
                standing.ended = ending.how
