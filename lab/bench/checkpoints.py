"""``bench.py checkpoints``: what a checkpoint at every step costs a run, with real processes.

Runs with and without checkpoints take turns, so that whatever else the machine does hits both. Run
as a program this file is a coordinator that takes its own time; see ``TimedServer``.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from coordinator import __main__ as coordinator
from coordinator.core.actions import Save
from coordinator.core.events import CheckpointSaved, CheckpointSkipped
from coordinator.event_loop import EventLoop, Report
from coordinator.run import conduct
from lab.bench.programs import running
from lab.bench.progress import Numbers, follow
from lab.event_reader import read_events
from microgpt.support import cli
from microgpt.support.isolation import isolated
from microgpt.support.progress import Progress

#: Steps at the start that are not counted: processes join, caches fill.
WARM_UP = 0.1
TIMES = "MICROGPT_BENCH_TIMES"  # names the file that a timed coordinator writes
#: Runs of the second kind differ from those of the first by chance only: so much is noise.
KINDS: dict[str, tuple[str, ...]] = {
    "none": (),
    "none again": (),
    "every step": ("--checkpoint-every", "1"),
    "every step, 5 kept": ("--checkpoint-every", "1", "--keep-last", "5"),
}
#: As "every step", but the coordinator takes its own time, which takes time itself.
TIMED = "timed"


@dataclass
class Times:
    """Seconds that a coordinator's main thread has ``spent`` on each state that was to be saved.

    On handing it over, hearing what became of it, and telling. ``stalled`` is the longest time in
    one piece, without that for which other processes had the processor.
    """

    spent: list[float] = field(default_factory=list)
    stalled: float = 0.0


@dataclass(frozen=True)
class Result:
    """One run: seconds per step, numbers of checkpoints, and ``times`` if they were taken."""

    workers: int
    kind: str
    step: float
    seconds: float
    saved: int
    skipped: int
    times: Times | None


@click.command()
@click.option("--workers", type=Numbers(), default="1,2", help="Numbers of workers, with commas.")
@click.option("--steps", type=cli.Whole(10), default=2000, help="Steps of each run.")
@click.option("--runs", type=cli.Whole(1), default=5, help="Runs of each kind.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all numbers.")
def checkpoints(workers: tuple[int, ...], steps: int, runs: int, json_file: Path | None) -> None:
    """Compare runs of the default model with a checkpoint at every step and with none."""
    plan = [(number, kind) for number in workers for _ in range(runs) for kind in (*KINDS, TIMED)]
    progress, results = Progress("checkpoints", first=0.0), list[Result]()
    for number, kind in plan:
        done = len(results)
        what = f"run {done + 1} of {len(plan)}, workers: {number}, checkpoints: {kind}"

        def tell(share: float, done: int = done, what: str = what) -> None:
            progress(done + share, len(plan), what)

        results.append(measure(number, kind, steps, tell))
    for number in dict.fromkeys(result.workers for result in results):
        show(number, [result for result in results if result.workers == number])
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")


def show(workers: int, results: list[Result]) -> None:
    """Print medians over the runs of each kind, and what the main thread has spent.

    Each run is compared with the quiet one of its round: the machine's mood changes over minutes.
    """
    table = Table(
        "checkpoints", "saved", "skipped", "steps/s", "speed", title=f"workers: {workers}"
    )
    by_kind = {kind: [r for r in results if r.kind == kind] for kind in (*KINDS, TIMED)}
    for kind in KINDS:
        runs = by_kind[kind]
        speeds = sorted(q.step / r.step for q, r in zip(by_kind["none"], runs, strict=True))
        table.add_row(
            kind,
            f"{statistics.median(r.saved for r in runs):.0f}",
            f"{statistics.median(r.skipped for r in runs):.0f}",
            f"{1 / statistics.median(r.step for r in runs):.0f}",
            f"{statistics.median(speeds):.1%} ({speeds[0]:.0%} to {speeds[-1]:.0%})",
        )
    console = Console(width=110)
    console.print(table)
    times = [r.times for r in by_kind[TIMED] if r.times]
    spent = [seconds for each in times for seconds in each.spent]
    share = sum(spent) / sum(r.seconds for r in by_kind[TIMED])
    console.print(
        f"main thread, a checkpoint at every step: {share:.2%} of its time; each "
        f"{statistics.fmean(spent) * 1e6:.0f} us, at most {max(spent) * 1e3:.2f} ms, at most "
        f"{max(t.stalled for t in times) * 1e3:.2f} ms without waits for a processor\n"
    )


def measure(workers: int, kind: str, steps: int, tell: Callable[[float], None]) -> Result:
    """Run a coordinator with so many workers; read its record and, if it took them, its times.

    ``tell`` hears what share of the run is done.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir, times = Path(folder, "run"), Path(folder, "times.json")
        bind = f"ipc://{folder}/socket"
        flags = ["--data", "embedded", "--quiet", "--run-dir", str(run_dir), "--bind", bind]
        flags += ["--steps", str(steps), "--checkpoint-every", str(steps)]
        flags += KINDS["every step" if kind == TIMED else kind]
        program = "lab.bench.checkpoints" if kind == TIMED else "coordinator"
        commands = [isolated(program, *flags)] + [isolated("worker", "--connect", bind)] * workers
        with running(Path(folder), *commands, **{TIMES: str(times)}) as programs:
            programs.check(follow(programs.processes[0], run_dir, steps, tell))
        taken = Times(**json.loads(times.read_text())) if kind == TIMED else None
        return read(workers, kind, run_dir, taken)


