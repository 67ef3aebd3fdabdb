"""``microgpt compare``: runs side by side, and where their states part."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from lab.report import table
from lab.report.digests import parting
from lab.report.reached import LOSSES, reached_by_any
from lab.report.reading import RunRecord, differing, setting_text
from lab.report.runs import Listed, number, read, record, state_text
from microgpt.support import cli
from microgpt.support.cli import UserError, printable, say

ROWS = 8  # steps whose losses are shown
MARK = "*"
WIDTH = 100  # letters of a line of settings that are equal
LOSSES_OPTION = click.option(
    "--loss", "losses", type=cli.Number(0.0), multiple=True, default=LOSSES,
    show_default=True, help="What to reach, in nats per token; several times, if you like.",
)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("runs", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="As a JSON object.")
@LOSSES_OPTION
def main(runs: tuple[Path, ...], as_json: bool, losses: tuple[float, ...]) -> None:
    """Put RUNS side by side: settings, losses, rates, and where their states part from the first.

    Settings that differ have a star and a row; then come outcome, what each run has taken to a
    loss, losses at equal steps, and equal settings.
    """
    if len(runs) < 2:
        raise UserError("two runs at least are compared: name their folders")
    found = load(runs)
    if as_json:
        print(json.dumps(report(found, losses), indent=2))
    else:
        for line in lines(found, losses):
            say(line)


def load(paths: Sequence[Path]) -> list[Listed]:
    """The runs in these folders. Raises UserError for the first that is none."""
    found = [read(path) for path in paths]
    for listed in found:
        if listed.problem:
            raise UserError(listed.problem)
    return found


def records(found: Sequence[Listed]) -> list[RunRecord]:
    """What the runs have recorded."""
    return [listed.run for listed in found if listed.run]


def shown_steps(steps: Sequence[set[int]], most: int = ROWS) -> list[int]:
    """Steps that are in all of the sets: the first, the last, and some evenly between."""
    common = sorted(set[int].intersection(*steps))
    if len(common) <= most:
        return common
    return [common[round(at * (len(common) - 1) / (most - 1))] for at in range(most)]


def losses_at(runs: Sequence[RunRecord]) -> list[dict[str, Any]]:
    """Losses of the batch and of held-out documents at equal steps, a run each."""
    batch = [dict(zip(run.steps.numbers, run.steps.losses, strict=True)) for run in runs]
    held_out = [dict(run.steps.validations) for run in runs]
    evaluated = set[int].intersection(*(set(losses) for losses in held_out))
    steps = shown_steps([set(losses) for losses in batch])
    if evaluated:
        few = steps if len(evaluated) < ROWS // 2 else [*steps[:1], *steps[-1:]]
        steps = sorted({*few, *shown_steps([evaluated])})
    return [
        {
            "step": step,
            "loss": [losses[step] for losses in batch],
            "validation_loss": [losses.get(step) for losses in held_out],
        }
        for step in steps
        if all(step in losses for losses in batch)
    ]


def partings(found: Sequence[Listed]) -> list[dict[str, Any]]:
    """Where each run but the first parts from the first."""
    first, *others = found
    told = []
    for other in others:
        if first.run and first.states and other.run and other.states:
            where = parting(first.run.steps, other.run.steps, first.states, other.states)
            pair = {"runs": [str(first.path), str(other.path)]}
            told.append({**pair, **where._asdict(), "text": where.text()})
    return told


def report(found: Sequence[Listed], losses: Sequence[float] = LOSSES) -> dict[str, Any]:
    """The comparison as plain values. ``losses``: which are to be reached."""
    runs = records(found)
    reached = reached_by_any([run.steps for run in runs], losses)
    return {
        "runs": [record(listed.run, listed) for listed in found if listed.run],
        "differing": differing(runs),
        "reached": [
            {"kind": kind, "loss": loss, "by": [each and asdict(each) for each in by]}
            for kind, loss, by in reached
        ],
        "losses": losses_at(runs),
        "partings": partings(found),
    }


def setting_rows(runs: Sequence[RunRecord]) -> list[tuple[bool, str, list[str]]]:
    """Whether it differs, the name, and the value in each run; for each setting."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    rows = [
        ("strategy", [run.strategy for run in runs]),
        ("promise", [run.promise for run in runs]),
        ("steps", [str(run.total) for run in runs]),
    ]
    for flags in zip_longest(*(run.conditions for run in runs), fillvalue="-"):
        rows.append(("condition", [*flags]))
    rows += [(name, [setting_text(run.settings.get(name)) for run in runs]) for name in names]
    return [(len(set(values)) > 1, name, values) for name, values in rows]


def outcome_rows(
    found: Sequence[Listed], losses: Sequence[float]
) -> Iterator[tuple[str, list[str]]]:
    """What came of the runs, and what they took to the losses: a name and a text for each run."""
    runs = records(found)
    yield "ended", [run.ending.how for run in runs]
    yield "steps done", [f"{run.steps.last:,}" for run in runs]
    yield "seconds of work", [f"{sum(run.steps.seconds):,.1f}" for run in runs]
    yield "documents/s", [number(run.steps.documents_per_second, ",.0f") for run in runs]
    rates = [run.steps.bytes_per_step() for run in runs]
    for at, name in enumerate(("bytes sent/step", "bytes received/step")):
        yield name, [number(rate[at] if rate else None, ",.0f") for rate in rates]
    yield "state", [state_text(listed) for listed in found]
    for kind, loss, by in reached_by_any([run.steps for run in runs], losses):
        yield f"to {kind} loss {loss:g}", [each.text() if each else "-" for each in by]


def lines(found: Sequence[Listed], losses: Sequence[float] = LOSSES) -> Iterator[str]:
    """The comparison for people. ``losses``: which are to be reached."""
    runs = records(found)
    header = ["", *(run.name for run in runs)]
    settings = setting_rows(runs)
    rows = [header]
    rows += [[f"{MARK} {name}", *values] for differs, name, values in settings if differs]
    rows += [[f"  {name}", *values] for name, values in outcome_rows(found, losses)]
    for at in losses_at(runs):
        cells = [number(loss, ".4f") for loss in at["loss"]]
        rows.append([f"  loss, step {at['step']:,}", *cells])
        if any(loss is not None for loss in at["validation_loss"]):
            cells = [number(loss, ".4f") for loss in at["validation_loss"]]
            rows.append([f"  validation, step {at['step']:,}", *cells])
    yield from table.lines([[printable_cell(cell) for cell in row] for row in rows])
    equal = [f"{name}={values[0]}" for differs, name, values in settings if not differs]
    yield from textwrap.wrap(printable(f"equal in all: {', '.join(equal)}"), WIDTH)
    for told, listed in zip(partings(found), found[1:], strict=True):
        yield printable(f"{runs[0].name} and {listed.path.name}: {told['text']}")


def printable_cell(text: str) -> str:
    """One line, with the spaces in front of it."""
    return text[: len(text) - len(text.lstrip(" "))] + printable(text)
