"""What people see of a run: a live view on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any, Protocol

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from coordinator.events import Note
from coordinator.state import Worker

MAX_STEP_LINES = 1000  # in a log
REFRESH_SECONDS = 0.1
MEAN_OVER = 100  # steps of the running mean of the loss
RATE_OVER = 5.0  # seconds of the shown rates


class Console(Protocol):
    """Shows a run as it goes."""

    def step(self, record: Mapping[str, Any]) -> None:
        """A step is done."""

    def note(self, note: Note) -> None:
        """Something happened."""

    def refresh(self, workers: Collection[Worker]) -> None:
        """Show the present state, if it is time to."""

    def close(self) -> None:
        """Give the terminal back."""


def make_console(total_steps: int, first_step: int, quiet: bool) -> Console:
    """The live view where stdout is a terminal, else plain lines."""
    if sys.stdout.isatty() and not quiet:
        return LiveConsole(total_steps, first_step)
    return PlainConsole(total_steps, quiet)


class PlainConsole:
    """One line per step (of long runs, a thousand in all) and per thing that happens."""

    def __init__(self, total_steps: int, quiet: bool) -> None:
        self._total, self._quiet = total_steps, quiet
        self._every = max(1, total_steps // MAX_STEP_LINES)

    def step(self, record: Mapping[str, Any]) -> None:
        """See ``Console``."""
        step = record["step"]
        if not self._quiet and (step % self._every == 0 or step in (1, self._total)):
            width = max(4, len(str(self._total)))
            print(
                f"step {step:{width}d} / {self._total:{width}d} | loss {record['loss']:.4f}",
                flush=True,
            )

    def note(self, note: Note) -> None:
        """See ``Console``."""
        if note.warning:
            print(f"warning: {note.text}", file=sys.stderr, flush=True)
        elif not self._quiet and note.kind != "checkpoint":
            print(note.text, flush=True)

    def refresh(self, workers: Collection[Worker]) -> None:
        """Nothing to do: lines stay."""

    def close(self) -> None:
        """Nothing to do."""


class LiveConsole:
    """A progress bar, the loss and its running mean, and a line for every worker."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self._console = RichConsole()
        self._progress = Progress(
            TextColumn("[bold]step"),
            MofNCompleteColumn(),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[rate]}"),
            TextColumn("ETA"),
            TimeRemainingColumn(),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=total_steps, completed=first_step, rate="")
        self._losses: deque[float] = deque(maxlen=MEAN_OVER)
        self._record: Mapping[str, Any] = {}
        self._pace: deque[tuple[float, int]] = deque()
        self._worker_pace: dict[int, deque[tuple[float, int]]] = {}
        self._done_documents = 0
        self._shown = 0.0
        self._live = Live(console=self._console, auto_refresh=False, transient=False)
        self._live.start()

    def step(self, record: Mapping[str, Any]) -> None:
        """See ``Console``."""
        self._record = record
        self._losses.append(record["loss"])
        self._done_documents += record["documents"]

    def note(self, note: Note) -> None:
        """See ``Console``."""
        if note.warning:
            self._console.print(f"[yellow]warning:[/] {escape(note.text)}", highlight=False)
        elif note.kind != "checkpoint":
            self._console.print(escape(note.text), highlight=False)

    def refresh(self, workers: Collection[Worker]) -> None:
        """See ``Console``."""
        now = time.monotonic()
        if now - self._shown < REFRESH_SECONDS:
            return
        self._shown = now
        self._show(workers, now)

    def close(self) -> None:
        """See ``Console``."""
        self._show((), time.monotonic())
        self._live.stop()

    def _show(self, workers: Collection[Worker], now: float) -> None:
        rate = _rate(self._pace, now, self._done_documents)
        self._progress.update(
            self._task,
            completed=self._record.get("step", self._progress.tasks[0].completed),
            rate=f"{rate:,.0f} documents/s",
        )
        parts: list[Any] = [self._progress]
        if self._record:
            mean = sum(self._losses) / len(self._losses)
            parts.append(
                f"loss {self._record['loss']:.4f}   "
                f"mean of {len(self._losses)}: [bold]{mean:.4f}[/]   "
                f"learning rate {self._record['lr']:.6f}"
            )
        if workers:
            parts.append(self._worker_table(workers, now))
        self._live.update(Group(*parts), refresh=True)

    def _worker_table(self, workers: Collection[Worker], now: float) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for heading in ("worker", "engine", "state", "documents", "documents/s"):
            table.add_column(heading, justify="right" if heading.startswith("doc") else "left")
        for worker in workers:
            pace = self._worker_pace.setdefault(worker.number, deque())
            rate = _rate(pace, now, worker.documents)
            state = "computing" if worker.owed else "idle"
            table.add_row(
                escape(worker.name), escape(worker.engine), state,
                f"{worker.documents:,}", f"{rate:,.0f}",
            )  # fmt: skip
        return table


def _rate(pace: deque[tuple[float, int]], now: float, count: int) -> float:
    """Counts per second over the last seconds."""
    pace.append((now, count))
    while len(pace) > 2 and now - pace[0][0] > RATE_OVER:
        pace.popleft()
    seconds = now - pace[0][0]
    return (count - pace[0][1]) / seconds if seconds > 0 else 0.0
