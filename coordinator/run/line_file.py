"""A file of lines that grows. A full disk costs a warning, not the training."""

from __future__ import annotations

import contextlib
import json
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from microgpt.support.cli import say

MAX_WAITING = 1 << 20  # bytes of lines that a full disk does not take
_as_json = json.JSONEncoder(ensure_ascii=False).encode  # dumps() makes an encoder each time


def tell(text: str, warning: bool) -> None:
    """Say it at once."""
    say(f"warning: {text}" if warning else text, error=warning)


class LineFile:
    """Lines, appended. What cannot be written waits in memory, up to a limit, for room.

    ``tell`` hears, with whether it is a warning, when that begins and ends.
    """

    def __init__(self, path: Path, tell: Callable[[str, bool], None] = tell) -> None:
        self._path, self._tell = path, tell
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115  # closed by close()
        self._records: deque[Mapping[str, Any]] = deque()
        self._lines: list[str] = []
        self._waiting = b""
        self._failing = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Keep a record, to be a line of JSON soon. Takes no time to speak of."""
        self._records.append(record)

    def settle(self, most: int) -> None:
        """Turn some records into lines. For moments in which nothing else is to be done."""
        for _ in range(min(most, len(self._records))):
            self._lines.append(_as_json(self._records.popleft()))

    def flush(self) -> None:
        """Write all records; they are in the file when this returns, if there is room."""
        self.settle(len(self._records))
        if self._lines:
            lines, self._lines = self._lines, []
            self.write(encoded("\n".join(lines)) + b"\n")

    def write(self, lines: bytes) -> None:
        """Add whole lines; they are in the file when this returns, if there is room."""
        if len(self._waiting) < MAX_WAITING:
            self._waiting += lines
        try:
            self._write()
        except OSError as error:
            if not self._failing:
                self._tell(f"{self._path} cannot be written: {error.strerror}", True)
            self._failing = True
        else:
            if self._failing:
                self._tell(f"{self._path} is written again", False)
            self._failing = False

    def close(self) -> None:
        """Write what waits, if there is room now, and close."""
        self.flush()
        with contextlib.suppress(OSError):
            self._write()
        self._file.close()

    def _write(self) -> None:
        while self._waiting:
            written = self._file.write(self._waiting)
            self._waiting = self._waiting[written:]


def encoded(text: str) -> bytes:
    """JSON text in UTF-8. A file name that is not UTF-8 is escaped, and read as it was."""
    return text.encode(errors="backslashreplace")
