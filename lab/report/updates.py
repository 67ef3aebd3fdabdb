"""What a run has recorded of its updates: norms of tensors, and the strategy's own numbers.

They stand in the events of runs whose rounds are recorded. The files are strangers': however many
points, names and values there are, a bounded number of them is kept.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.core.event_json import EventError, kind_of
from coordinator.core.events import Event, Started, StrategyNumbers, TensorNorms
from lab.event_reader import EventReader
from lab.report.chart import Point
from lab.report.reading import open_file

KINDS = tuple(f'{{"kind": "{kind_of(k)}"'.encode() for k in (Started, TensorNorms, StrategyNumbers))
MOST_POINTS = 800  # of a curve; beyond, every other one is kept
MOST_NAMES, MOST_LABELS, LONGEST = 16, 64, 60
OTHERS = "others"


class Series:
    """``points``: numbers by version. Of very many, some."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._every = 1
        self._seen = 0

    def add(self, version: int, value: float) -> None:
        """The next one."""
        if self._seen % self._every == 0:
            self.points.append((float(version), value))
        self._seen += 1
        if len(self.points) > MOST_POINTS:
            self.points = self.points[::2]
            self._every *= 2

    def cut(self, version: int) -> None:
        """Updates after this one are done again."""
        while self.points and self.points[-1][0] > version:
            self.points.pop()


@dataclass
class Updates:
    """``gradient``, ``update``: the norms of all tensors together. ``last``: those of each.

    ``numbers`` by name; ``counts``: how often each value was met in the run, by name and value.
    """

    gradient: Series = field(default_factory=Series)
    update: Series = field(default_factory=Series)
    last: TensorNorms | None = None
    numbers: dict[str, Series] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """The next event."""
        if isinstance(event, Started):
            for series in (self.gradient, self.update, *self.numbers.values()):
                series.cut(event.version)
        elif isinstance(event, TensorNorms):
            self.last = event
            if event.gradient:
                self.gradient.add(event.version, _together(event.gradient))
            self.update.add(event.version, _together(event.update))
        elif isinstance(event, StrategyNumbers):
            self._take_numbers(event)

    def _take_numbers(self, event: StrategyNumbers) -> None:
        for name, value in event.numbers.items():
            if name in self.numbers or (len(self.numbers) < MOST_NAMES and len(name) <= LONGEST):
                self.numbers.setdefault(name, Series()).add(event.version, value)
        for name, found in event.histograms.items():
            if name in self.counts or (len(self.counts) < MOST_NAMES and len(name) <= LONGEST):
                counts = self.counts.setdefault(name, Counter())
                for label, count in found.items():
                    known = label in counts or len(counts) < MOST_LABELS
                    counts[label[:LONGEST] if known else OTHERS] += count


def _together(norms: tuple[float, ...]) -> float:
    """The norm of all tensors: the largest number, if it is beyond."""
    return min(math.hypot(*norms), sys.float_info.max)


def read_updates(run_dir: Path) -> Updates:
    """All that is recorded of the updates of a run. Raises nothing: what cannot be read is absent.

    The page says elsewhere what is wrong with a record.
    """
    found, reader = Updates(), EventReader(run_dir)
    try:
        open_file(reader.path).close()  # a pipe would be waited for
        for _, recorded in reader.one_by_one(lambda line: line.startswith(KINDS)):
            found.take(recorded.event)
    except (EventError, OSError):
        pass
    return found
