"""``microgpt top``: the workers of a run and what they do, live on a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import click
from rich.console import Console

from coordinator.run.screen import Screen
from lab.page.follower import Follower
from lab.top.frame import Drawing, frame
from lab.top.view import View
from microgpt.support.cli import UserError

TICK = 0.25  # seconds between two drawings
LEAST_COLUMNS = 20
FRAME = 100, 30  # columns and rows of a frame for a pipe, if the environment tells no others


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run_dir", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Print what is to be seen now, and end.")
def main(run_dir: Path, once: bool) -> None:
    """Show the run in RUN_DIR: how far it is, its workers, and what they did in the last seconds.

    It is shown until q or Ctrl-C; without a terminal once. The strips need a run that was trained
    with --events full.
    """
    if not run_dir.is_dir():
        raise UserError(f"there is no folder {run_dir}: which run is to be shown?")
    seen = Seen(run_dir)
    terminal = Console()
    if once or not terminal.is_terminal or terminal.is_dumb_terminal:
        colour = terminal.color_system if terminal.is_terminal else None
        columns = shutil.get_terminal_size(FRAME).columns
        drawing = Drawing(max(columns, LEAST_COLUMNS), FRAME[1], colour, blocks())
        print("\n".join(frame(seen.look(), time.time(), drawing)))
        return
    watch(seen, terminal)


class Seen:
    """The view of a run directory, as it is now."""

    def __init__(self, run_dir: Path) -> None:
        self._follower, self._view = Follower(run_dir), View()
        self._begun = False

    def look(self) -> View:
        """Read what is new."""
        now = time.time()
        anew = self._follower.poll(now)
        news = self._follower.board.news(now)
        if anew or not self._begun:
            self._begun = True
            self._view.take("snapshot", self._follower.board.snapshot(now))
        else:
            for name, data in news:
                self._view.take(name, data)
        self._view.run = self._follower.board.run
        self._view.problem = self._follower.board.standing.problem
        self._view.rounds_recorded = self._follower.board.rounds_recorded
        return self._view


def watch(seen: Seen, terminal: Console) -> None:
    """Draw until the user has seen enough."""
    screen = Screen()
    with keys() as descriptor:
        try:
            while True:
                columns, rows = screen.size()
                drawing = Drawing(
                    max(columns, LEAST_COLUMNS), rows - 1, terminal.color_system, blocks()
                )
                screen.draw(frame(seen.look(), time.time(), drawing))
                if quits(descriptor, TICK):
                    break
        except KeyboardInterrupt:
            pass
        finally:
            screen.close()


@contextlib.contextmanager
def keys() -> Iterator[int | None]:
    """The descriptor at which single keys can be read; None if nobody types there."""
    if sys.stdin is None or not sys.stdin.isatty():
        yield None
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield descriptor
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def quits(descriptor: int | None, seconds: float) -> bool:
    """Wait so long for a key; whether it was that for the end, or there are no keys any more."""
    if descriptor is None:
        time.sleep(seconds)
        return False
    ready, _, _ = select.select([descriptor], [], [], seconds)
    if not ready:
        return False
    return os.read(descriptor, 1) in (b"", b"q", b"\x03")  # what is typed after it is the shell's


def blocks() -> bool:
    """Whether the output has letters that are blocks."""
    try:
        "▁█·".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
