"""``bench.py coordination``: what a step costs beside the arithmetic, with real processes."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from _bootstrap import ROOT
from rich.console import Console
from rich.table import Table

from microgpt import cli

#: Steps at the start that are not counted: processes join, caches fill.
WARM_UP = 0.1
TRIVIAL = ("--n-embd", "1", "--n-head", "1", "--block-size", "1")
MODELS = {"trivial (one position, width 1)": TRIVIAL, "default (4192 parameters)": ()}


@dataclass(frozen=True)
class Timing:
    """Seconds per step of one run, over all counted steps."""

    model: str
    workers: int
    median: float
    fastest: float
    slowest: float
    bytes_per_step: int

    @property
    def steps_per_second(self) -> float:
        """At the median."""
        return 1.0 / self.median


@click.command()
@click.option("--workers", default="1,2", help="Numbers of workers, with commas.")
@click.option("--steps", type=cli.Whole(10), default=2000, help="Steps of each run.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def coordination(workers: str, steps: int, json_file: Path | None) -> None:
    """Time whole steps whose documents take next to no time: one document for each worker."""
    timings = [
        measure(model, flags, int(number), steps)
        for model, flags in MODELS.items()
        for number in workers.split(",")
    ]
    table = Table("model", "workers", "median us", "min", "max", "steps/s", "bytes/step")
    for timing in timings:
        figures = (timing.median, timing.fastest, timing.slowest)
        table.add_row(
            timing.model,
            str(timing.workers),
            *(f"{seconds * 1e6:,.0f}" for seconds in figures),
            f"{timing.steps_per_second:,.0f}",
            f"{timing.bytes_per_step:,}",
        )
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(timing) for timing in timings], indent=2) + "\n")


def measure(model: str, flags: tuple[str, ...], workers: int, steps: int) -> Timing:
    """Run ``scripts/train.py`` with a document for each worker; read its metrics."""
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        command = [sys.executable, str(ROOT / "scripts" / "train.py"), *flags]
        command += ["--data", "embedded", "--quiet", "--run-dir", f"{folder}/run"]
        command += ["--steps", str(steps), "--workers", str(workers), "--shard-size", "1"]
        command += ["--batch-size", str(workers), "--checkpoint-every", str(steps)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)  # noqa: S603  # ours
        if done.returncode:
            raise click.ClickException(done.stderr.strip())
        lines = Path(folder, "run", "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines][int(steps * WARM_UP) :]
    seconds = [record["seconds"] for record in records]
    sizes = [record["bytes_sent"] + record["bytes_received"] for record in records]
    return Timing(
        model,
        workers,
        statistics.median(seconds),
        min(seconds),
        max(seconds),
        round(statistics.median(sizes)),
    )
