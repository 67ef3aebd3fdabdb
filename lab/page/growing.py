"""A file of lines that somebody else writes, read as it grows: whole lines only, each once.

The file may be cut back (a run that goes on from a checkpoint drops the steps that it will do
again) or replaced. That is seen by its size, and by its last bytes that were read: then reading
begins anew.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from lab.report.reading import open_file

MOST = 1 << 22  # bytes that are read at once
MOST_LINE = 1 << 20  # a longer line is no line: what is left of it is passed over
REMEMBERED = 96  # bytes before the place that must still be there


class Chunk(NamedTuple):
    """``lines``: whole lines, one after the other. ``anew``: it begins with the file's first.

    ``place``: where they begin. ``left``: bytes of the file that are still to be read, a half line
    included.
    """

    lines: bytes
    anew: bool
    place: int
    left: int


class GrowingFile:
    """The file at ``path``, which need not be there yet."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = 0  # bytes that have been read
        self._last = b""  # what stood right before the place
        self._identity = (0, 0)
        self._in_long_line = False

    def read(self, most: int = MOST, *, leave: int = 0) -> Chunk:
        """The next lines, at most about ``most`` bytes of them, but not the last ``leave`` bytes.

        Raises OSError if the file is there and cannot be read, or is no file.
        """
        try:
            file = open_file(self.path)
        except FileNotFoundError:
            return Chunk(b"", self._forget(), 0, 0)
        with file:
            status = os.fstat(file.fileno())
            identity = status.st_dev, status.st_ino
            anew = False
            if self.place and (identity != self._identity or not self._is_same(file.fileno())):
                anew = self._forget()
            self._identity = identity
            size = min(max(most, MOST_LINE), status.st_size - leave - self.place)
            found = os.pread(file.fileno(), max(size, 0), self.place)
            lines = self._whole(found)
            left = max(status.st_size - self.place, 0)
            return Chunk(lines, anew, self.place - len(lines), left)

    def _is_same(self, descriptor: int) -> bool:
        before = os.pread(descriptor, len(self._last), self.place - len(self._last))
        return before == self._last

    def _forget(self) -> bool:
        """Begin anew; whether anything had been read."""
        had = self.place > 0
        self.place, self._last, self._in_long_line = 0, b"", False
        return had

    def _whole(self, found: bytes) -> bytes:
        begin, end = 0, found.rfind(b"\n") + 1
        if self._in_long_line and end:
            begin = found.find(b"\n") + 1
            self._in_long_line = False
        if not end and len(found) >= MOST_LINE:
            self._in_long_line = True
            end = begin = len(found)
        self.place += end
        if end:
            self._last = found[max(0, end - REMEMBERED) : end]
        return found[begin:end]
