"""A view as lines for a terminal of a size: numbers, workers with their strips, what happened."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from rich.console import Console, Group
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table

from coordinator.run.pace import duration, figure
from lab.top.strips import LEVELS, PLAIN_LEVELS, SLICE, Slice, letter
from lab.top.view import View
from microgpt.support.cli import printable

LEAST_STRIP, MOST_STRIP = 8, 240  # letters
GAP = 2  # blanks between columns
UNUSUAL = {"failed": "red", "killed": "red", "stopped": "yellow", "paused": "yellow"}
Row = Mapping[str, Any]


class Column(NamedTuple):
    """Of the table of workers. ``width``: of its widest usual cell; ``text`` makes a cell."""

    heading: str
    width: int
    text: Callable[[Row], str]


def _number(key: str, unit: Callable[[Any], str] = figure) -> Callable[[Row], str]:
    return lambda row: "-" if row[key] is None else unit(row[key])


def percent(share: float) -> str:
    """A share of the time."""
    return f"{100 * share:.0f}%"


def seconds(value: float) -> str:
    """Milliseconds where that reads better."""
    return f"{1000 * value:.1f} ms" if value < 1.0 else f"{value:.1f} s"


def size(number: float) -> str:
    """A number of bytes."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


#: By what people want to know first: what has no room is left out from the end.
COLUMNS = (
    Column("documents/s", 11, _number("documents_per_second")),
    Column("computing", 9, _number("computing", percent)),
    Column("wire", 5, _number("wire", percent)),
    Column("waiting", 7, _number("waiting", percent)),
    Column("in flight", 9, _number("in_flight", str)),
    Column("documents", 10, _number("documents", "{:,}".format)),
    Column("round trip", 10, _number("round_trip", seconds)),
    Column("sent", 8, _number("bytes_sent", size)),
    Column("received", 8, _number("bytes_received", size)),
    Column("engine", 6, lambda row: escape(printable(str(row["engine"])))),
    Column("host", 12, lambda row: escape(printable(str(row["host"] or "-")))),
)


class Drawing(NamedTuple):
    """``blocks``: the terminal has letters that are blocks. ``colour``: rich's colour system."""

    columns: int
    rows: int
    colour: Any = None
    blocks: bool = True


def frame(view: View, now: float, drawing: Drawing) -> list[str]:
    """The lines, none wider than the terminal, no more than fit on it."""
    parts: list[Any] = [_title(view), _progress(view), _numbers(view)]
    if view.problem:
        parts.append(f"[yellow]{escape(printable(view.problem))}[/]")
    room = max(1, drawing.rows - len(parts) - 4)
    marks = [_mark(mark) for mark in list(view.marks)[-max(0, min(4, room - 3)) :]]
    if view.workers:
        until = now if view.live else view.state.get("time") or now
        parts += ["", _table(view, until, drawing, max(1, room - len(marks) - 1))]
    if marks and room > 3:
        parts += ["", *marks]
    console = Console(
        file=io.StringIO(), width=drawing.columns, color_system=drawing.colour, highlight=False,
        force_terminal=drawing.colour is not None, legacy_windows=False, safe_box=False,
    )  # fmt: skip
    with console.capture() as captured:
        console.print(Group(*parts), no_wrap=True, overflow="ellipsis", end="")
    lines = captured.get().removesuffix("\n").split("\n")
    return [line.rstrip() for line in lines[: drawing.rows]]


def _title(view: View) -> str:
    run, phase = view.run, str(view.state.get("phase", "unknown"))
    style = UNUSUAL.get(phase, "green" if phase == "running" else "bold")
    reason = view.state.get("reason") or ""
    told = f": {escape(printable(reason))}" if reason and not view.live else ""
    name = escape(printable(str(run.get("name", "no run yet"))))
    told_of = ", ".join(printable(str(run[key])) for key in ("strategy", "promise")) if run else ""
    how = f"  [dim]{escape(told_of)}[/]" if run else ""
    return f"[bold]{name}[/]  [{style}]{phase}{told}[/]{how}"


