"""The table of an experiment: a row for each case, means and spread over its seeds. Pure.

The mean is the arithmetic one; the spread is the sample standard deviation, with n - 1 below the
sum of squares. Runs that have failed count in no number. A loss is reached at the first evaluation
that shows it or less; where not all seeds reach it there is no mean, as it would be one of the
luckiest.
"""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from lab.experiments.expansion import Case
from lab.experiments.measurement import DONE, Measurement
from lab.experiments.wanted import GOODPUT, STEPS_LOST, Measure


class Unit(NamedTuple):
    """What a number is shown in."""

    name: str
    size: float


#: Digits behind the point for what is shown at all: about three count.
DIGITS = ((0, 100.0), (1, 10.0), (2, 1.0), (3, 0.1), (4, -math.inf))
SMALL = 5e-5  # what would be zeros behind the point is shown as a power of ten
BYTES = (Unit("GB", 1e9), Unit("MB", 1e6), Unit("kB", 1e3), Unit("B", 1.0))


@dataclass(frozen=True)
class Cell:
    """What a column has of a row: a number of each seed that has one, of ``seeds`` in all."""

    values: tuple[float, ...]
    seeds: int

    @property
    def mean(self) -> float | None:
        """None where a seed has no number."""
        whole = self.values and len(self.values) == self.seeds
        return statistics.fmean(self.values) if whole else None

    @property
    def spread(self) -> float | None:
        """None where there is no mean, or one seed only."""
        whole = len(self.values) == self.seeds > 1
        return statistics.stdev(self.values) if whole else None


@dataclass(frozen=True)
class Row:
    """A case with what its runs have shown, by seed."""

    case: Case
    runs: Mapping[int, Measurement]
    cells: Mapping[str, Cell]

    @property
    def done(self) -> list[Measurement]:
        """Those that have not failed."""
        return [run for run in self.runs.values() if run.outcome == DONE]

    @property
    def ended(self) -> str:
        """How the runs have ended."""
        failed = len(self.runs) - len(self.done)
        return f"{failed} of {len(self.runs)} failed" if failed else f"{len(self.runs)} done"


def make_row(case: Case, runs: Mapping[int, Measurement], measure: Measure) -> Row:
    """The row of a case, from what its runs have shown."""
    done = [_numbers(run, measure) for run in runs.values() if run.outcome == DONE]
    cells = {
        name: Cell(tuple(found[name] for found in done if name in found), len(done))
        for name in measure.columns
    }
    return Row(case, runs, cells)


def with_goodput(rows: Sequence[Row], measure: Measure) -> list[Row]:
    """The rows with the column of goodput, where ``measure`` has a baseline.

    Goodput is documents a second, seed by seed, as a share of those of the row that is equal but
    for the baseline's label. What was computed in vain is in its seconds and not in its documents.
    """
    if measure.baseline is None:
        return list(rows)
    axis, label = measure.baseline
    speeds = {
        tuple(row.case.labels.items()): {
            seed: _numbers(run, measure).get("documents/s", 0.0)
            for seed, run in row.runs.items()
            if run.outcome == DONE
        }
        for row in rows
    }
    found = []
    for row in rows:
        own = speeds[tuple(row.case.labels.items())]
        usual = speeds.get(tuple({**row.case.labels, axis: label}.items()), {})
        shares = tuple(own[seed] / usual[seed] for seed in own if usual.get(seed))
        found.append(replace(row, cells={**row.cells, GOODPUT: Cell(shares, len(own))}))
    return found


def _numbers(run: Measurement, measure: Measure) -> dict[str, float]:
    """What a run has of the table's columns."""
    found: dict[str, float] = {}
    if run.validations:
        found["validation"] = run.validations[-1][1]
        last = run.validations[-1][0]
        told = ((name, dict(run.numbers.get(name, ()))) for name in measure.numbers)
        found |= {name: series[last] for name, series in told if last in series}
    if run.steps:
        seconds, moved, many = run.seconds[-1], run.bytes[-1], run.steps[-1]
        found |= {"total bytes": moved, "bytes per step": moved / many, "total seconds": seconds}
        found["bytes up per step"] = run.received[-1] / many
        found[STEPS_LOST] = run.lost
        if seconds > 0:
            found |= {"steps/s": many / seconds, "documents/s": run.documents[-1] / seconds}
    for name, loss, training in measure.goals:
        step = run.reached(loss, training)
        if step is not None:
            at = run.at(step)
            reached = {"steps": float(step), "seconds": run.seconds[at], "bytes": run.bytes[at]}
            found |= {f"{what} to {name}": value for what, value in reached.items()}
    return found


