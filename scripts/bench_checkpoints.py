"""``bench.py checkpoints``: what a checkpoint at every step costs a run, with real processes.

Runs with and without checkpoints take turns, so that whatever else the machine does hits both. Run
as a program this file is a coordinator that takes its own time; see ``TimedServer``.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from _bootstrap import ROOT, find_project

find_project("click", "msgpack", "numba", "rich", "zmq")

import click
from rich.console import Console
from rich.table import Table

from coordinator import __main__ as program
from coordinator.events import Note, Save, Saved
from coordinator.server import Server
from microgpt import cli

#: Steps at the start that are not counted: processes join, caches fill.
WARM_UP = 0.1
TIMES = "MICROGPT_BENCH_TIMES"  # names the file that a timed coordinator writes
#: Runs of the second kind differ from those of the first by chance only: so much is noise.
KINDS = {
    "none": (),
    "none again": (),
    "every step": ("--checkpoint-every", "1"),
    "every step, 5 kept": ("--checkpoint-every", "1", "--keep-last", "5"),
}


@dataclass
class Times:
    """Seconds that a coordinator's main thread has ``spent`` on each state that was to be saved.

    On handing it over, hearing what became of it, and telling.
    """

    spent: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One run: seconds per step, and what the main thread has spent on checkpoints."""

    workers: int
    kind: str
    step: float
    spent_mean: float
    spent_worst: float
    spent_share: float
    saved: int
    skipped: int


@click.command()
@click.option("--workers", default="1,2", help="Numbers of workers, with commas.")
@click.option("--steps", type=click.IntRange(min=10), default=2000, help="Steps of each run.")
@click.option("--runs", type=click.IntRange(min=1), default=5, help="Runs of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def checkpoints(workers: str, steps: int, runs: int, json_file: Path | None) -> None:
    """Compare runs of the default model with a checkpoint at every step and with none."""
    results = [
        measure(int(number), kind, steps)
        for number in workers.split(",")
        for _ in range(runs)
        for kind in KINDS
    ]
    for number in dict.fromkeys(result.workers for result in results):
        show(number, [result for result in results if result.workers == number])
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def show(workers: int, results: list[Result]) -> None:
    """Print medians over the runs of each kind, and the worst of all.

    Each run is compared with the quiet one of its round: the machine's mood changes over minutes.
    """
    table = Table(
        "checkpoints", "saved", "skipped", "steps/s", "speed", "main thread", "each us", "worst us",
        title=f"workers: {workers}",
    )  # fmt: skip
    by_kind = {kind: [r for r in results if r.kind == kind] for kind in KINDS}
    for kind, runs in by_kind.items():
        speeds = sorted(q.step / r.step for q, r in zip(by_kind["none"], runs, strict=True))
        table.add_row(
            kind,
            f"{median(runs, lambda r: r.saved):.0f}",
            f"{median(runs, lambda r: r.skipped):.0f}",
            f"{1 / median(runs, lambda r: r.step):.0f}",
            f"{statistics.median(speeds):.1%} ({speeds[0]:.0%} to {speeds[-1]:.0%})",
            f"{median(runs, lambda r: r.spent_share):.2%}",
            f"{median(runs, lambda r: r.spent_mean) * 1e6:.0f}",
            f"{max(r.spent_worst for r in runs) * 1e6:,.0f}",
        )
    Console(width=110).print(table)


def median(runs: list[Result], what: Callable[[Result], float]) -> float:
    """Of one figure."""
    return statistics.median(map(what, runs))


def measure(workers: int, kind: str, steps: int) -> Result:
    """Run a timed coordinator with so many workers; read its record and its times."""
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir, times = Path(folder, "run"), Path(folder, "times.json")
        bind = f"ipc://{folder}/socket"
        flags = ["--data", "embedded", "--quiet", "--run-dir", str(run_dir), "--bind", bind]
        flags += ["--steps", str(steps), "--checkpoint-every", str(steps), *KINDS[kind]]
        env = {**os.environ, TIMES: str(times), "PYTHONPATH": str(ROOT)}
        with open(Path(folder, "log"), "w+") as log:
            commands = [[__file__, *flags]] + [["-m", "worker", "--connect", bind]] * workers
            running = [
                subprocess.Popen([sys.executable, *command], env=env, stdout=log, stderr=log)  # noqa: S603  # ours
                for command in commands
            ]
            try:
                code = running[0].wait()  # workers end with it, or wait for another
            finally:
                for process in running:
                    process.kill()
                    process.wait()
            if code:
                log.seek(0)
                raise click.ClickException(log.read().strip())
        return read(workers, kind, run_dir, json.loads(times.read_text()))


def read(workers: int, kind: str, run_dir: Path, times: dict[str, Any]) -> Result:
    """What a run has written down."""
    steps = [json.loads(line)["seconds"] for line in (run_dir / "metrics.jsonl").open()]
    events = [json.loads(line) for line in (run_dir / "events.jsonl").open()]
    first = int(len(steps) * WARM_UP)
    counted, spent = steps[first:], times["spent"]
    skipped = [event["skipped"] for event in events if event["kind"] == "checkpoint_skipped"]
    return Result(
        workers,
        kind,
        statistics.fmean(counted),
        statistics.fmean(spent),
        max(spent),
        sum(spent) / sum(steps),
        sum(event["saved"] for event in events if event["kind"] == "checkpoint"),
        max(skipped, default=0),
    )


# --- a coordinator that takes its time -----------------------------------------------------------


class TimedServer(Server):
    """Takes ``times`` while it serves."""

    times = Times()

    def _save(self, save: Save) -> None:
        begin = time.perf_counter()
        super()._save(save)
        self.times.spent.append(time.perf_counter() - begin)

    def _hand_over(self) -> None:
        if self._unsaved is not None:
            begin = time.perf_counter()
            super()._hand_over()
            self.times.spent[-1] += time.perf_counter() - begin

    def _hear(self, report: Saved | Note) -> None:
        begin = time.perf_counter()
        super()._hear(report)
        self.times.spent[-1] += time.perf_counter() - begin

    def _tell_of_checkpoints(self, last: bool = False) -> None:
        begin = time.perf_counter()
        super()._tell_of_checkpoints(last)
        self.times.spent[-1] += time.perf_counter() - begin


def coordinate() -> None:
    """``python -m coordinator`` with a stop watch."""
    program.Server = TimedServer  # type: ignore[attr-defined]
    try:
        cli.run(program.main, prog_name="python -m coordinator")
    finally:
        Path(os.environ[TIMES]).write_text(json.dumps(asdict(TimedServer.times)))


if __name__ == "__main__":
    coordinate()
