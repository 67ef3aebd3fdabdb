"""From rows to charts: means over seeds with their spread as a band, or rows as points. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Collection, Iterator, Sequence

from lab.experiments.measurement import Measurement
from lab.experiments.rows import Cell, Row, groups
from lab.experiments.wanted import Measure, Plot, is_number
from lab.report.chart import Chart, Curve, Point, running_mean

MEANS = 40  # so many windows of the running mean are as long as a run
UNITS = {"seconds": "seconds", "bytes": "megabytes sent and received"}
MEGA = 1e6


def charts(rows: Sequence[Row], plots: Sequence[Plot], measure: Measure) -> list[Chart]:
    """All drawings that an experiment wants; those without a point are left out."""
    found = [chart for plot in plots for chart in _charts(rows, plot, measure)]
    return [chart for chart in found if any(curve.points for curve in chart.curves)]


def _charts(rows: Sequence[Row], plot: Plot, measure: Measure) -> Iterator[Chart]:
    chosen = [row for row in rows if _wanted(row, plot)]
    if not plot.split:
        yield _chart(chosen, plot, "", measure)
        return
    for label, part in groups(chosen, plot.split).items():
        yield _chart(part, plot, label, measure)


def _wanted(row: Row, plot: Plot) -> bool:
    return all(row.case.labels.get(axis) in labels for axis, labels in plot.where.items())


def _chart(rows: Sequence[Row], plot: Plot, label: str, measure: Measure) -> Chart:
    without = {plot.split, *_common(rows)}
    if plot.curves:
        curves = [_curve(row, at, plot, without) for at, row in enumerate(rows)]
        y = {"validation": "validation loss"}.get(plot.y, plot.y.replace("_", " "))
    elif plot.x in measure.columns:
        curves = [_point(row, at, plot, without) for at, row in enumerate(rows)]
        y = plot.y
    else:
        curves = list(_lines(rows, plot))
        y = plot.y
    title = plot.title or f"{y} by {plot.x}".capitalize()
    if label:
        title += f": {label if any(map(str.isalpha, label)) else f'{plot.split} {label}'}"
    x = UNITS.get(plot.x, plot.x)
    if "bytes" in plot.x and not plot.curves:
        x = f"{plot.x}, in megabytes"
    if "bytes" in plot.y:
        y = f"{y}, in megabytes"
    whole = plot.told or not plot.curves
    return Chart(title, x, y, curves, whole, plot.log, plot.top, plot.log_y)


def _common(rows: Sequence[Row]) -> set[str]:
    """The axes on which all of several rows have the same label: it need not be told."""
    axes = {axis for row in rows for axis in row.case.labels} if len(rows) > 1 else set()
    return {axis for axis in axes if len({row.case.labels.get(axis) for row in rows}) == 1}


def _curve(row: Row, number: int, plot: Plot, without: Collection[str]) -> Curve:
    """The mean over seeds at each step that all have, with a standard deviation on either side.

    Where y is logarithmic: those of the logarithms, so that the mean is the geometric one.
    """
    runs = [_points(run, plot) for run in row.done]
    steps = [step for step in (runs[0] if runs else {}) if all(step in run for run in runs)]
    points, band = list[Point](), list[tuple[float, float]]()
    for step in steps:
        xs, ys = [run[step][0] for run in runs], [run[step][1] for run in runs]
        if plot.log_y and min(ys) <= 0.0:
            continue
        place, scale = (math.log, math.exp) if plot.log_y else (float, float)
        ys = [place(y) for y in ys]
        mean, spread = statistics.fmean(ys), statistics.stdev(ys) if len(ys) > 1 else 0.0
        points.append((statistics.fmean(xs), scale(mean)))
        band.append((scale(mean - spread), scale(mean + spread)))
    return Curve(row.case.short(*without), number, points, band=band if len(runs) > 1 else ())


def _points(run: Measurement, plot: Plot) -> dict[int, Point]:
    """Of one run: x and y after each step, or after each that was evaluated."""
    if plot.x == "steps":
        xs: Sequence[float] = run.steps
    elif plot.x == "bytes":
        xs = [number / MEGA for number in run.bytes]
    else:
        xs = run.seconds if plot.x == "seconds" else run.documents
    at = dict(zip(run.steps, xs, strict=True))
    if plot.y == "validation":
        return {step: (at[step], loss) for step, loss in run.validations}
    if plot.told:
        return {step: (at[step], value) for step, value in run.numbers.get(plot.y, ())}
    means = running_mean(run.losses, max(1, len(run.losses) // MEANS))
    return {step: (at[step], loss) for step, loss in zip(run.steps, means, strict=True)}


def _point(row: Row, number: int, plot: Plot, without: Collection[str]) -> Curve:
    """A row as one point with two of its columns; none if it lacks one."""
    x, y = _scaled(row.cells[plot.x], plot.x), _cell(row, plot.y)
    if x is None or y is None:
        return Curve(row.case.short(*without), number, [])
    return Curve(row.case.short(*without), number, [(x[0], y[0])], band=_band([y]))


def _lines(rows: Sequence[Row], plot: Plot) -> Iterator[Curve]:
    """A column over an axis of numbers: a line for all that is equal but for that axis."""
    groups: dict[str, list[tuple[float, tuple[float, float]]]] = {}
    for row in rows:
        others = {
            axis: label
            for axis, label in row.case.labels.items()
            if axis not in (plot.x, plot.split)
        }
        name = ", ".join(others.values()) or plot.y
        y, label = _cell(row, plot.y), row.case.labels.get(plot.x, "")
        if y is not None and is_number(label):
            groups.setdefault(name, []).append((float(label), y))
    for number, (name, found) in enumerate(groups.items()):
        found.sort()
        points = [(x, mean) for x, (mean, _) in found]
        yield Curve(name, number, points, band=_band([y for _, y in found]))


def _band(found: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return (
        [(mean - spread, mean + spread) for mean, spread in found]
        if any(spread for _, spread in found)
        else []
    )


def _cell(row: Row, column: str) -> tuple[float, float] | None:
    return _scaled(row.cells[column], column) if column in row.cells else None


def _scaled(cell: Cell, column: str) -> tuple[float, float] | None:
    """Mean and spread, bytes in megabytes; None where there is no mean."""
    size = MEGA if "bytes" in column else 1.0
    return None if cell.mean is None else (cell.mean / size, (cell.spread or 0.0) / size)
