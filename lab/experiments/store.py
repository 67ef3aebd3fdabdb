"""The folder of an experiment's results: a directory for each run, named by its settings' digest.

Whatever is finished is kept, and found again by whoever asks for the same settings; what was broken
off is done again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from pathlib import Path
from types import TracebackType

from lab.experiments.expansion import Trial
from lab.experiments.measurement import DONE, Measurement, from_json
from lab.experiments.one_trial import RESULT, TRIAL
from microgpt.checkpoint.container import CheckpointError
from microgpt.support.atomic import write_atomically
from microgpt.support.cli import UserError

TRIALS = "trials"


class Store:
    """``path`` belongs to one program at a time, from ``with`` to its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = -1

    def __enter__(self) -> Store:
        path = self.path
        try:
            if path.is_dir() and not (path / TRIALS).is_dir() and any(path.iterdir()):
                raise UserError(f"{path} is not a folder of results: name another one by --output")
            (path / TRIALS).mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._close()
            raise UserError(f"{path} is in use: the same experiment is being run") from error
        except OSError as error:
            self._close()
            raise UserError(f"{path} cannot be used: {error.strerror}") from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def place(self, trial: Trial) -> Path:
        """The directory of a run."""
        return self.path / TRIALS / trial.digest

    def found(self, trial: Trial) -> Measurement | None:
        """What a run has shown that is over, None if there is no whole result."""
        try:
            return from_json((self.place(trial) / RESULT).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def finished(self, trial: Trial) -> Measurement | None:
        """The result of a run that has come to its end; one that has failed is done again."""
        found = self.found(trial)
        return found if found is not None and found.outcome == DONE else None

    def begin(self, trial: Trial, folder: Path) -> Path:
        """An empty directory for a run, with its settings. Raises UserError."""
        place = self.place(trial)
        try:
            if place.exists():
                shutil.rmtree(place)
            place.mkdir()
        except OSError as error:
            raise UserError(f"{place} cannot be made: {error.strerror}") from error
        whole = {**trial.to_dict(), "labels": dict(trial.case.labels), "folder": str(folder)}
        self._write(place / TRIAL, json.dumps(whole, indent=1))
        return place

    def keep(self, trial: Trial, measurement: Measurement) -> None:
        """Write down what a run has shown. Raises UserError."""
        self._write(self.place(trial) / RESULT, measurement.to_json())

    def write(self, name: str, content: str) -> Path:
        """Write a file of the experiment; a folder in its name is made. Raises UserError."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        self._write(path, content)
        return path

    def _write(self, path: Path, content: str) -> None:
        try:
            write_atomically(path, content.encode(errors="backslashreplace"))
        except CheckpointError as error:
            raise UserError(str(error)) from error
