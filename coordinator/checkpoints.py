"""The checkpoint writer: encodes and writes in the background while training goes on.

At most one snapshot is being written and one is waiting; a newer one takes the place of a waiting
one, so a slow disk costs checkpoints and never memory or time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.events import Save, Saved
from microgpt.checkpoint import Checkpoint, CheckpointError, encode, load, write_atomically
from microgpt.training import TrainingState

CHECKPOINTS = "checkpoints"
NEWEST = "checkpoint.msgpack"


def step_path(run_dir: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return run_dir / CHECKPOINTS / f"step-{step:08d}.msgpack"


def write(run_dir: Path, checkpoint: Checkpoint) -> None:
    """Write the step's file and make ``checkpoint.msgpack`` the same. Raises CheckpointError."""
    data = encode(checkpoint)
    write_atomically(step_path(run_dir, checkpoint.step), data)
    write_atomically(run_dir / NEWEST, data)


@dataclass(frozen=True)
class Newest:
    """The newest good checkpoint of a run directory, and why others were passed over."""

    path: Path
    checkpoint: Checkpoint
    passed_over: tuple[str, ...]


def find_newest(run_dir: Path) -> Newest | None:
    """``checkpoint.msgpack``, or if that is damaged the good file with the highest step.

    Files with a higher step than ``checkpoint.msgpack`` do not count: they are those of a run that
    was resumed from an older file since, perhaps with another number of steps. None if there is no
    checkpoint at all; raises CheckpointError if there are files and none is good.
    """
    paths = sorted(run_dir.glob(f"{CHECKPOINTS}/step-*.msgpack"), reverse=True)
    faults: list[str] = []
    for path in [run_dir / NEWEST, *paths]:
        try:
            return Newest(path, load(path), tuple(faults))
        except CheckpointError as error:
            if path.exists():
                faults.append(str(error))
    if faults:
        raise CheckpointError(f"no good checkpoint in {run_dir}: " + "; ".join(faults))
    return None


class CheckpointWriter:
    """A thread that writes what it is given into ``run_dir`` and reports each by ``done``.

    ``to_checkpoint`` turns a state into a checkpoint; ``done`` is called from the thread.
    """

    def __init__(
        self,
        run_dir: Path,
        to_checkpoint: Callable[[TrainingState], Checkpoint],
        done: Callable[[Saved], None],
    ) -> None:
        self._run_dir, self._to_checkpoint, self._done = run_dir, to_checkpoint, done
        self._changed = threading.Condition()
        self._waiting: Save | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, save: Save) -> int | None:
        """Write this state soon. Returns the step of a waiting state that it replaces, if any."""
        with self._changed:
            replaced = self._waiting
            self._waiting = save
            self._changed.notify()
        return None if replaced is None else replaced.state.step

    def close(self, timeout: float) -> None:
        """Finish what is being written or waits, for at most ``timeout`` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._waiting is None and not self._closed:
                    self._changed.wait()
                save, self._waiting = self._waiting, None
            if save is None:
                return
            self._done(self._write(save))

    def _write(self, save: Save) -> Saved:
        try:
            write(self._run_dir, self._to_checkpoint(save.state))
        except (CheckpointError, OSError) as error:
            return Saved(save.state.step, str(error))
        return Saved(save.state.step)


def remove_leftovers(run_dir: Path) -> None:
    """Delete temporary files that a killed writer left behind."""
    for pattern in (f".{NEWEST}.*", f"{CHECKPOINTS}/.step-*.msgpack.*"):
        for path in run_dir.glob(pattern):
            with contextlib.suppress(OSError):  # in the way of nothing
                os.unlink(path)
