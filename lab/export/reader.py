"""Reads the files of a run as they grow, for ``Rows``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from coordinator.core.event_json import EventError
from coordinator.core.events import Finished, Started, StrategyNumbers, TensorNorms
from lab.event_reader import FILE as EVENTS
from lab.export.rows import Row, Rows
from lab.page.event_lines import LineReader, begins, stamp
from lab.page.growing import GrowingFile
from lab.page.step_times import StepTimes
from lab.replay.run_files import METRICS
from lab.report.reading import RunError, step_record

READ = tuple(begins(kind) for kind in (Started, Finished, TensorNorms, StrategyNumbers))
MOST_COMPLAINTS = 20


class RecordReader:
    """The record in ``run_dir``. ``finished``: its last epoch is over, as its events say.

    ``complaints``: what could not be read, each once, for people.
    """

    def __init__(self, run_dir: Path) -> None:
        self.finished = False
        self.complaints: list[str] = []
        self._events = GrowingFile(run_dir / EVENTS)
        self._metrics = GrowingFile(run_dir / METRICS)
        self._lines, self._times, self._rows = LineReader(), StepTimes(), Rows()
        self._step, self._worked = 0, 0.0  # the last step that was read, and seconds of work

    def poll(self) -> Iterator[Row]:
        """Read what is new; the rows that are complete by now. Raises OSError."""
        while self._read_events():
            pass
        while self._read_metrics():
            yield from self._rows.settled()
        yield from self._rows.settled()

    def rest(self) -> Iterator[Row]:
        """What is left when nothing more will come. Raises OSError."""
        yield from self.poll()
        yield from self._rows.rest()

    def _read_events(self) -> bool:
        chunk = self._events.read()
        if chunk.anew:
            self._lines, self._times = LineReader(), StepTimes()
        for line in chunk.lines.splitlines():
            if (seen := stamp(line)) is not None:
                self._times.note(*seen)
            if line.startswith(READ) or not self._lines.begun:
                self._take(line)
        return bool(chunk.lines)

    def _take(self, line: bytes) -> None:
        try:
            time, _, event = self._lines.read(line)
        except EventError as error:
            self._complain(f"{self._events.path}: {error}")
            return
        if isinstance(event, Started | Finished):
            self.finished = isinstance(event, Finished)
        self._rows.add_event(time, event)

    def _read_metrics(self) -> bool:
        chunk = self._metrics.read()
        if chunk.anew:
            self._step, self._worked = 0, 0.0
        for line in chunk.lines.splitlines():
            try:
                plain = step_record(line, str(self._metrics.path))
            except RunError as error:
                self._complain(str(error))
                continue
            if plain["step"] > self._step:
                before, self._worked = self._worked, self._worked + plain.get("seconds", 0.0)
                self._step = plain["step"]
                time = self._times.time_of(self._step, before, self._worked)
                self._rows.add_step(plain, time)
        return bool(chunk.lines)

    def _complain(self, text: str) -> None:
        if text not in self.complaints and len(self.complaints) < MOST_COMPLAINTS:
            self.complaints.append(text)
