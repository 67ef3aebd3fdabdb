"""Finds a place in a long ``events.jsonl`` without reading all of it, and reads on from there.

Lines stand in the order of time, and nearly in that of rounds; so places are found by halving, and
reading begins some way before them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from lab.event_reader import FILE
from lab.page.event_lines import LineReader
from lab.report.reading import open_file

BLOCK = 1 << 16  # bytes in which a line that tells something is looked for
PIECE = 1 << 20  # bytes that are read at once
LOOK = 1 << 20  # bytes before and after a place that are read, too
_TIME = re.compile(rb'", "time": (\d{1,11}\.\d{1,9})')
_ROUND = re.compile(rb'"round": (\d{1,18})')


class NotRecordedError(Exception):
    """The record does not have what is asked for; the message is one sentence."""


class Epoch(NamedTuple):
    """A start of the coordinator: the place of its first line, and the form of its lines."""

    place: int
    schema: int


class Record:
    """The open file, of ``size`` bytes, whose epochs are known."""

    def __init__(self, descriptor: int, size: int, epochs: Sequence[Epoch]) -> None:
        self._descriptor = descriptor
        self.size = size
        self.epochs = epochs

    def epoch_at(self, place: int) -> int:
        """The number of the epoch, from 1, in which a place lies; 0 before the first."""
        return sum(epoch.place <= place for epoch in self.epochs)

    def epochs_before(self, place: int) -> int:
        """How many epochs have begun before a place, and not at it."""
        return sum(epoch.place < place for epoch in self.epochs)

    def reader(self, epoch: int) -> LineReader:
        """Reads the lines of an epoch, and of those after it."""
        return LineReader(self.epochs[epoch - 1].schema if epoch else None)

    def bounds(self, epoch: int) -> tuple[int, int] | None:
        """Where an epoch begins and ends; None if there is no such one."""
        if not 1 <= epoch <= len(self.epochs):
            return None
        following = self.epochs[epoch].place if epoch < len(self.epochs) else self.size
        return self.epochs[epoch - 1].place, following

    def find(self, low: int, high: int, reached: Callable[[bytes], bool | None]) -> int:
        """A place at or before the first line that has ``reached`` what is looked for.

        ``reached`` is None for a line that does not tell. Between ``low`` and ``high``.
        """
        while high - low > BLOCK:
            middle = (low + high) // 2
            found = os.pread(self._descriptor, BLOCK, middle).split(b"\n")[1:-1]
            verdict = next((told for line in found if (told := reached(line)) is not None), True)
            low, high = (low, middle) if verdict else (middle, high)
        return low

    def lines(self, place: int, most: int) -> Iterator[tuple[int, bytes]]:
        """Whole lines with their places, from the first that begins at ``place`` or after it.

        At most about ``most`` bytes are read.
        """
        until = place + most
        starts = {epoch.place for epoch in self.epochs} | {0}
        whole = place in starts
        rest = b""
        at = place
        while place < until:
            piece = os.pread(self._descriptor, PIECE, place)
            if not piece:
                return
            place += len(piece)
            *lines, rest = (rest + piece).split(b"\n")
            for line in lines:
                if whole:
                    yield at, line
                whole = True
                at += len(line) + 1
            if len(rest) > PIECE:
                return  # that is no line


@contextmanager
def opened(run_dir: Path, epochs: Sequence[Epoch]) -> Iterator[Record]:
    """The record of a run. Raises NotRecordedError."""
    path = run_dir / FILE
    try:
        file = open_file(path)
    except OSError as error:
        raise NotRecordedError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        yield Record(file.fileno(), os.fstat(file.fileno()).st_size, epochs)


def time_of(line: bytes) -> float | None:
    """When it happened."""
    found = _TIME.search(line, 0, 120)
    return float(found[1]) if found else None


def round_of(line: bytes) -> int | None:
    """The round that it is about."""
    found = _ROUND.search(line, 0, 200)
    return int(found[1]) if found else None
