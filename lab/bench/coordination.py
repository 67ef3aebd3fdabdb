"""``bench.py coordination``: what a step costs beside the arithmetic, with real processes."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from lab.bench.programs import running
from lab.bench.progress import Numbers, follow
from microgpt.support import cli
from microgpt.support.isolation import isolated
from microgpt.support.progress import Progress

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
@click.option("--workers", type=Numbers(), default="1,2", help="Numbers of workers, with commas.")
@click.option("--steps", type=cli.Whole(10), default=2000, help="Steps of each run.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def coordination(workers: tuple[int, ...], steps: int, json_file: Path | None) -> None:
    """Time whole steps whose documents take next to no time: one document for each worker."""
    plan = [(model, number) for model in MODELS for number in workers]
    progress, timings = Progress("coordination", first=0.0), list[Timing]()
    for model, number in plan:
        done = len(timings)
        what = f"run {done + 1} of {len(plan)}, {model}, workers: {number}"

        def tell(share: float, done: int = done, what: str = what) -> None:
            progress(done + share, len(plan), what)

        timings.append(measure(model, number, steps, tell))
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


def measure(model: str, workers: int, steps: int, tell: Callable[[float], None]) -> Timing:
    """Run ``scripts/train.py`` with a document for each worker; read its metrics.

    ``tell`` hears what share of the run is done.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        command = isolated("lab.command_line", "train", *MODELS[model])
        command += ["--data", "embedded", "--quiet", "--run-dir", f"{folder}/run"]
        command += ["--steps", str(steps), "--workers", str(workers), "--shard-size", "1"]
        command += ["--batch-size", str(workers), "--checkpoint-every", str(steps)]
        with running(Path(folder), command) as programs:
            programs.check(follow(programs.processes[0], Path(folder, "run"), steps, tell))
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
