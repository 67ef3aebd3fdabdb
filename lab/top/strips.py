"""What each worker did, in slices of time, for a strip of letters on a terminal. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

SLICE = 0.25  # seconds
MOST_SLICES = 1200  # of each worker
MOST_WORKERS = 512
LEVELS = " ▁▂▃▄▅▆▇█"
PLAIN_LEVELS = " .:-=+*%#"  # where the terminal has no blocks


class Slice(NamedTuple):
    """Shares of a slice: at work in its engine, thereof on held-out documents; having work."""

    computing: float
    evaluating: float
    busy: float


class Strips:
    """Takes spans as the page's messages have them; see ``lab.page.board.plain_span``."""

    def __init__(self) -> None:
        self._workers: dict[tuple[int, int], dict[int, list[float]]] = {}

    def add(self, span: Sequence[Any]) -> None:
        """A shard that a worker has had."""
        epoch, worker, begin, computing, end, _, kind, *_ = span
        slices = self._workers.get((epoch, worker))
        if slices is None:
            if len(self._workers) >= MOST_WORKERS:
                del self._workers[min(self._workers)]
            slices = self._workers.setdefault((epoch, worker), {})
        oldest = int(end / SLICE) - MOST_SLICES
        for at, seconds in _parts(begin, end, oldest):
            slices.setdefault(at, [0.0, 0.0, 0.0])[2] += seconds
        if computing is not None:
            for at, seconds in _parts(computing, end, oldest):
                found = slices.setdefault(at, [0.0, 0.0, 0.0])
                found[0] += seconds
                found[1] += seconds if kind == "evaluation" else 0.0
        if len(slices) > 2 * MOST_SLICES:
            for at in sorted(slices)[:-MOST_SLICES]:
                del slices[at]

    def of(self, epoch: int, worker: int, until: float, many: int) -> list[Slice]:
        """The last so many slices before the time ``until``, the oldest first."""
        slices = self._workers.get((epoch, worker), {})
        last = int(until / SLICE)
        return [_shares(slices.get(at)) for at in range(last - many + 1, last + 1)]


def letter(share: float, levels: str = LEVELS) -> str:
    """A letter as high as the share; a blank is none at all."""
    most = len(levels) - 1
    return levels[min(most, max(1, round(share * most)))] if share > 0.0 else levels[0]


def _parts(begin: float, end: float, oldest: int) -> Iterator[tuple[int, float]]:
    """The slices that a time lies in, and its seconds in each."""
    first, last = max(int(begin / SLICE), oldest), int(end / SLICE)
    for at in range(first, last + 1):
        seconds = min(end, (at + 1) * SLICE) - max(begin, at * SLICE)
        if seconds > 0.0:
            yield at, seconds


def _shares(found: list[float] | None) -> Slice:
    if found is None:
        return Slice(0.0, 0.0, 0.0)
    computing = min(found[0] / SLICE, 1.0)
    return Slice(computing, min(found[1] / SLICE, computing), min(found[2] / SLICE, 1.0))
