"""``bench.py events``: what the record of events costs a run, with real processes.

Runs without events, with a summary and with all of them take turns, so that whatever else the
machine does hits all alike. Run as a program this file is a coordinator that tells nothing.
"""

from __future__ import annotations

import json
import resource
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

import click
from rich.console import Console
from rich.table import Table

from coordinator import __main__ as coordinator
from coordinator import event_loop
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.event_json import to_json
from coordinator.core.events import (
    Answered,
    Assigned,
    Event,
    Level,
    Purpose,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    StepDone,
)
from coordinator.run.reporter import Reporter
from lab.bench.coordination import TRIVIAL, WARM_UP
from lab.bench.programs import running
from lab.bench.progress import follow
from microgpt.support import cli
from microgpt.support.isolation import isolated
from microgpt.support.progress import Progress

NONE, AGAIN, SUMMARY, FULL = "none", "none again", "summary", "full"
STEPS_TIMED = 20_000  # in one process, for what telling takes
KINDS = (NONE, AGAIN, SUMMARY, FULL)  # the second differs from the first by chance only


@click.command()
@click.option("--workers", type=cli.Whole(1), default=1, help="Worker processes.")
@click.option("--steps", type=cli.Whole(10), default=5000, help="Steps of each run.")
@click.option("--repeats", type=cli.Whole(1), default=5, help="Runs of each kind, by turns.")
def events(workers: int, steps: int, repeats: int) -> None:
    """Compare steps per second without events, with a summary, and with all of them.

    The model is trivial and has one document for each worker: there are as many steps as can be.
    """
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    processor: dict[str, list[float]] = {kind: [] for kind in KINDS}
    size: dict[str, int] = {}
    progress, runs = Progress("events", first=0.0), len(KINDS) * repeats
    for run in range(runs):
        turn, place = divmod(run, len(KINDS))
        kind = KINDS[(place + turn) % len(KINDS)]  # none is always the first

        def tell(share: float, run: int = run, kind: str = kind) -> None:
            progress(run + share, runs, f"run {run + 1} of {runs}, {kind}")

        median, busy, size[kind] = measure(kind, workers, steps, tell)
        seconds[kind].append(median)
        processor[kind].append(busy)
    table = Table("events", "steps/s", "of each run", "cost", "processor us/step", "bytes/step")
    base = statistics.median(seconds[NONE] + seconds[AGAIN])
    for kind in KINDS:
        middle = statistics.median(seconds[kind])
        table.add_row(
            kind,
            f"{1 / middle:,.0f}",
            " ".join(f"{1 / each:,.0f}" for each in seconds[kind]),
            f"{100 * (1 - base / middle):+.1f} %",
            f"{1e6 * statistics.median(processor[kind]) / steps:,.0f}",
            f"{size[kind] / steps:,.0f}",
        )
    Console().print(table)
    told, written = cost()
    share = 100 * told / (1e6 * base)
    Console().print(
        f"of one step with one worker, at level full: {told:.1f} us of the processor to tell its "
        f"events, which a step waits for ({share:.2f} % of {1e6 * base:,.0f} us), {written:.1f} us "
        "to write them, while the coordinator waits",
        highlight=False,
        soft_wrap=True,
    )


def cost() -> tuple[float, float]:
    """Microseconds of the processor for the events of one step: to tell, and to write them."""
    shard, who = (12, 12, 0, 16, False), (1, "worker-1")
    out, told = ActionBuffer(Level.FULL), deque[Recorded]()

    def tell() -> None:
        out.begin(0.0)
        out.tell(RoundOpened(12, 12, False, 384, 32))
        out.tell(Assigned(*shard, *who, Purpose.WORK))
        out.tell(Answered(*shard, *who, False, 0.000123456, 0.000345678))
        out.tell(RoundClosed(12, 12, False, 1, 1, RoundOutcome.APPLIED))
        out.tell(StepDone(13, 3.2836412345678, 0.000456789, 1))
        for action in out.actions:
            told.append(Recorded(1764277000.123456, 12, cast(Event, action)))

    def write() -> None:
        for _ in range(5):
            to_json(told.popleft())

    seconds = []
    for part in (tell, write):
        began = time.process_time()
        for _ in range(STEPS_TIMED):
            part()
        seconds.append((time.process_time() - began) / STEPS_TIMED)
    return 1e6 * seconds[0], 1e6 * seconds[1]


def measure(
    kind: str, workers: int, steps: int, tell: Callable[[float], None]
) -> tuple[float, float, int]:
    """Of a run: seconds of the median step, the coordinator's time of processors, bytes of events.

    ``tell`` hears what share of the run is done.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir, bind = Path(folder, "run"), f"ipc://{folder}/socket"
        flags = [*TRIVIAL, "--data", "embedded", "--quiet", "--run-dir", str(run_dir)]
        flags += ["--bind", bind, "--steps", str(steps), "--checkpoint-every", str(steps)]
        flags += ["--shard-size", "1", "--batch-size", str(workers)]
        flags += ["--events", FULL if kind == FULL else SUMMARY]
        program = "coordinator" if kind in (SUMMARY, FULL) else "lab.bench.events"
        commands = [isolated(program, *flags)] + [isolated("worker", "--connect", bind)] * workers
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        with running(Path(folder), *commands) as programs:
            code = follow(programs.processes[0], run_dir, steps, tell)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the coordinator alone
            programs.check(code)
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()[int(steps * WARM_UP) :]
        size = (run_dir / "events.jsonl").stat().st_size
        busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return statistics.median(json.loads(line)["seconds"] for line in lines), busy, size


class SilentReporter(Reporter):
    """Neither shows nor records events."""

    def tell(self, event: Event, now: float) -> None:
        """Nothing."""

    def record(self, event: Event, now: float) -> None:
        """Nothing."""


def coordinate() -> None:
    """``python -m coordinator`` without events."""
    event_loop.Reporter = SilentReporter  # type: ignore[attr-defined]
    cli.run(coordinator.main, prog_name="python -m coordinator")


if __name__ == "__main__":
    coordinate()