# --- as text -------------------------------------------------------------------------------------


def as_csv(rows: Sequence[Row], measure: Measure) -> str:
    """All numbers in full: of each column mean, spread, and how many seeds have one."""
    axes = axes_of(rows)
    head = [*axes, "seeds", "failed"]
    head += [f"{name} {what}" for name in measure.columns for what in ("mean", "sd", "n")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for row in rows:
        failed = len(row.runs) - len(row.done)
        cells = [*(row.case.labels.get(axis, "") for axis in axes), len(row.runs), failed]
        for name in measure.columns:
            cell = row.cells[name]
            numbers = (
                "" if number is None else repr(number) for number in (cell.mean, cell.spread)
            )
            cells += [*numbers, len(cell.values)]
        writer.writerow(cells)
    return out.getvalue()


def as_markdown(rows: Sequence[Row], measure: Measure) -> str:
    """For a page: ``mean ± spread``."""
    lines = list(as_texts(rows, measure))
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def as_texts(rows: Sequence[Row], measure: Measure) -> Iterator[list[str]]:
    """The heading and the rows, as people read them; totals are left to the file of numbers."""
    axes = axes_of(rows)
    columns = [name for name in measure.columns if not name.startswith("total")]
    yield [*axes, "runs", *columns]
    units = {name: unit_of(name, [row.cells[name] for row in rows]) for name in columns}
    for row in rows:
        labels = [row.case.labels.get(axis, "") for axis in axes]
        cells = (shown(row.cells[name], name, units[name]) for name in columns)
        yield [*labels, row.ended, *cells]


def groups(rows: Sequence[Row], axis: str) -> dict[str, list[Row]]:
    """The rows by their labels on an axis; those that have none there are in every group."""
    labels = dict.fromkeys(filter(None, (row.case.labels.get(axis) for row in rows)))
    return {
        label: [row for row in rows if row.case.labels.get(axis, label) == label]
        for label in labels
    }


def axes_of(rows: Sequence[Row]) -> list[str]:
    """The names of all axes, in their order."""
    return list(dict.fromkeys(axis for row in rows for axis in row.case.labels))


def unit_of(column: str, cells: Sequence[Cell]) -> Unit:
    """The unit that a column is shown in: one for all rows, so that they can be compared."""
    most = max((cell.mean or 0.0 for cell in cells), default=0.0)
    if column == GOODPUT:
        return Unit("%", 0.01)
    if "bytes" in column:
        return next((unit for unit in BYTES if most >= unit.size), BYTES[-1])
    if "seconds" in column:
        return Unit("s", 1.0) if most >= 1.0 else Unit("ms", 1e-3)
    return Unit("", 1.0)


def shown(cell: Cell, column: str, unit: Unit) -> str:
    """A cell for people: ``2.156 ± 0.012``; ``2 of 3``, if so many have a number; or ``-``."""
    mean, spread = cell.mean, cell.spread
    if mean is None:
        return f"{len(cell.values)} of {cell.seeds}" if cell.values else "-"
    mean /= unit.size
    if mean == 0.0 and not spread:
        return "0"
    if 0.0 < abs(mean) < SMALL:
        return f"{mean:.1e}" + (f" ± {spread / unit.size:.1e}" if spread is not None else "")
    digits = 3 if column == "validation" else next(n for n, least in DIGITS if mean >= least)
    text = f"{mean:,.{digits}f}"
    if spread is not None:
        text += f" ± {spread / unit.size:,.{digits}f}"
    return f"{text} {unit.name}".rstrip()
