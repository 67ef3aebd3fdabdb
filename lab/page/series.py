"""The steps of a run in columns that stay short: every so many steps one is kept. Pure.

``seconds``, ``documents``, ``sent`` and ``received`` are sums since the start of the run, so that
leaving steps out loses none of them.
"""

from __future__ import annotations

from typing import NamedTuple

MOST_POINTS = 4000
MOST_NEW = 60  # steps of one message


class Row(NamedTuple):
    """A step. ``time``: when it was done, in seconds since 1970, if that is known."""

    step: int
    loss: float
    time: float | None
    seconds: float
    documents: int
    sent: int
    received: int


def columns(rows: list[Row]) -> dict[str, list[float | int | None]]:
    """The rows as columns of one length, by their names."""
    return {name: [*column] for name, column in zip(Row._fields, _turned(rows), strict=True)}


def _turned(rows: list[Row]) -> list[tuple[float | int | None, ...]]:
    return [*zip(*rows, strict=True)] if rows else [() for _ in Row._fields]


class Series:
    """All steps so far, thinned, with the first and the last; and those that are new."""

    def __init__(self, most: int = MOST_POINTS) -> None:
        self._most = most
        self._kept: list[Row] = []
        self._stride = 1
        self._new: list[Row] = []
        self.last: Row | None = None

    def add(self, row: Row) -> None:
        """A step later than the last one."""
        if self.last is None or row.step % self._stride == 0:
            self._kept.append(row)
            if len(self._kept) >= self._most:
                self._thin()
        self.last = row
        self._new.append(row)
        if len(self._new) >= 2 * self._most:  # nobody asks: the newest are enough
            self._new = self._new[1::2]

    def take_new(self, most: int = MOST_NEW) -> list[Row]:
        """The steps since the last time, at most ``most`` of them, the last one among them."""
        new, self._new = self._new, []
        if len(new) <= most:
            return new
        stride = -(-len(new) // most)
        return new[::-1][::stride][::-1]

    def thinned(self) -> list[Row]:
        """At most ``most`` rows over the whole run, always with its first and its last one."""
        if self.last is None or self._kept[-1] is self.last:
            return self._kept
        return [*self._kept, self.last]

    def _thin(self) -> None:
        self._stride *= 2
        first, *rest = self._kept
        self._kept = [first, *(row for row in rest if row.step % self._stride == 0)]
