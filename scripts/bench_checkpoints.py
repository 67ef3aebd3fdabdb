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
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from _bootstrap import ROOT, find_project

find_project("click", "msgpack", "numba", "rich", "zmq")

import click
from rich.console import Console
from rich.table import Table

from coordinator import __main__ as program
from coordinator.events import Event, Note, Peer, Received, Saved
from coordinator.server import Server
from microgpt import cli
from microgpt.messages import Answer

#: Steps at the start that are not counted: processes join, caches fill.
WARM_UP = 0.1
TIMES = "MICROGPT_BENCH_TIMES"  # names the file that a timed coordinator writes
KINDS = {
    "none": (),
    "every step": ("--checkpoint-every", "1"),
    "every step, the newest 5 kept": ("--checkpoint-every", "1", "--keep-last", "5"),
}


@dataclass
class Times:
    """Seconds of a coordinator's main thread.

    ``spent``: on each checkpoint, handing it over and hearing of it. ``overheads``: of each step,
    beside what its slowest worker has computed.
    """

    spent: list[float] = field(default_factory=list)
    overheads: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One run: seconds per step and what they consist of, and how many checkpoints it made."""

    workers: int
    kind: str
    step: float
    overhead: float
    spent_mean: float
    spent_worst: float
    spent_share: float
    saved: int
    skipped: int


@click.command()
@click.option("--workers", default="1,2", help="Numbers of workers, with commas.")
@click.option("--steps", type=click.IntRange(min=10), default=1000, help="Steps of each run.")
@click.option("--runs", type=click.IntRange(min=1), default=7, help="Runs of each kind.")
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
    """Print medians over the runs of each kind, and the worst of all."""
    table = Table(
        "checkpoints", "steps/s", "speed", "step", "not computing", "more", "on saves", "each",
        "worst", "saved", "skipped", title=f"{workers} workers; times in microseconds",
    )  # fmt: skip
    by_kind = {kind: [r for r in results if r.kind == kind] for kind in KINDS}
    quiet = by_kind["none"]
    step, overhead = median(quiet, lambda r: r.step), median(quiet, lambda r: r.overhead)
    for kind, runs in by_kind.items():
        more = median(runs, lambda r: r.overhead) - overhead
        table.add_row(
            kind,
            f"{1 / median(runs, lambda r: r.step):.0f}",
            f"{step / median(runs, lambda r: r.step):.1%}",
            f"{median(runs, lambda r: r.step) * 1e6:.0f}",
            f"{median(runs, lambda r: r.overhead) * 1e6:.0f}",
            f"{more / step:+.2%}",
            f"{median(runs, lambda r: r.spent_share):.2%}",
            f"{median(runs, lambda r: r.spent_mean) * 1e6:.0f}",
            f"{max(r.spent_worst for r in runs) * 1e6:.0f}",
            f"{median(runs, lambda r: r.saved):.0f}",
            f"{median(runs, lambda r: r.skipped):.0f}",
        )
    Console(width=120).print(table)


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
                codes = [process.wait() for process in running]
            finally:
                for process in running:
                    process.kill()
            if any(codes):
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
        statistics.fmean(times["overheads"][first:]),
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
    computed: ClassVar[dict[Peer, float]] = defaultdict(float)

    def _submit(self) -> None:
        if self._unsaved is not None:
            begin = time.perf_counter()
            super()._submit()
            self.times.spent.append(time.perf_counter() - begin)

    def _hear(self, report: Saved | Note) -> None:
        begin = time.perf_counter()
        super()._hear(report)
        self.times.spent[-1] += time.perf_counter() - begin

    def _tell_of_checkpoints(self, last: bool = False) -> None:
        begin = time.perf_counter()
        super()._tell_of_checkpoints(last)
        self.times.spent[-1] += time.perf_counter() - begin

    def _handle(self, event: Event) -> None:
        if isinstance(event, Received) and isinstance(event.message, Answer):
            self.computed[event.peer] += event.message.seconds
        super()._handle(event)

    def _step_done(self, record: Mapping[str, Any]) -> None:
        self.times.overheads.append(record["seconds"] - max(self.computed.values()))
        self.computed.clear()
        super()._step_done(record)


def coordinate() -> None:
    """``python -m coordinator`` with a stop watch."""
    program.Server = TimedServer  # type: ignore[attr-defined]
    try:
        cli.run(program.main, prog_name="python -m coordinator")
    finally:
        Path(os.environ[TIMES]).write_text(json.dumps(asdict(TimedServer.times)))


if __name__ == "__main__":
    coordinate()
