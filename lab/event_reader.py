"""Reads the events that a run has written down (``events.jsonl``), also while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from coordinator.core.event_json import EventError, from_json
from coordinator.core.events import SCHEMA, Recorded, Started

FILE = "events.jsonl"


class EventReader:
    """The events of ``run_dir``, as they come; see ``read``."""

    def __init__(self, run_dir: Path) -> None:
        self.path = run_dir / FILE
        self._place = 0  # bytes that have been read
        self._lines = 0
        self._schema = SCHEMA  # of the epoch that is being read

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

    def one_by_one(
        self, wanted: Callable[[bytes], bool] = lambda line: True
    ) -> Iterator[tuple[int, Recorded]]:
        """All events from the beginning, each with the number of its line; however many there are.

        Lines that are not ``wanted`` are passed over unread. Raises EventError, and OSError if the
        file cannot be read.
        """
        with open(self.path, "rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return  # it is being written, or its writer was killed
                self._lines = number - 1
                if wanted(line):
                    yield number, self._event(line)

    def _event(self, line: bytes) -> Recorded:
        self._lines += 1
        try:
            recorded = from_json(line, self._schema)
            if isinstance(recorded.event, Started):
                self._schema = recorded.event.schema
            elif self._lines == 1:
                raise EventError("it does not begin with the version of its form")
        except EventError as error:
            raise EventError(f"{self.path}, line {self._lines}: {error}") from error
        return recorded


def read_events(run_dir: Path) -> list[Recorded]:
    """All events of a run so far. Raises EventError."""
    return EventReader(run_dir).read()
