"""What people see of a run: a live view on a terminal, plain lines in a pipe or a log."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol

from rich.console import Console as RichConsole
from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from coordinator.events import Note
from coordinator.state import Worker
from microgpt.cli import printable, say

MAX_STEP_LINES = 1000  # in a log
REFRESH_SECONDS = 0.1
MEAN_OVER = 100  # steps of the running mean of the loss
RATE_OVER = 5.0  # seconds of the shown rates
ETA_OVER = 30.0  # seconds that the remaining time is judged by
MAX_WORKER_LINES = 16


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
    terminal = RichConsole()  # knows about TERM=dumb and the like
    if terminal.is_terminal and not terminal.is_dumb_terminal and sys.stdout.isatty() and not quiet:
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
        validated = "validation_loss" in record
        if not self._quiet and (step % self._every == 0 or step in (1, self._total) or validated):
            width = max(4, len(str(self._total)))
            more = f" | validation loss {record['validation_loss']:.4f}" if validated else ""
            say(f"step {step:{width}d} / {self._total:{width}d} | loss {record['loss']:.4f}{more}")

    def note(self, note: Note) -> None:
        """See ``Console``."""
        if note.warning:
            say(f"warning: {printable(note.text)}", error=True)
        elif not self._quiet and note.kind != "checkpoint":
            say(printable(note.text))

    def refresh(self, workers: Collection[Worker]) -> None:
        """Nothing to do: lines stay."""

    def close(self) -> None:
        """Nothing to do."""


class LiveConsole:
    """A bar, the loss and its running mean, and a line for every worker, below the log's lines."""

    def __init__(self, total_steps: int, first_step: int) -> None:
        self._console = RichConsole(highlight=False)
        self._total, self._step = total_steps, first_step
        self._losses: deque[float] = deque(maxlen=MEAN_OVER)
        self._record: Mapping[str, Any] = {}
        self._validation = ""
        self._steps, self._documents = Pace(), Pace()
        self._workers: dict[int, Pace] = {}
        self._done_documents = 0
        self._shown = 0.0
        self._live = Live(console=self._console, auto_refresh=False)

    def step(self, record: Mapping[str, Any]) -> None:
        """See ``Console``."""
        self._record, self._step = record, record["step"]
        self._losses.append(record["loss"])
        self._done_documents += record["documents"]
        if "validation_loss" in record:
            loss = f"[bold]{record['validation_loss']:.4f}[/]"
            self._validation = f"validation loss {loss} at step {record['step']:,}"

    def note(self, note: Note) -> None:
        """See ``Console``."""
        if note.warning or note.kind != "checkpoint":
            heading = "[yellow]warning:[/] " if note.warning else ""
            with suppress(OSError):  # nobody looks any more
                self._console.print(heading + escape(printable(note.text)))

    def refresh(self, workers: Collection[Worker]) -> None:
        """See ``Console``."""
        now = time.monotonic()
        if now - self._shown >= REFRESH_SECONDS:
            self._show(workers, now)
            self._shown = time.monotonic()  # a slow terminal must not take all our time

    def close(self) -> None:
        """See ``Console``."""
        self._show((), time.monotonic())
        with suppress(OSError):
            self._live.stop()

    def _show(self, workers: Collection[Worker], now: float) -> None:
        parts: list[Any] = [self._bar(now)]
        if self._record:
            parts.append(self._numbers(now))
        if self._validation:
            parts.append(self._validation)
        if workers:
            parts += ["", self._worker_table(workers, now)]
        with suppress(OSError):
            # Not before now: it hides the cursor, which only a proper end brings back.
            self._live.start()
            self._live.update(Group(*parts), refresh=True)

    def _bar(self, now: float) -> Table:
        speed = self._steps.rate(now, self._step, ETA_OVER)
        left = self._total - self._step
        eta = f"ETA {duration(left / speed)}" if speed and left else "" if not left else "ETA -"
        bar = ProgressBar(self._total, self._step, complete_style="green", finished_style="green")
        table = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            table.add_column(ratio=ratio, no_wrap=True)
        table.add_row(f"step [bold]{self._step:,}[/] / {self._total:,}", bar, eta)
        return table

    def _numbers(self, now: float) -> str:
        mean = sum(self._losses) / len(self._losses)
        rate = self._documents.rate(now, self._done_documents, RATE_OVER)
        return (
            f"loss [bold]{self._record['loss']:.4f}[/], mean of {len(self._losses)} "
            f"[bold]{mean:.4f}[/], learning rate {self._record['lr']:.6f}, {rate:,.0f} documents/s"
        )

    def _worker_table(self, workers: Collection[Worker], now: float) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("worker", "engine", "state", "documents", "documents/s"):
            table.add_column(heading, justify="right" if heading.startswith("doc") else "left")
        shown = sorted(workers, key=lambda worker: (len(worker.name), worker.name))
        for worker in shown[:MAX_WORKER_LINES]:
            pace = self._workers.setdefault(worker.number, Pace())
            rate = pace.rate(now, worker.documents, RATE_OVER)
            # Between two shards nobody is idle in a sense that people care about.
            at_work = worker.owed or pace.moved(now)
            state = "computing" if at_work else "idle" if worker.ready else "starting"
            table.add_row(
                escape(worker.name), escape(worker.engine),
                state if at_work else f"[dim]{state}[/]",
                f"{worker.documents:,}", f"{rate:,.0f}",
            )  # fmt: skip
        if len(shown) > MAX_WORKER_LINES:
            table.add_row(f"[dim]and {len(shown) - MAX_WORKER_LINES} more[/]")
        return table


class Pace:
    """How fast a count grows, as seen at the moments when it was asked."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()
        self._moved = float("-inf")

    def rate(self, now: float, count: int, over: float) -> float:
        """Counts per second over the last ``over`` seconds."""
        if self._seen and count != self._seen[-1][1]:
            self._moved = now
        self._seen.append((now, count))
        while len(self._seen) > 2 and now - self._seen[0][0] > over:
            self._seen.popleft()
        then, before = self._seen[0]
        return (count - before) / (now - then) if now > then else 0.0

    def moved(self, now: float) -> bool:
        """Whether the count has grown within the last second."""
        return now - self._moved < 1.0


def duration(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"
