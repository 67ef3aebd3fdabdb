"""``bench.py launchers``: how soon each launcher's workers work, and are missed when they die."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from coordinator.core.events import Lost, Ready, Recorded, Silent
from lab.bench.programs import Process, running
from lab.bench.progress import Steps, steps_done
from lab.event_reader import EventReader
from lab.launch.launch_record import read_launch
from lab.launch.launchers.registry import LAUNCHERS, LOCAL, attach
from lab.report import table
from microgpt.support import cli
from microgpt.support.cli import UserError, say
from microgpt.support.isolation import isolated

LOOK_SECONDS = 0.005
PATIENCE = 180.0  # seconds for whatever is waited for
WARM_UP, STEPS = 50, 300
HEADER = ("launcher", "first step", "a step", "worker missed", "back", "node missed")
EMPTY = "-"

T = TypeVar("T")


@dataclass(frozen=True)
class Launched:
    """What was measured, in seconds.

    ``first_step``: from the start of ``train``. ``step``: the median. ``noticed``, ``back``: from
    the kill of a worker to when the coordinator knows it, and to when its successor is ready.
    ``node_noticed``: from the kill of a node to when a worker of it is missed; None: not measured.
    """

    launcher: str
    first_step: float
    step: float
    noticed: float
    back: float
    node_noticed: float | None


@click.command()
@click.option(
    "--launcher", "launchers", type=click.Choice([*LAUNCHERS]), multiple=True, default=[LOCAL],
    show_default=True, help="May be given several times.",
)  # fmt: skip
@click.option("--workers", type=cli.Whole(2), default=2, show_default=True)
@click.option(
    "--flag", "flags", multiple=True, metavar="WORD",
    help="For train, with launchers other than local: --flag=--ray-address --flag=auto.",
)  # fmt: skip
@click.option(
    "--kill-node", default=None, metavar="COMMAND",
    help="For the shell; run in the end to see how soon the workers of a node are missed.",
)  # fmt: skip
def launchers(
    launchers: Sequence[str], workers: int, flags: Sequence[str], kill_node: str | None
) -> None:
    """Start-up, step and death under each launcher. Workers must be on this machine."""
    steps = Steps("launchers", len(launchers))
    found = []
    for launcher in launchers:
        with steps.next(launcher):
            own = () if launcher == LOCAL else flags
            found.append(measure(launcher, workers, own, None if launcher == LOCAL else kill_node))
    for line in table.lines([HEADER, *map(row, found)]):
        say(line)


def measure(launcher: str, workers: int, flags: Sequence[str], kill_node: str | None) -> Launched:
    """One run with so many workers, of which one and then a node are killed.

    Raises ClickException.
    """
    with tempfile.TemporaryDirectory(prefix="microgpt-bench-") as folder:
        run_dir = Path(folder, "run")
        command = isolated("lab.command_line", "train", "--launcher", launcher, *flags)
        command += ["--run-dir", str(run_dir), "--workers", str(workers), "--quiet"]
        command += ["--steps", "1000000", "--data", "embedded"]
        began = time.monotonic()
        with running(Path(folder), command) as programs, stopped(run_dir):
            watched = Watched(programs.processes[0], run_dir)
            watched.until(lambda: steps_done(run_dir) >= 1, "the first step")
            first_step = time.monotonic() - began
            watched.until(lambda: watched.count(Ready) >= workers, "all workers")
            step = watched.step_seconds()
            noticed, back = watched.kill_worker()
            node_noticed = None if kill_node is None else watched.kill_node(kill_node)
    return Launched(launcher, first_step, step, noticed, back, node_noticed)


@contextlib.contextmanager
def stopped(run_dir: Path) -> Iterator[None]:
    """In the end the run is, also one that ``train`` has only handed over."""
    try:
        yield
    finally:
        with contextlib.suppress(UserError):  # it has not even begun
            attach(run_dir, read_launch(run_dir)).stop()


class Watched:
    """A run, as its record tells of it."""

    def __init__(self, process: Process, run_dir: Path) -> None:
        self._process, self._run_dir = process, run_dir
        self._reader = EventReader(run_dir)
        self._events: list[Recorded] = []

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait until that holds. Raises ClickException if the run ends, or it takes too long."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            if self._process.poll() not in (None, 0) or time.monotonic() > deadline:
                raise click.ClickException(f"the run has not come to {what}")
            time.sleep(LOOK_SECONDS)
        return value

    def count(self, kind: type[Ready]) -> int:
        """How often that has happened."""
        return sum(isinstance(each.event, kind) for each in self._read())

    def step_seconds(self) -> float:
        """The median time of steps from now on, by their number and ours."""
        first = steps_done(self._run_dir) + WARM_UP
        self.until(lambda: steps_done(self._run_dir) >= first + STEPS, "some steps")
        lines = (self._run_dir / "metrics.jsonl").read_text().splitlines()[first : first + STEPS]
        return statistics.median(float(json.loads(line)["seconds"]) for line in lines)

    def kill_worker(self) -> tuple[float, float]:
        """Kill one: seconds until that is known, and until it is ready again."""
        before = len(self._read())
        killed = time.time()
        os.kill(self.until(self._worker, "a worker here"), signal.SIGKILL)
        lost = self.until(lambda: self._after(before, (Lost, Silent)), "the worker's death")
        back = self.until(lambda: self._after(before, (Ready,)), "the worker's return")
        return lost.time - killed, back.time - killed

    def kill_node(self, command: str) -> float:
        """Seconds from when a node is killed until a worker is missed. Raises ClickException.

        The command may print when that was, in seconds since 1970; else they count from its end.
        """
        before = len(self._read())
        done = subprocess.run(  # noqa: S602  # the user's own command
            command, shell=True, stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            raise click.ClickException(f"--kill-node has ended with exit code {done.returncode}")
        try:
            killed = float(done.stdout)
        except ValueError:
            killed = time.time()
        missed = self.until(lambda: self._after(before, (Lost, Silent)), "a node's death")
        return max(0.0, missed.time - killed)

    def _after(self, before: int, kinds: tuple[type, ...]) -> Recorded | None:
        found = (each for each in self._read()[before:] if isinstance(each.event, kinds))
        return next(found, None)

    def _read(self) -> list[Recorded]:
        self._events += self._reader.read()
        return self._events

    def _worker(self) -> int | None:
        """The process of a worker of the run: it has the coordinator's address among its words."""
        port = (self._run_dir / "endpoint").read_text().strip().rpartition(":")[2].encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended
                words = (entry / "cmdline").read_bytes().split(b"\0")
                at = words.index(b"--connect") + 1 if b"--connect" in words else 0
                ours = at and words[at].endswith(port)
                if ours and b"python" in words[0]:  # and not Slurm's, which has started it
                    return int(entry.name)
        return None


def row(launched: Launched) -> tuple[str, ...]:
    """A line of the table."""
    node = launched.node_noticed
    return (
        launched.launcher,
        f"{launched.first_step:.1f} s",
        f"{launched.step * 1000:.2f} ms",
        f"{launched.noticed * 1000:.0f} ms",
        f"{launched.back:.1f} s",
        EMPTY if node is None else f"{node * 1000:.0f} ms",
    )
