"""The live view of a run on a terminal."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.console import Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from coordinator.core.event_text import describe
from coordinator.core.events import EventBase, Paused, Resumed, Status
from coordinator.core.state import Worker
from coordinator.run.console import is_news
from coordinator.run.pace import Pace, duration, figure
from coordinator.run.screen import Screen
from microgpt.support.cli import printable

REFRESH_SECONDS = 0.1
MEAN_OVER = 100  # steps of the running mean of the loss
RATE_OVER = 5.0  # seconds of the shown rates
ETA_OVER = 30.0  # seconds that the remaining time is judged by
PAUSE_SECONDS = 1.0  # a worker without work for less is at work, as people see it
MAX_WORKER_LINES = 16


def can_be_drawn_on() -> bool:
    """Whether stdout is a terminal that obeys; one of ``TERM=dumb`` does not."""
    terminal = RichConsole()
    return terminal.is_terminal and not terminal.is_dumb_terminal


class LiveConsole:
    """A bar, the loss and its running mean, and a line for every worker, below the log's lines.

    Speeds and remaining times are by a clock that stands still while no worker is ready, and in a
    pause.
    """

    def __init__(self, total_steps: int, first_step: int) -> None:
        self._console, self._screen = RichConsole(highlight=False), Screen()
        self._total, self._step = total_steps, first_step
        self._losses: deque[float] = deque(maxlen=MEAN_OVER)
        self._record: Mapping[str, Any] = {}
        self._validation = ""
        self._steps, self._documents = Pace(ETA_OVER), Pace(RATE_OVER)
        self._rates: Mapping[int, float] = {}
        self._counts: dict[int, tuple[int, float]] = {}  # documents of workers, and since when
        self._doing: dict[int, str] = {}  # what workers do that are not ready, by their numbers
        self._gone: dict[int, float] = {}  # when missed workers were first missed, by their numbers
        self._worked, self._looked = 0.0, time.monotonic()
        self._unready_since = self._looked
        self._paused_since: float | None = None
        self._shown = 0.0

    def step(self, record: Mapping[str, Any]) -> None:
        """See ``Console``."""
        self._record, self._step = record, record["step"]
        self._losses.append(record["loss"])
        if "validation_loss" in record:
            loss = f"[bold]{record['validation_loss']:.4f}[/]"
            self._validation = f"validation loss {loss} at step {record['step']:,}"

    def tell(self, event: EventBase) -> None:
        """See ``Console``."""
        if isinstance(event, Paused | Resumed):
            self._paused_since = time.monotonic() if isinstance(event, Paused) else None
        if isinstance(event, Status):
            self._doing[event.worker] = printable(event.text)
        elif event.warning or is_news(event):
            heading = "[yellow]warning:[/] " if event.warning else ""
            text = escape(printable(describe(event)))
            self._screen.say(self._styled(heading + text, soft_wrap=True))

    def refresh(self, workers: Collection[Worker], missed: Collection[Worker] = ()) -> None:
        """See ``Console``."""
        now = time.monotonic()
        if any(worker.ready for worker in workers):
            self._worked += now - self._looked if self._paused_since is None else 0.0
            self._unready_since = now
        self._looked = now
        if now - self._shown >= REFRESH_SECONDS:
            self._rates = self._documents.rates(
                self._worked, {worker.number: worker.documents for worker in workers}
            )
            self._show([*workers, *missed], now, self._waiting(workers, now))
            self._shown = time.monotonic()  # a slow terminal must not take all our time

    def close(self) -> None:
        """See ``Console``."""
        self._show((), time.monotonic())  # the last step may not have been shown
        self._screen.close()

    def _show(self, workers: Collection[Worker], now: float, waiting: str = "") -> None:
        columns, lines = self._screen.size()
        parts: list[Any] = [self._bar()]
        if self._record:
            parts.append(self._numbers())
        if self._validation:
            parts.append(self._validation)
        if waiting:
            parts.append(waiting)
        if workers:
            room = lines - len(parts) - 4  # one line free, one empty, the headings, and "more"
            parts += ["", self._worker_table(workers, now, max(1, min(MAX_WORKER_LINES, room)))]
        drawn = self._styled(Group(*parts), no_wrap=True, overflow="ellipsis", width=columns)
        self._screen.draw(drawn.removesuffix("\n").split("\n"))

    def _styled(self, part: Any, **how: Any) -> str:
        with self._console.capture() as captured:
            self._console.print(part, end="", **how)
        return captured.get()

    def _bar(self) -> Table:
        rate = self._steps.rates(self._worked, {0: self._step})[0]
        left = self._total - self._step
        eta = f"ETA {duration(left / rate)}" if rate and left else "" if not left else "ETA -"
        bar = ProgressBar(self._total, self._step, complete_style="green", finished_style="green")
        table = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            table.add_column(ratio=ratio, no_wrap=True)
        table.add_row(f"step [bold]{self._step:,}[/] / {self._total:,}", bar, eta)
        return table

    def _numbers(self) -> str:
        mean = sum(self._losses) / len(self._losses)
        return (
            f"loss [bold]{self._record['loss']:.4f}[/], mean of {len(self._losses)} "
            f"[bold]{mean:.4f}[/], learning rate {self._record['lr']:.6f}, "
            f"{figure(sum(self._rates.values()))} documents/s"
        )

    def _waiting(self, workers: Collection[Worker], now: float) -> str:
        """A line for as long as nobody is given work, which may be long."""
        if self._paused_since is not None:
            return f"paused: {now - self._paused_since:.0f} s"
        if self._step >= self._total or any(worker.ready for worker in workers):
            return ""
        who = "getting ready" if workers else "waiting for workers"
        return f"{who}: {now - self._unready_since:.0f} s"

    def _worker_table(self, workers: Collection[Worker], now: float, most: int) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for heading in ("worker", "engine", "state", "documents", "documents/s"):
            justify: Any = "right" if heading.startswith("doc") else "left"
            table.add_column(heading, justify=justify, no_wrap=True)
        shown = sorted(workers, key=lambda worker: (len(worker.name), worker.name))
        for worker in shown[:most]:
            state = self._state(worker, now)
            style = "yellow" if worker.gone else "none" if state == "computing" else "dim"
            table.add_row(
                escape(worker.name), escape(worker.engine), f"[{style}]{escape(state)}[/]",
                f"{worker.documents:,}", figure(self._rates.get(worker.number, 0.0)),
            )  # fmt: skip
        if len(shown) > most:
            table.add_row(f"[dim]and {len(shown) - most} more[/]")
        return table

    def _state(self, worker: Worker, now: float) -> str:
        if worker.gone:
            return f"{worker.gone} for {now - self._gone.setdefault(worker.number, now):.0f} s"
        before, since = self._counts.get(worker.number, (worker.documents, now - PAUSE_SECONDS))
        if worker.documents != before:
            since = now
        self._counts[worker.number] = (worker.documents, since)
        if worker.ready:
            self._doing.pop(worker.number, None)
        if worker.in_flight or now - since < PAUSE_SECONDS:
            return "computing"
        return "idle" if worker.ready else self._doing.get(worker.number, "starting")
