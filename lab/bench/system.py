"""The whole system for ``bench.py whole``: ``train`` with real processes, read from its record."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lab.bench import anatomy
from lab.bench.anatomy import Anatomy
from lab.bench.cells import MANY_STEPS, SYSTEM, Cell, Measured
from lab.bench.programs import running
from lab.bench.progress import last_record
from microgpt.support import cli
from microgpt.support.isolation import isolated

#: Steps at the start that are not counted, from when all workers are there: caches fill.
WARM_UP = 0.1
LEAST_STEPS = 12  # with all workers, however long they take
LOOK_SECONDS = 0.1
PATIENCE = 120.0  # seconds until all workers are at work
TIMES = "MICROGPT_STEP_TIMES"  # names the folder for the clocks of the processes


def measure(
    cell: Cell,
    repeat: int,
    seconds: float,
    flags: Sequence[str],
    look: Callable[[Path], None] = lambda run_dir: None,
) -> tuple[Measured, Anatomy | None]:
    """Run ``train`` until all its workers have been at work for so long; read its record.

    ``flags`` say what the cell does not: model and data. ``look`` is called with the run's
    directory before that is gone. Raises ClickException.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir, times = Path(folder, "run"), Path(folder, "times")
        times.mkdir()
        command = isolated("lab.command_line", "train", *flags, "--quiet")
        command += ["--run-dir", str(run_dir), "--workers", str(cell.workers)]
        command += ["--batch-size", str(cell.batch), "--n-embd", str(cell.width)]
        command += ["--steps", str(MANY_STEPS), "--checkpoint-every", str(MANY_STEPS)]
        with running(Path(folder), command, **{TIMES: str(times)}) as programs:
            (process,) = programs.processes
            until_enough(process, run_dir, cell.workers, seconds)
            process.send_signal(signal.SIGINT)
            programs.check(process.wait(), cli.INTERRUPTED)
        lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
        records = counted(lines, cell.workers)
        parts = anatomy.read(times, cell, repeat, records)
        look(run_dir)
    return summary(cell, repeat, records, parts, lines[0]["loss"]), parts


def until_enough(
    process: subprocess.Popen[Any], run_dir: Path, workers: int, seconds: float
) -> None:
    """Wait until all workers have been at work for so long, or the process has ended."""
    began, since, first = time.monotonic(), 0.0, 0
    while process.poll() is None:
        time.sleep(LOOK_SECONDS)
        record, now = last_record(run_dir), time.monotonic()
        if record.get("workers") != workers:
            if now - began > PATIENCE:
                raise click.ClickException(f"no {workers} workers after {PATIENCE:.0f} s")
        elif not since:
            since, first = now, int(record["step"])
        elif now - since > seconds and int(record["step"]) - first >= LEAST_STEPS / (1 - WARM_UP):
            return


def counted(records: Sequence[Mapping[str, Any]], workers: int) -> list[Mapping[str, Any]]:
    """The steps that count: with all workers, after the warm-up."""
    full = [record for record in records if record["workers"] == workers]
    return full[int(len(full) * WARM_UP) :]


def summary(
    cell: Cell,
    repeat: int,
    records: Sequence[Mapping[str, Any]],
    parts: Anatomy | None,
    loss: float,
) -> Measured:
    """The median step of a run. ``loss``: of its first step."""
    sent, received = (
        round(statistics.median(record[name] for record in records))
        for name in ("bytes_sent", "bytes_received")
    )
    step = statistics.median(record["seconds"] for record in records)
    rest = None if parts is None else parts.coordination
    used = None if parts is None else parts.processor[anatomy.COORDINATOR]
    return Measured(SYSTEM, cell, repeat, step, len(records), sent, received, loss, rest, used)
