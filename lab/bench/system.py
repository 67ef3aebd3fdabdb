"""The whole system for ``bench.py whole``: ``train`` with real processes, read from its record."""

from __future__ import annotations

import json
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lab.bench.cells import MANY_STEPS, SYSTEM, Cell, Measured
from lab.bench.progress import last_record
from microgpt.support import cli
from microgpt.support.isolation import isolated

#: Steps at the start that are not counted, from when all workers are there: caches fill.
WARM_UP = 0.1
LEAST_STEPS = 12  # with all workers, however long they take
LOOK_SECONDS = 0.1
PATIENCE = 120.0  # seconds until all workers are at work


def measure(cell: Cell, repeat: int, seconds: float, flags: Sequence[str]) -> Measured:
    """Run ``train`` until all its workers have been at work for so long; read its metrics.

    ``flags`` say what the cell does not: model and data. Raises ClickException.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir = Path(folder, "run")
        command = isolated("lab.command_line", "train", *flags, "--quiet")
        command += ["--run-dir", str(run_dir), "--workers", str(cell.workers)]
        command += ["--batch-size", str(cell.batch), "--n-embd", str(cell.width)]
        command += ["--steps", str(MANY_STEPS), "--checkpoint-every", str(MANY_STEPS)]
        with open(Path(folder, "log"), "w+") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)  # noqa: S603  # ours
            try:
                until_enough(process, run_dir, cell.workers, seconds)
            finally:
                process.send_signal(signal.SIGINT)  # it ends its workers
                code = process.wait()
            if code != cli.INTERRUPTED:
                log.seek(0)
                raise click.ClickException(f"train: {log.read().strip()[-500:]}")
        records = [json.loads(line) for line in (run_dir / "metrics.jsonl").open()]
    return summary(cell, repeat, counted(records, cell.workers))


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


def summary(cell: Cell, repeat: int, records: Sequence[Mapping[str, Any]]) -> Measured:
    """The median step of a run."""
    sent, received = (
        round(statistics.median(record[name] for record in records))
        for name in ("bytes_sent", "bytes_received")
    )
    step = statistics.median(record["seconds"] for record in records)
    return Measured(SYSTEM, cell, repeat, step, len(records), sent, received)
