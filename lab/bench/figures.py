"""What the repeats of ``bench.py whole`` come to: medians with spread, and ratios by repeats."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from lab.bench.cells import BARE, COMPUTING, ENGINE, SYSTEM, Cell, Measured
from lab.bench.peers.ddp import DDP, PROCESSES


@dataclass(frozen=True)
class Figure:
    """Over the repeats: the median, and from where to where they lie."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Figure:
        """Raises ValueError for no numbers."""
        if not numbers:
            raise ValueError("nothing was measured")
        return cls(statistics.median(numbers), min(numbers), max(numbers))


@dataclass(frozen=True)
class Ratio:
    """How two kinds of measurements in a cell compare; ``what`` says which."""

    what: str
    cell: Cell
    figure: Figure

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {"what": self.what, **self.cell._asdict(), **vars(self.figure)}


Key: TypeAlias = tuple[str, Cell]

WHOLE_BARE = "documents/s, whole system : bare loop with compute"
ONE_ENGINE = "time, one worker : engine alone"
TWO_ONE = "documents/s, two workers : one"
COORDINATION = "time, coordination : bare loop without compute"
LEAST_COORDINATION = "time, coordination of the bare loop with compute : without"
PROCESSOR = "processor, coordinator : bare loop's ROUTER with compute"


def by_cell(measured: Sequence[Measured]) -> dict[Key, list[Measured]]:
    """The measurements of each kind in each cell, in the order of the repeats."""
    found: dict[Key, list[Measured]] = {}
    for each in measured:
        found.setdefault((each.kind, each.cell), []).append(each)
    return found


def step_figures(measured: Sequence[Measured]) -> dict[Key, Figure]:
    """Seconds of a step."""
    return {key: Figure.of([m.step for m in runs]) for key, runs in by_cell(measured).items()}


def ratios(measured: Sequence[Measured]) -> list[Ratio]:
    """Every comparison for which there are both sides, cell by cell.

    Each repeat gives a ratio of its own, since what else the machine does changes over minutes.
    """
    cells = list(dict.fromkeys(each.cell for each in measured if each.kind == SYSTEM))
    return [ratio for cell in cells for ratio in _ratios_of(by_cell(measured), cell)]


def _ratios_of(runs: dict[Key, list[Measured]], cell: Cell) -> Iterator[Ratio]:
    one = cell._replace(workers=1)

    def compare(
        what: str,
        kind: str,
        beside: Cell,
        ratio: Callable[[Measured, Measured], float | None],
        ours: Sequence[Measured] = runs[SYSTEM, cell],
    ) -> Iterator[Ratio]:
        others = {each.repeat: each for each in runs.get((kind, beside), [])}
        pairs = [(each, others[each.repeat]) for each in ours if each.repeat in others]
        found = [number for pair in pairs if (number := ratio(*pair)) is not None]
        if found:
            yield Ratio(what, cell, Figure.of(found))

    yield from compare(WHOLE_BARE, COMPUTING, cell, _speed)
    yield from compare(COORDINATION, BARE, cell, _coordination)
    computing = runs.get((COMPUTING, cell), [])
    yield from compare(LEAST_COORDINATION, BARE, cell, _coordination, computing)
    yield from compare(PROCESSOR, COMPUTING, cell, _processor)
    if cell.workers == 1:
        yield from compare(ONE_ENGINE, ENGINE, one, _time)
    if cell.workers == 2:
        yield from compare(TWO_ONE, SYSTEM, one, _speed)
    if cell.workers == PROCESSES:
        for kind in DDP:
            yield from compare(f"documents/s, two workers : {kind}", kind, cell, _speed)


def _speed(whole: Measured, other: Measured) -> float:
    return whole.documents_per_second / other.documents_per_second


def _time(whole: Measured, other: Measured) -> float:
    return whole.step / other.step


def _coordination(whole: Measured, other: Measured) -> float | None:
    return None if whole.coordination is None else whole.coordination / other.step


def _processor(whole: Measured, other: Measured) -> float | None:
    if whole.processor is None or other.processor is None:
        return None
    return whole.processor / other.processor
