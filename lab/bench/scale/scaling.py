"""``bench.py scaling``: real runs with more and more workers, beside the ideal and the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from lab.bench.cells import Cell, vocabulary
from lab.bench.progress import Numbers, Steps
from lab.bench.scale import costs as costs_file
from lab.bench.scale.costs import CALIBRATION, Calibration
from lab.bench.scale.model import Network, Step, star
from lab.bench.scale.running import Watched, calibrated, processors, watch, written
from lab.bench.scale.waiting import Shares
from lab.report.chart import Chart, Curve, draw
from lab.report.palette import COLOURS, DRAWING
from microgpt.data.documents import DatasetError
from microgpt.support import cli

MOST_WORKERS = 64  # processes that a machine is asked for
VERSION = 1  # of the file


@dataclass(frozen=True)
class Point:
    """What was found with so many workers: the median of ``repeats`` runs, and the model's step.

    ``least`` and ``most``: documents per second of the slowest and the fastest of them.
    ``calibrates``: the model's costs are from these very runs, so that it must fit.
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

    @property
    def documents_per_second(self) -> float:
        """At the median."""
        return self.batch / self.seconds

    @property
    def off(self) -> float:
        """By which share the model's steps per second are too many, or too few if negative."""
        return self.seconds / self.predicted.seconds - 1.0


