"""Follows a run by the files that it writes: which steps are done, and where it stood still."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any, BinaryIO

NOTICEABLE = 0.02  # seconds between two steps that are kept as a pause


class Watch:
    """The metrics of a run directory, read as they grow; see ``look``.

    ``step`` is the last step done; ``pauses`` are the times (of the monotonic clock) between which
    no step was completed.
    """

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / "metrics.jsonl"
        self._file: BinaryIO | None = None
        self._inode = 0
        self.step = self.done = 0
        self.pauses: list[tuple[float, float]] = []
        self.last = time.monotonic()

    def look(self) -> int:
        """Read on. Returns how many steps were completed since the last look."""
        now = time.monotonic()
        try:
            fresh = self._read_on(os.stat(self._path))
        except FileNotFoundError:
            return 0
        if fresh:
            if now - self.last > NOTICEABLE:
                self.pauses.append((self.last, now))
            self.last = now
            self.done += fresh
        return fresh

    def _read_on(self, status: os.stat_result) -> int:
        """The number of new whole lines, also of a file that is another, or cut, since."""
        first = self._file is None
        known = None if self._file is None or status.st_ino != self._inode else self._file.tell()
        if known is not None and status.st_size >= known:
            with contextlib.suppress(ValueError):  # cut and grown: this is within a line
                return self._read()
        self.close()
        self._file = open(self._path, "rb")  # noqa: SIM115  # read on later
        self._inode = os.fstat(self._file.fileno()).st_ino
        self.step = 0
        fresh = self._read()
        return fresh if first else 0  # a coordinator that goes on has kept these lines

    def _read(self) -> int:
        """The number of new whole lines."""
        assert self._file is not None  # noqa: S101  # opened by look()
        count = 0
        while True:
            place = self._file.tell()
            line = self._file.readline()
            if not line.endswith(b"\n"):
                self._file.seek(place)
                return count
            self.step = json.loads(line)["step"]
            count += 1

    def pause_after(self, moment: float, until: float) -> float:
        """The longest time without a step between these times: what a fault may have cost."""
        cut = [
            end - max(begin, moment) for begin, end in self.pauses if end > moment and begin < until
        ]
        return max(cut, default=0.0)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file with one JSON object a line; none if it is missing."""
    if not path.exists():
        return []
    whole = path.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
