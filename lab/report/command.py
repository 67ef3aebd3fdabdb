"""``microgpt report``: a page about runs that can be kept, and the timeline for other viewers."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import click

from coordinator.core.event_json import EventError
from lab.report import chart
from lab.report.compare import LOSSES_OPTION, load, records
from lab.report.page import charts, page
from lab.report.palette import COLOURS, DRAWING
from lab.report.png import draw_png
from lab.report.reading import RunRecord
from lab.report.samples import read_samples
from lab.report.timeline import SECONDS, read_timeline
from lab.report.trace import write_trace
from lab.report.updates import read_updates
from microgpt.checkpoint.format import CheckpointError
from microgpt.support import cli
from microgpt.support.atomic import write_atomically
from microgpt.support.cli import UserError, say

PATH = click.Path(path_type=Path, dir_okay=False)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--output", "-o", type=PATH, help="The page, one HTML file that needs nothing else.")
@click.option(
    "--trace", type=PATH, help="All events as a Chrome trace: open it with ui.perfetto.dev."
)
@click.option("--svg", type=PATH, help="The loss by step, as a drawing of its own.")
@click.option("--png", type=PATH, help="The same as pixels, by matplotlib, if that is installed.")
@click.option(
    "--from", "after", type=cli.Number(0.0),
    help="Second of the run at which its timeline begins.  [default: when a worker is ready]",
)  # fmt: skip
@click.option(
    "--seconds", type=cli.Number(0.001), default=SECONDS, show_default=True,
    help="How long the timeline is; it ends earlier where it would have too many bars.",
)  # fmt: skip
@LOSSES_OPTION
def main(
    runs: tuple[Path, ...],
    output: Path | None,
    trace: Path | None,
    svg: Path | None,
    png: Path | None,
    after: float | None,
    seconds: float,
    losses: tuple[float, ...],
) -> None:
    """Write what RUNS have recorded: curves over each other, timelines, settings, samples, states.

    A timeline needs a run that was trained with --events full.
    """
    if not (output or trace or svg or png):
        what = "-o report.html, --trace trace.json, --svg loss.svg or --png loss.png"
        raise UserError(f"say what to write: {what}")
    found = load(runs)
    loss = charts(found)[0]
    if (svg or png) and not any(curve.points for curve in loss.curves):
        raise UserError("the runs have no steps to draw")
    if output:
        known = records(found)
        timelines = [read_timeline(run.path, after, seconds) for run in known]
        updates = [read_updates(run.path) for run in known]
        samples = [read_samples(run) for run in known]
        write(output, page(found, timelines, samples, updates, losses))
    if svg:
        drawn = chart.draw(loss, COLOURS + DRAWING + "svg{background:var(--ground)}")
        write(svg, drawn + "\n")
    if png:
        write(png, draw_png(loss))
    if trace:
        write(trace, traced(records(found)))


def traced(runs: Sequence[RunRecord]) -> str:
    """The Chrome trace of the runs. Raises UserError."""
    file = io.StringIO()
    try:
        write_trace(runs, file)
    except EventError as error:
        raise UserError(str(error)) from error
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read: {error.strerror}") from error
    return file.getvalue()


def write(path: Path, content: str | bytes) -> None:
    """Write a file in one go, and say how large it is. Raises UserError."""
    data = content.encode(errors="backslashreplace") if isinstance(content, str) else content
    try:
        write_atomically(path, data)
    except CheckpointError as error:
        raise UserError(str(error)) from error
    say(f"written to {path}: {len(data) / 1e6:.2f} MB")