@click.command(context_settings={"show_default": True})
@click.option(
    "--workers", type=Numbers(), default="1,2,4,8", help="Numbers of workers, with commas."
)
@click.option("--batches", type=Numbers(), default="32,512", help="Batch sizes.")
@click.option("--width", type=cli.Whole(1), default=16, help="Embedding width.")
@click.option("--repeats", type=cli.Whole(1), default=3, help="Turns of everything.")
@click.option("--seconds", type=cli.Number(0.01), default=2.0, help="For each measurement.")
@click.option("--data", default="names", help="Documents, as for training.")
@click.option(
    "--costs", "costs_path", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The model's, from bench scale.  [default: from runs of these, and a few more]",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw documents/s into an SVG file.")
def scaling(
    workers: tuple[int, ...],
    batches: tuple[int, ...],
    width: int,
    repeats: int,
    seconds: float,
    data: str,
    costs_path: Path | None,
    json_file: Path | None,
    plot: Path | None,
) -> None:
    """Measure steps/s, documents/s and efficiency with more and more workers, and say why."""
    if max(workers) > MOST_WORKERS:
        raise click.UsageError(f"--workers: at most {MOST_WORKERS}")
    try:
        vocabulary(data)
    except DatasetError as error:
        raise click.ClickException(str(error)) from error
    wanted = sorted({(n, batch) for n in (1, *workers) for batch in batches}, key=lambda c: c[::-1])
    given = costs_file.read(costs_path) if costs_path else None
    extra = () if given else tuple(cell for cell in CALIBRATION if cell not in wanted)
    runs = measure([*wanted, *extra], width, repeats, seconds, data)
    calibration = given or calibrated(
        {cell: middle(runs[cell]).seen for cell in CALIBRATION}, width, data
    )
    points = [point(cell, runs[cell], calibration, own=given is None) for cell in wanted]
    Console(width=130).print(shown(points), highlight=False)
    Console(width=130).print(explained(points), highlight=False, soft_wrap=True)
    if json_file is not None:
        with written(json_file):
            json_file.write_text(json.dumps(to_json(points, calibration), indent=2) + "\n")
    if plot is not None:
        with written(plot):
            plot.write_text(drawn(points, workers), encoding="utf-8")


def measure(
    cells: Sequence[tuple[int, int]], width: int, repeats: int, seconds: float, data: str
) -> dict[tuple[int, int], list[Watched]]:
    """All of them by turns, so that whatever else the machine does hits all alike."""
    steps = Steps("scaling", repeats * len(cells))
    runs: dict[tuple[int, int], list[Watched]] = {cell: [] for cell in cells}
    for repeat in range(repeats):
        for cell in cells:
            turn = f"turn {repeat + 1} of {repeats}, workers: {cell[0]}, batch {cell[1]}"
            with steps.next(turn):
                runs[cell].append(watch(Cell(*cell, width), repeat, seconds, data))
    return runs


def middle(runs: Sequence[Watched]) -> Watched:
    """The run of the median step; of two the faster one."""
    return sorted(runs, key=lambda run: run.seen.measured.step)[(len(runs) - 1) // 2]


def point(
    cell: tuple[int, int], runs: Sequence[Watched], calibration: Calibration, *, own: bool
) -> Point:
    """What the runs of a cell come to."""
    workers, batch = cell
    found = middle(runs)
    step = star(calibration.costs, Network(), workers, batch, processors())
    speeds = [run.seen.measured.documents_per_second for run in runs]
    seconds = found.seen.measured.step
    known = own and cell in CALIBRATION
    return Point(
        workers, batch, len(runs), seconds, min(speeds), max(speeds), found.shares, step, known
    )


def _alone(points: Sequence[Point], batch: int) -> Point:
    return next(each for each in points if (each.workers, each.batch) == (1, batch))


def ideal(points: Sequence[Point], each: Point) -> float:
    """Documents per second, if every worker were worth as much as one alone."""
    return each.workers * _alone(points, each.batch).documents_per_second


def shown(points: Sequence[Point]) -> Table:
    """A row for each number of workers, batch after batch."""
    table = Table(
        "batch", "workers", "steps/s", "docs/s", "least..most", "of ideal", "of procs",
        "model", "off", "computing", "under way", "idle",
        title="real runs beside the ideal and the model (steps/s)",
    )  # fmt: skip
    for each in points:
        speed, one = each.documents_per_second, _alone(points, each.batch).documents_per_second
        usable = min(each.workers, processors()) * one
        parts = [f"{share:.0%}" for share in each.shares] if each.shares else [""] * 3
        table.add_row(
            f"{each.batch:,}", str(each.workers), f"{1 / each.seconds:,.0f}", f"{speed:,.0f}",
            f"{each.least:,.0f}..{each.most:,.0f}", f"{speed / ideal(points, each):.0%}",
            f"{speed / usable:.0%}", f"{1 / each.predicted.seconds:,.0f}",
            f"{each.off:+.0%}{' *' if each.calibrates else ''}", *parts,
        )  # fmt: skip
    return table


def explained(points: Sequence[Point]) -> str:
    """What the columns mean, and how far off the model is."""
    lines = [
        f"of ideal: of so many times one worker; of procs: of no more than {processors()}",
        "computing, under way, idle: shares of the workers' time, from their pulses; under way "
        "is also what waits for a processor",
    ]
    foretold = [each for each in points if not each.calibrates]
    if len(foretold) < len(points):
        lines.append("* the model's costs are from these runs")
    if foretold:
        worst = max(foretold, key=lambda each: abs(each.off))
        lines.append(
            f"the model is off by {worst.off:+.0%} at most, with {worst.workers} workers and "
            f"batch {worst.batch:,}"
        )
    return "\n".join(lines)


def to_json(points: Sequence[Point], calibration: Calibration) -> dict[str, Any]:
    """All that was found."""
    return {
        "version": VERSION,
        "calibration": asdict(calibration),
        "points": [
            {
                **asdict(each),
                "shares": each.shares._asdict() if each.shares else None,
                "documents_per_second": each.documents_per_second,
                "ideal": ideal(points, each),
                "off": each.off,
            }
            for each in points
        ],
    }


def drawn(points: Sequence[Point], workers: Sequence[int]) -> str:
    """Thousands of documents a second by workers: measured, the model's, and the ideal's."""
    curves = list[Curve]()
    for batch in sorted({each.batch for each in points}):
        some = [each for each in points if each.batch == batch]
        measured = [(float(each.workers), each.documents_per_second / 1e3) for each in some]
        model = [(float(each.workers), each.predicted.documents_per_second / 1e3) for each in some]
        ends = [(float(each.workers), ideal(points, each) / 1e3) for each in some]
        band = [(each.least / 1e3, each.most / 1e3) for each in some]
        number = len(curves)
        curves += [
            Curve(f"batch {batch}", number, measured, band=band),
            Curve(f"batch {batch}, model", number + 1, model),
            Curve(f"batch {batch}, ideal", number, ends, faint=True),
        ]
    top = 1.25e-3 * max(each.most for each in points)
    chart = Chart(
        "scaling", "workers", "thousand documents per second", curves, whole=True, top=top
    )
    return draw(chart, COLOURS + DRAWING + "svg{background:var(--ground)}") + "\n"