def read(workers: int, kind: str, run_dir: Path, times: Times | None) -> Result:
    """What a run has written down."""
    steps = [json.loads(line)["seconds"] for line in (run_dir / "metrics.jsonl").open()]
    events = [recorded.event for recorded in read_events(run_dir)]
    skipped = [event.skipped for event in events if isinstance(event, CheckpointSkipped)]
    saved = sum(event.number for event in events if isinstance(event, CheckpointSaved))
    step = statistics.fmean(steps[int(len(steps) * WARM_UP) :])
    return Result(workers, kind, step, sum(steps), saved, max(skipped, default=0), times)


# --- a coordinator that takes its time -----------------------------------------------------------


class TimedServer(EventLoop):
    """Takes ``times`` while it serves."""

    times = Times()

    def _save(self, save: Save) -> None:
        self.times.spent.append(0.0)
        with self._stop_watch():
            super()._save(save)

    def _hand_over(self) -> None:
        if self._saves.waiting:
            with self._stop_watch():
                super()._hand_over()

    def _hear(self, report: Report) -> None:
        with self._stop_watch():
            super()._hear(report)

    def _tell_of_checkpoints(self, last: bool = False) -> None:
        with self._stop_watch():
            super()._tell_of_checkpoints(last)

    @contextmanager
    def _stop_watch(self) -> Iterator[None]:
        waited, begin = processor_waits(), time.perf_counter()
        yield
        seconds = time.perf_counter() - begin
        self.times.spent[-1] += seconds
        if seconds > self.times.stalled:
            waited = processor_waits() - waited
            self.times.stalled = max(self.times.stalled, seconds - waited)


def processor_waits() -> float:
    """Seconds for which this thread could have run, had there been a free processor. Linux only."""
    with open("/proc/thread-self/schedstat", "rb", buffering=0) as file:
        return int(file.read(100).split()[1]) / 1e9


def coordinate() -> None:
    """``python -m coordinator`` with a stop watch."""
    conduct.EventLoop = TimedServer  # type: ignore[attr-defined]
    try:
        cli.run(coordinator.main, prog_name="python -m coordinator")
    finally:
        Path(os.environ[TIMES]).write_text(json.dumps(asdict(TimedServer.times)))


if __name__ == "__main__":
    coordinate()
