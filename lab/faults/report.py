"""What people see: a progress bar over lines of faults on a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from lab.faults.bench import Row
from lab.faults.faulty_run import Outcome
from lab.faults.injector import InjectedFault

LINE_SECONDS = 10.0  # between two lines about steps in a log


class Screen:
    """Shows one run on ``console``; see ``lab.faults.faulty_run.Show``.

    ``steps`` is its length, 0 if that is not known yet.
    """

    def __init__(self, console: Console, title: str, steps: int) -> None:
        self._console, self._title, self._steps = console, title, steps
        self._shown = self._began = time.monotonic()
        self._first: tuple[float, int] | None = None  # when a step was first seen, and which
        self._bar: Progress | None = None

    @contextmanager
    def showing(self) -> Iterator[Screen]:
        """While the run goes on."""
        if not self._console.is_terminal:
            self._line(f"{self._title}: {self._steps} steps" if self._steps else self._title)
            yield self
            return
        columns = TextColumn("[bold]{task.description}"), BarColumn(), MofNCompleteColumn()
        times = TimeElapsedColumn(), TimeRemainingColumn()
        with Progress(*columns, *times, console=self._console) as bar:
            self._bar, self._task = bar, bar.add_task(self._title, total=self._steps or None)
            yield self

    def step(self, step: int) -> None:
        """So many steps are done."""
        now = time.monotonic()
        self._first = self._first or (now, step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
        elif now - self._shown > LINE_SECONDS:
            self._shown, (began, first) = now, self._first
            pace = (step - first) / (now - began) if now > began else 0.0
            left = f", about {(self._steps - step) / pace:.0f} s left" if pace else ""
            self._line(f"step {step} / {self._steps}{left}" if self._steps else f"step {step}")

    def fault(self, injected: InjectedFault) -> None:
        """Something has been broken."""
        fault = injected.fault
        more = f" for {fault.seconds:.1f} s" if fault.seconds else ""
        whom = "" if injected.victim in fault.kind else f" ({injected.victim})"
        self._line(f"{fault.kind}{whom}{more}")

    def _line(self, text: str) -> None:
        at = time.monotonic() - self._began
        self._console.print(f"{at:7.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)


def report(console: Console, calm: Outcome, faulty: Outcome) -> None:
    """The table of what was done and survived, and the numbers of both runs."""
    table = Table(
        title="what was done, and how long training paused after it", title_justify="left"
    )
    table.add_column("fault")
    for heading in ("times", "median pause", "longest pause"):
        table.add_column(heading, justify="right")
    for row in faulty.survived:
        median, worst = f"{row.median:.2f} s", f"{row.worst:.2f} s"
        table.add_row(row.kind, str(len(row.pauses)), median, worst)
    console.print(table)
    total = sum(len(row.pauses) for row in faulty.survived)
    seen = ", ".join(f"{count} {kind}" for kind, count in sorted(faulty.events.items()))
    again = ", ".join(f"{name} {count}" for name, count in faulty.restarts.items())
    kept = 100 * faulty.rate / calm.rate if calm.rate else 0.0
    for line in (
        f"{total} faults in {faulty.seconds:.0f} s",
        f"started again: {again}",
        f"noted by the coordinator: {seen}",
        f"steps done again after a restart of the coordinator: {faulty.redone}",
        f"throughput: {faulty.rate:.0f} steps/s with faults, {calm.rate:.0f} in peace: "
        f"{kept:.1f} % kept",
    ):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def table_of(console: Console, rows: list[Row]) -> None:
    """Measured numbers beside what was hoped for."""
    table = Table()
    for heading in ("what", "measured", "goal", ""):
        table.add_column(heading)
    for row in rows:
        mark = {True: "met", False: "MISSED", None: ""}[row.good]
        table.add_row(row.what, row.value, row.goal, mark)
    console.print(table, highlight=False)


def verdict(calm: Outcome, faulty: Outcome) -> list[str]:
    """Every way in which the faulty run is not what it should be."""
    wrong = [f"quiet run: {text}" for text in calm.complaints]
    wrong += [f"faulty run: {text}" for text in faulty.complaints]
    if not calm.state_sha256 or faulty.state_sha256 != calm.state_sha256:
        wrong.append(
            f"the faulty run ends with state_sha256 {faulty.state_sha256 or '(none)'}, "
            f"the quiet one with {calm.state_sha256 or '(none)'}"
        )
    return wrong
