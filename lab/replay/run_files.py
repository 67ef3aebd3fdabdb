"""What a run directory says about a run: its settings, its losses and its checkpoints.

It may come from anywhere: what is not as it should be is one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.run.directory_owner import CONFIG
from lab.replay.record import ReplayError
from microgpt.checkpoint.format import Checkpoint, CheckpointError, load
from microgpt.checkpoint.newest import NEWEST, step_path, stored_steps
from microgpt.config import MAX_STEPS, TrainingConfig

METRICS = "metrics.jsonl"
MOST_BYTES = 1 << 24  # of config.json


@dataclass(frozen=True)
class Description:
    """What ``config.json`` says; ``data`` is the fingerprint of the documents."""

    run: str
    training: TrainingConfig
    data: Mapping[str, Any]
    libm: str


def read_description(path: Path) -> Description:
    """What was trained in the run directory ``path``. Raises ReplayError."""
    file = path / CONFIG
    try:
        with open(file, "rb") as opened:
            plain = json.loads(opened.read(MOST_BYTES))
    except OSError as error:
        raise ReplayError(f"{file} cannot be read: {error.strerror}: is it a run?") from error
    except (ValueError, RecursionError) as error:
        raise ReplayError(f"{file} is not JSON: {error}") from error
    try:
        run, data = plain["run"], plain["data"]
        if not isinstance(run, str) or not isinstance(data, dict):
            raise TypeError("the run or the data are of another type")
        platform = plain["platform"]
        libm = str(platform["libm_sha256"])
        return Description(run, TrainingConfig.from_dict(plain["training"]), data, libm)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ReplayError(f"{file} is not the record of a run: {what}") from error


@dataclass(frozen=True)
class Losses:
    """Of one step: of its batch, and of the held-out documents, if that was due."""

    batch: float
    validation: float | None


def read_losses(path: Path) -> dict[int, Losses]:
    """What ``metrics.jsonl`` says of each step. Raises ReplayError."""
    file, found = path / METRICS, dict[int, Losses]()
    try:
        with open(file, "rb") as opened:
            for number, line in enumerate(opened, 1):
                if line.endswith(b"\n"):
                    step, losses = _losses(line, f"{file}, line {number}")
                    found[step] = losses
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ReplayError(f"{file} cannot be read: {error.strerror}") from error
    return found


def _losses(line: bytes, where: str) -> tuple[int, Losses]:
    try:
        plain = json.loads(line)
        step, loss, validation = plain["step"], plain["loss"], plain.get("validation_loss")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ReplayError(f"{where}: it is no record of a step") from error
    if type(step) is not int or not 0 < step <= MAX_STEPS:
        raise ReplayError(f"{where}: {str(step)[:40]!r} is no step")
    for number in (loss, 0.0 if validation is None else validation):
        if type(number) is not float or not math.isfinite(number):
            raise ReplayError(f"{where}: {str(number)[:40]!r} is no loss")
    return step, Losses(loss, validation)


class Checkpoints:
    """Those of run ``run`` in the run directory ``path``. ``faults``: why some do not count."""

    def __init__(self, path: Path, run: str) -> None:
        self._path, self._run = path, run
        self.faults: list[str] = []
        self._newest = self._load(path / NEWEST)
        try:
            self._steps = set(stored_steps(path))
        except OSError:
            self._steps = set()
        if self._newest is not None:  # later ones are of a time before an older one was resumed
            self._steps = {step for step in self._steps if step <= self._newest.step}

    @property
    def last(self) -> int:
        """The step of the newest one, 0 if there are none."""
        return self._newest.step if self._newest is not None else max(self._steps, default=0)

    @property
    def steps(self) -> list[int]:
        """Of which steps there are files, good or not, in order."""
        newest = {self._newest.step} if self._newest is not None else set()
        return sorted(self._steps | newest)

    def of(self, step: int) -> Iterator[tuple[Path, Checkpoint]]:
        """The good ones of a step, with their files."""
        if self._newest is not None and self._newest.step == step:
            yield self._path / NEWEST, self._newest
        path = step_path(self._path, step)
        if step in self._steps and (loaded := self._load(path)) is not None:
            yield path, loaded

    def _load(self, path: Path) -> Checkpoint | None:
        try:
            loaded = load(path)
        except CheckpointError as error:
            if path.exists():
                self.faults.append(str(error))
            return None
        if loaded.run != self._run:
            self.faults.append(f"{path} is of another run")
            return None
        return loaded