def _progress(view: View) -> Table:
    step, steps = view.state.get("step", 0), view.state.get("steps", 0)
    left = view.state.get("seconds_left")
    bar = ProgressBar(max(steps, 1), step, complete_style="green", finished_style="green")
    table = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None):
        table.add_column(ratio=ratio, no_wrap=True)
    eta = f"ETA {duration(left)}" if left is not None else ""
    table.add_row(f"step [bold]{step:,}[/] / {steps:,}", bar, eta)
    return table


def _numbers(view: View) -> str:
    found = []
    if view.losses:
        mean = sum(view.losses) / len(view.losses)
        found.append(f"loss [bold]{view.losses[-1]:.4f}[/], mean [bold]{mean:.4f}[/]")
    if view.validation:
        step, loss = view.validation
        found.append(f"validation [bold]{loss:.4f}[/] at step {step:,}")
    if (rate := view.state.get("documents_per_second")) is not None:
        found.append(f"{figure(rate)} documents/s")
    sent, received = (view.state.get(f"bytes_{way}_per_step") for way in ("sent", "received"))
    if sent is not None and received is not None:
        found.append(f"{size(sent)} out and {size(received)} in per step")
    return ", ".join(found) or "no step is done yet"


def _mark(mark: Row) -> str:
    """Something that happened, in the time of this place."""
    when = datetime.fromtimestamp(mark["time"]).strftime("%H:%M:%S")
    style = "yellow" if mark["warning"] else "none"
    return f"[dim]{when}[/] [{style}]{escape(printable(mark['text']))}[/]"


def _table(view: View, until: float, drawing: Drawing, most: int) -> Table:
    shown = view.workers[:most] if len(view.workers) <= most else view.workers[: most - 1]
    names = [printable(str(row["name"])) for row in shown]
    width = min(max(map(len, [*names, "worker"])), max(8, drawing.columns // 3))
    left = drawing.columns - width - GAP - len("computing") - GAP
    strip = view.rounds_recorded and left >= LEAST_STRIP
    chosen: list[Column] = []
    for column in COLUMNS:
        needed = column.width + GAP
        if left - needed < (LEAST_STRIP * (1 + len(chosen) // 2) if strip else 0):
            break
        chosen.append(column)
        left -= needed
    many = min(left, MOST_STRIP) if strip else 0
    table = Table(box=None, padding=(0, GAP, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("worker", no_wrap=True, overflow="ellipsis", max_width=width)
    table.add_column("state", no_wrap=True)
    for column in chosen:
        table.add_column(column.heading, no_wrap=True, justify="right", min_width=column.width)
    if strip:
        table.add_column(f"last {many * SLICE:.0f} s"[:many], no_wrap=True)
    for name, row in zip(names, shown, strict=True):
        slices = view.strips.of(row["epoch"], row["worker"], until, many)
        cells = [column.text(row) for column in chosen]
        table.add_row(escape(name), _state(row), *cells, *([_strip(slices, drawing)] * strip))
    if len(shown) < len(view.workers):
        table.add_row(f"[dim]and {len(view.workers) - len(shown)} more[/]")
    return table


def _state(row: Row) -> str:
    state = str(row["state"])
    gone = state in ("left", "lost", "silent", "expelled")
    style = "yellow" if gone and state != "left" else "none" if state == "computing" else "dim"
    return f"[{style}]{state}[/]"


def _strip(slices: list[Slice], drawing: Drawing) -> str:
    """Letters as high as a worker computed; a dot where it had work and did not compute."""
    levels = LEVELS if drawing.blocks else PLAIN_LEVELS
    drawn = []
    for computing, evaluating, busy in slices:
        if computing <= 0.0:
            drawn.append("[dim]·[/]" if busy > 0.0 and drawing.blocks else " ")
        else:
            style = "magenta" if 2 * evaluating > computing else "cyan"
            drawn.append(f"[{style}]{letter(computing, levels)}[/]")
    return "".join(drawn)
