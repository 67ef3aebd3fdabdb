"""What real runs of ``bench.py scaling`` come to, beside the ideal and the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.bench.scale.costs import Calibration, cells_for
from lab.bench.scale.model import Step, star
from lab.bench.scale.running import Watched, middle
from lab.bench.scale.sharing import Network
from lab.bench.scale.waiting import Shares


@dataclass(frozen=True)
class Point:
    """What was found with so many workers: the median of ``repeats`` runs, and the model's step.

    ``least`` and ``most``: documents per second of the slowest and the fastest of them.
    ``calibrates``: the model's costs are from these very runs. ``virtual``: seconds of a step in
    the simulator with these costs, if it was asked.
    """

    workers: int
    batch: int
    repeats: int
    seconds: float
    least: float
    most: float
    shares: Shares | None
    predicted: Step
    calibrates: bool
    virtual: float | None = None

    @property
    def documents_per_second(self) -> float:
        """At the median."""
        return self.batch / self.seconds

    @property
    def off(self) -> float:
        """By which share the model's steps per second are too many, or too few if negative."""
        return self.seconds / self.predicted.seconds - 1.0

    @property
    def virtual_off(self) -> float | None:
        """The same of the virtual run's steps per second."""
        return None if self.virtual is None else self.seconds / self.virtual - 1.0


def point(
    cell: tuple[int, int],
    runs: Sequence[Watched],
    calibration: Calibration,
    *,
    own: bool,
    virtual: float | None = None,
) -> Point:
    """What the runs of a cell come to. ``own``: the calibration is from the same measurement."""
    workers, batch = cell
    found = middle(runs)
    number = calibration.processors
    step = star(calibration.costs, Network(), workers, batch, number)
    speeds = [run.seen.measured.documents_per_second for run in runs]
    seconds = found.seen.measured.step
    known = own and cell in cells_for(number)
    spread = min(speeds), max(speeds)
    return Point(workers, batch, len(runs), seconds, *spread, found.shares, step, known, virtual)


def alone(points: Sequence[Point], batch: int) -> Point:
    """One worker with the same batch."""
    return next(each for each in points if (each.workers, each.batch) == (1, batch))


def ideal(points: Sequence[Point], each: Point) -> float:
    """Documents per second, if every worker were worth as much as one alone."""
    return each.workers * alone(points, each.batch).documents_per_second


def efficiency(points: Sequence[Point], each: Point) -> float:
    """Documents per second, as a share of the ideal."""
    return each.documents_per_second / ideal(points, each)
