"""``bench.py scaling``: real runs with more and more workers, beside the ideal and the model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from lab.bench.cells import vocabulary
from lab.bench.progress import Numbers
from lab.bench.scale import costs as costs_file
from lab.bench.scale.costs import Calibration, cells_for
from lab.bench.scale.playing import virtual_seconds
from lab.bench.scale.plotting import drawn
from lab.bench.scale.points import Point, alone, efficiency, ideal, point
from lab.bench.scale.running import Watched, by_turns, calibrated, processors, written
from microgpt.data.documents import DatasetError
from microgpt.support import cli

MOST_WORKERS = 64  # processes that a machine is asked for
VERSION = 2  # of the file


@click.command(context_settings={"show_default": True})
@click.option(
    "--workers", type=Numbers(), default="1,2,4,8", help="Numbers of workers, with commas."
)
@click.option("--batches", type=Numbers(), default="32,256,1024", help="Batch sizes.")
@click.option("--width", type=cli.Whole(1), default=16, help="Embedding width.")
@click.option("--repeats", type=cli.Whole(1), default=5, help="Turns of everything.")
@click.option("--seconds", type=cli.Number(0.01), default=1.0, help="For each measurement.")
@click.option("--data", default="names", help="Documents, as for training.")
@click.option(
    "--costs", "costs_path", type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The model's, from bench scale.  [default: from runs of these, and a few more]",
)  # fmt: skip
@click.option(
    "--virtual", is_flag=True, help="Play the same runs in virtual time, too, with these costs.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw all into an SVG file.")
def scaling(
    workers: tuple[int, ...],
    batches: tuple[int, ...],
    width: int,
    repeats: int,
    seconds: float,
    data: str,
    costs_path: Path | None,
    virtual: bool,
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
    extra = () if given else tuple(cell for cell in cells_for(processors()) if cell not in wanted)
    runs = by_turns("scaling", [*wanted, *extra], width, repeats, seconds, data)
    calibration = given or calibrated(runs, width, data)
    played = virtual_seconds(wanted, calibration) if virtual else {}
    points = [
        point(cell, runs[cell], calibration, own=given is None, virtual=played.get(cell))
        for cell in wanted
    ]
    Console(width=150).print(shown(points), highlight=False)
    Console(width=150).print(explained(points), highlight=False, soft_wrap=True)
    if json_file is not None:
        with written(json_file):
            json_file.write_text(json.dumps(to_json(points, calibration, runs), indent=2) + "\n")
    if plot is not None:
        with written(plot):
            plot.write_text(drawn(points), encoding="utf-8")


def shown(points: Sequence[Point]) -> Table:
    """A row for each number of workers, batch after batch."""
    played = any(each.virtual for each in points)
    table = Table(
        "batch", "workers", "steps/s", "docs/s", "least..most", "of ideal", "of procs",
        "model", "off", *(["virtual", "off"] if played else []), "computing", "under way", "idle",
        title="real runs beside the ideal and the model (steps/s)",
    )  # fmt: skip
    for each in points:
        speed, one = each.documents_per_second, alone(points, each.batch).documents_per_second
        usable = min(each.workers, processors()) * one
        parts = [f"{share:.0%}" for share in each.shares] if each.shares else [""] * 3
        table.add_row(
            f"{each.batch:,}", str(each.workers), f"{1 / each.seconds:,.0f}", f"{speed:,.0f}",
            f"{each.least:,.0f}..{each.most:,.0f}", f"{efficiency(points, each):.0%}",
            f"{speed / usable:.0%}", f"{1 / each.predicted.seconds:,.0f}",
            f"{each.off:+.0%}{' *' if each.calibrates else ''}",
            *([f"{1 / each.virtual:,.0f}", f"{each.virtual_off:+.0%}"] if each.virtual else []),
            *parts,
        )  # fmt: skip
    return table


def explained(points: Sequence[Point]) -> str:
    """What the columns mean, and how far off the model is."""
    lines = [
        "of ideal: the efficiency, documents per second of so many times one worker's; of procs: "
        f"of no more than {processors()} times",
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
    played = [each for each in points if each.virtual_off is not None]
    if played:
        worst = max(played, key=lambda each: abs(each.virtual_off or 0.0))
        lines.append(
            f"virtual time is off by {worst.virtual_off:+.0%} at most, with {worst.workers} "
            f"workers and batch {worst.batch:,}"
        )
    return "\n".join(lines)


def to_json(
    points: Sequence[Point],
    calibration: Calibration,
    runs: Mapping[tuple[int, int], Sequence[Watched]],
) -> dict[str, Any]:
    """All that was found: of each run also its median step, and where the mean one went."""
    seen = [run.seen for several in runs.values() for run in several]
    return {
        "version": VERSION,
        "calibration": asdict(calibration),
        "runs": [{**each.measured.to_json(), "anatomy": each.anatomy.to_json()} for each in seen],
        "points": [
            {
                **asdict(each),
                "shares": each.shares._asdict() if each.shares else None,
                "documents_per_second": each.documents_per_second,
                "ideal": ideal(points, each),
                "efficiency": efficiency(points, each),
                "off": each.off,
                "virtual_off": each.virtual_off,
            }
            for each in points
        ],
    }
