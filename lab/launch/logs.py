"""What workers have to say: a file for each in the run directory."""

from __future__ import annotations

import contextlib
import os
from typing import BinaryIO

from coordinator.run.directory_owner import OwnedRunDir
from microgpt.support import cli


class WorkerLogs:
    """Those of a run. Their folder is made anew if somebody has deleted it."""

    def __init__(self, directory: OwnedRunDir) -> None:
        self._directory, self._folder = directory, directory.path / "logs"

    def open(self, number: int) -> BinaryIO:
        """The worker's log, to be appended to; where there can be none, nothing is kept."""
        path = self._folder / f"worker-{number}.log"
        try:
            for made in (self._folder, path):
                self._directory.will_make(made)
            self._folder.mkdir(parents=True, exist_ok=True)
            return open(path, "ab")
        except OSError as error:
            text = f"warning: worker-{number} has no log: {path}: {error.strerror}"
            cli.say(text, error=True)
            return open(os.devnull, "ab")

    def last_words(self, number: int) -> str:
        """The last line of the worker's log, or where it is."""
        path = self._folder / f"worker-{number}.log"
        with contextlib.suppress(OSError):
            lines = path.read_text(errors="replace").strip().splitlines()
            if lines:
                return lines[-1].removeprefix("error: ")
        return f"see {path}"
