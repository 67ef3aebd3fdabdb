"""Reads the events that a run has written down (``events.jsonl``), also while it goes on."""

from __future__ import annotations

from pathlib import Path

from coordinator.core.event_json import EventError, from_json
from coordinator.core.events import Recorded, Started

FILE = "events.jsonl"


class EventReader:
    """The events of ``run_dir``, as they come; see ``read``."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / FILE
        self._place = 0  # bytes that have been read
        self._lines = 0

    def read(self) -> list[Recorded]:
        """What has been written down since the last time; nothing while there is no file.

        Raises EventError, with the file and the line, for what is no event of a known version.
        """
        try:
            with open(self.path, "rb") as file:
                file.seek(self._place)
                lines = file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            if not line.endswith(b"\n"):
                break  # it is being written
            self._place += len(line)
            found.append(self._event(line))
        return found

    def _event(self, line: bytes) -> Recorded:
        self._lines += 1
        try:
            recorded = from_json(line)
            if self._lines == 1 and not isinstance(recorded.event, Started):
                raise EventError("it does not begin with the version of its form")
        except EventError as error:
            raise EventError(f"{self.path}, line {self._lines}: {error}") from error
        return recorded


def read_events(run_dir: Path) -> list[Recorded]:
    """All events of a run so far. Raises EventError."""
    return EventReader(run_dir).read()
