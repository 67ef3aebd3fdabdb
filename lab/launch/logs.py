"""What workers have to say: a file for each in the run directory."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TextIO

from coordinator.run.directory_owner import OwnedRunDir
from microgpt.support import cli
from microgpt.support.cli import UserError

FOLLOW_SECONDS = 0.1  # between looks for new lines


class WorkerLogs:
    """Those of a run. Their folder is made anew if somebody has deleted it."""

    def __init__(self, directory: OwnedRunDir) -> None:
        self._directory, self._folder = directory, directory.path / "logs"

    def open(self, number: int) -> BinaryIO:
        """The worker's log, to be appended to; where there can be none, nothing is kept."""
        return self.open_named(f"worker-{number}")

    def open_named(self, name: str) -> BinaryIO:
        """The log of whoever is called ``name``."""
        path = self._folder / f"{name}.log"
        try:
            for made in (self._folder, path):
                self._directory.will_make(made)
            self._folder.mkdir(parents=True, exist_ok=True)
            return open(path, "ab")
        except OSError as error:
            text = f"warning: {name} has no log: {path}: {error.strerror}"
            cli.say(text, error=True)
            return open(os.devnull, "ab")

    def last_words(self, number: int) -> str:
        """The last line of the worker's log, or where it is."""
        return self.last_words_of(f"worker-{number}")

    def last_words_of(self, name: str) -> str:
        """The last line of the log of whoever is called ``name``."""
        path = self._folder / f"{name}.log"
        with contextlib.suppress(OSError):
            lines = path.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].removeprefix("error: ")
        return f"see {path}"


def lines_of(run_dir: Path, name: str, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The lines of one log of a run, without their ends; those to come as long as it ``goes_on``.

    Raises UserError if there is none of that name.
    """
    path = run_dir / "logs" / f"{name}.log"
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield from _lines(file, goes_on)
    except OSError as error:
        there = sorted(entry.stem for entry in path.parent.glob("*.log"))
        known = f"there are {', '.join(there)}" if there else "there are none"
        raise UserError(f"{path}: {error.strerror}; logs: {known}") from error


def _lines(file: TextIO, goes_on: Callable[[], bool]) -> Iterator[str]:
    rest, last = "", False
    while not last:
        last = not goes_on()
        *lines, rest = (rest + file.read()).split("\n")
        yield from lines
        if not last:
            time.sleep(FOLLOW_SECONDS)
    if rest:
        yield rest
