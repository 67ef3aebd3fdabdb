"""``microgpt runs``: all runs of a folder, one line each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from coordinator.run.directory_owner import CONFIG
from lab.report import table
from lab.report.digests import Digests, State
from lab.report.reading import RunError, RunRecord, differing, read_run, setting_text
from microgpt.support.cli import UserError, printable, say

HEADER = (
    "run", "ended", "steps", "loss", "validation", "documents/s", "strategy", "promise", "state",
    "what differs",
)  # fmt: skip
LEFT = (0, 1, 6, 7, 8, 9)
DIGITS = 12  # of a digest
CHANGED_RATE = "learning_rate changed to"  # a setting of a run whose viewer has done that


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--json", "as_json", is_flag=True, help="As a list of JSON objects.")
def main(folder: Path, as_json: bool) -> None:
    """List the runs in FOLDER (runs): what differs, how far they came, how they ended."""
    found = [read(path) for path in run_dirs(folder)]
    if as_json:
        print(json.dumps(records(found), indent=2))
        return
    if not found:
        say(f"{folder} holds no runs")
        return
    for line in listing(found):
        say(line)


def run_dirs(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the folders in it, by name. Raises UserError."""
    if (folder / CONFIG).exists():
        return [folder]
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error.strerror}") from error
    return [folder / name for name in sorted(names) if not name.startswith(".")]


class Listed:
    """A run, or why it cannot be read. ``states`` is None then."""

    def __init__(self, path: Path, run: RunRecord | None, problem: str = "") -> None:
        self.path, self.problem = path, problem
        self.states = Digests(run) if run else None
        self.newest = self.states.newest() if self.states else None
        self.run = with_changes(run, self.newest) if run else None


def with_changes(run: RunRecord, newest: State | None) -> RunRecord:
    """The run, with what was changed of its settings while it went on."""
    if newest is None or newest.learning_rate is None:
        return run
    return replace(run, settings={**run.settings, CHANGED_RATE: newest.learning_rate})


def read(path: Path) -> Listed:
    """One run. Raises nothing."""
    try:
        return Listed(path, read_run(path))
    except RunError as error:
        return Listed(path, None, str(error))


def records(found: Sequence[Listed]) -> list[dict[str, Any]]:
    """The list as plain values; of what cannot be read ``run_dir`` and ``problem``."""
    return [record(listed.run, listed) if listed.run else _unreadable(listed) for listed in found]


def _unreadable(listed: Listed) -> dict[str, Any]:
    return {"run_dir": str(listed.path), "problem": listed.problem}


def record(run: RunRecord, listed: Listed) -> dict[str, Any]:
    """One run as plain values. Losses are in nats per token; rates are over all its steps."""
    steps, newest, rates = run.steps, listed.newest, run.steps.bytes_per_step()
    validation = steps.validations[-1] if steps.validations else None
    return {
        "run_dir": str(run.path),
        "run": run.run,
        "strategy": run.strategy,
        "promise": run.promise,
        "step": steps.last,
        "steps": run.total,
        "loss": steps.losses[-1] if steps.losses else None,
        "validation_loss": validation[1] if validation else None,
        "validation_step": validation[0] if validation else None,
        "documents_per_second": steps.documents_per_second,
        "bytes_sent_per_step": rates[0] if rates else None,
        "bytes_received_per_step": rates[1] if rates else None,
        "settings": dict(run.settings),
        "conditions": list(run.conditions),
        "ended": run.ending.how,
        "reason": run.ending.reason,
        "state_step": newest.step if newest else None,
        "state_sha256": newest.sha256 if newest else None,
        "checkpoint_problems": list(listed.states.faults) if listed.states else [],
        "problem": None,
    }


def listing(found: Sequence[Listed]) -> list[str]:
    """The lines of the table."""
    differ = differing([listed.run for listed in found if listed.run])
    rows: list[Sequence[str]] = [HEADER]
    for listed in found:
        if listed.run:
            rows.append(row(listed.run, listed, differ))
        else:
            rows.append((printable(listed.path.name), printable(listed.problem)))
    return table.lines(rows, LEFT)


def row(run: RunRecord, listed: Listed, differ: Sequence[str]) -> Sequence[str]:
    """The cells of a run."""
    steps = run.steps
    what = [f"{name}={setting_text(run.settings[name])}" for name in differ if _is_set(run, name)]
    cells = (
        run.path.name or str(run.path),
        run.ending.how,
        f"{steps.last}/{run.total}",
        number(steps.losses[-1] if steps.losses else None, ".4f"),
        number(steps.validations[-1][1] if steps.validations else None, ".4f"),
        number(steps.documents_per_second, ",.0f"),
        run.strategy,
        run.promise,
        state_text(listed),
        " ".join([*what, *run.conditions]),
    )
    return [printable(cell) for cell in cells]


def _is_set(run: RunRecord, name: str) -> bool:
    return run.settings.get(name) not in (None, "")


def state_text(listed: Listed) -> str:
    """The beginning of the digest of the newest state."""
    if listed.newest:
        digest, last = listed.newest.sha256[:DIGITS], listed.run.steps.last if listed.run else 0
        return digest if listed.newest.step == last else f"{digest} (step {listed.newest.step})"
    return "damaged" if listed.states and listed.states.faults else "-"


def number(value: float | None, form: str) -> str:
    """A number for people."""
    return "-" if value is None else format(value, form)
