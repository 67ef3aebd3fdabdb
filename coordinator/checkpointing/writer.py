"""The checkpoint service: encodes, writes and deletes in the background while training goes on.

At most one snapshot is being written and one is waiting; a newer one takes the place of a waiting
one, so a slow disk costs checkpoints and never memory or time. One that retention wants gives way
to another such one only.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from coordinator.checkpointing.cpu_budget import CpuBudget
from coordinator.checkpointing.given_up import forget
from coordinator.checkpointing.retention import Entry, Retention
from coordinator.core.actions import Save
from coordinator.core.events import CheckpointsVanished, DeletionFailed, DeletionRecovered, Event
from coordinator.core.inputs import Saved
from microgpt.checkpoint.format import Checkpoint, CheckpointError, encode, load
from microgpt.checkpoint.newest import CHECKPOINTS as CHECKPOINTS
from microgpt.checkpoint.newest import NEWEST as NEWEST
from microgpt.checkpoint.newest import Newest as Newest
from microgpt.checkpoint.newest import find_newest as find_newest
from microgpt.checkpoint.newest import step_path as step_path
from microgpt.checkpoint.newest import stored_steps as stored_steps
from microgpt.support.atomic import link_atomically, write_atomically
from microgpt.training import TrainingState

KEEP_ALL = Retention()
#: Of one processor, for the writer: some thirty checkpoints a second of a small model.
SHARE = 0.015
BURST_SECONDS = 0.05  # of processor time, for some that are due at once
LONGEST_REST = 1.0  # seconds; large models with more than one a second slow the training down
#: As ``step_path`` names them.


def write(run_dir: Path, checkpoint: Checkpoint, *, copies: bool = False) -> None:
    """Write the step's file and make ``checkpoint.msgpack`` the same. Raises CheckpointError.

    They are two names of one file, where the file system can do that: the bytes are written and
    synced once and not twice, which is most of what a checkpoint costs. But then damage to one is
    damage to both. ``copies`` makes two files, for a run that keeps no older checkpoint.

    First the step's file is on disk, then ``checkpoint.msgpack``: whenever the power fails, that is
    the one before or this one. A folder that somebody has deleted is made anew.
    """
    data, path, newest = encode(checkpoint), step_path(run_dir, checkpoint.step), run_dir / NEWEST
    with contextlib.suppress(OSError):  # writing says what is wrong
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data)
    if copies or not link_atomically(path, newest):
        write_atomically(newest, data)
    forget(run_dir, checkpoint.step)


def remove_leftovers(run_dir: Path) -> None:
    """Delete temporary files that a killed writer left behind.

    The caller holds the lock on ``run_dir``, so no living writer has one there.
    """
    for pattern in (f".{NEWEST}.*", f"{CHECKPOINTS}/.step-*.msgpack.*"):
        for path in run_dir.glob(pattern):
            with contextlib.suppress(OSError):  # in the way of nothing
                os.unlink(path)


class Pruner:
    """Deletes the checkpoints of a run that no rule keeps.

    ``hurry`` says whether the run is about to end, and looking through many old files must wait.
    """

    def __init__(self, run_dir: Path, retention: Retention, hurry: Callable[[], bool]) -> None:
        self._run_dir, self._retention, self._hurry = run_dir, retention, hurry
        self._known: dict[int, Entry | None] = {}  # by step; None: not to be touched

    def prune(self, written: Checkpoint) -> None:
        """Delete what is not needed any more, now that ``written`` is on disk.

        Raises CheckpointError: if ``written`` does not read back as it was, before anything is
        deleted; if files cannot be listed or deleted.
        """
        path = step_path(self._run_dir, written.step)
        self._known[written.step] = None
        if load(path) != written:
            raise CheckpointError(f"{path} does not hold what was written")
        self._known[written.step] = entry_of(written)
        if not self._look(written):
            return
        entries = [entry for entry in self._known.values() if entry is not None]
        doomed = self._retention.to_delete(entries, written.step)
        faults = [fault for step in doomed if (fault := self._delete(step))]
        if faults:
            raise CheckpointError(faults[0])

    def _look(self, written: Checkpoint) -> bool:
        """Learn which files there are. False if there was no time for all of them.

        Only the first time, after a start, files of the time before are read. Those of later steps
        than ``written`` are not: their turn comes if the run gets there.
        """
        try:
            there = {step for step in stored_steps(self._run_dir) if step <= written.step}
        except OSError as error:
            folder = self._run_dir / CHECKPOINTS
            raise CheckpointError(f"{folder} cannot be read: {error.strerror}") from error
        self._known = {step: entry for step, entry in self._known.items() if step in there}
        for step in sorted(there - self._known.keys()):
            if self._hurry():
                return False
            self._known[step] = self._examine(step, written.run)
        return True

    def _examine(self, step: int, run: str) -> Entry | None:
        """What counts for the rules; None for a file that does not, and is left alone.

        Such a file is of another run; or it is damaged. That one is no substitute for a good one,
        but it may be all that there is of its step, perhaps readable again with another disk
        controller or by hand, and it shows that something is wrong: people should decide.
        """
        try:
            found = load(step_path(self._run_dir, step))
        except CheckpointError:
            return None
        return entry_of(found) if (found.run, found.step) == (run, step) else None

    def _delete(self, step: int) -> str:
        path = step_path(self._run_dir, step)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            return f"{path} cannot be deleted: {error.strerror}"
        return ""


def entry_of(state: TrainingState | Checkpoint) -> Entry:
    """What the rules of retention look at. A validation loss counts if it is of this very state."""
    validation = state.validation
    measured = validation is not None and validation.step == state.step
    return Entry(state.step, validation.loss if validation and measured else None)


class CheckpointWriter:
    """A thread that writes what it is given into ``run_dir`` and deletes what is too old.

    It takes a small share of a processor only, however often it is given something: where all
    processors compute, its time is taken from the training. A thread is enough. Tried with a
    checkpoint at every step, a process of its own slowed a training down as much: it is the time
    that counts, not who holds the interpreter.

    ``to_checkpoint`` turns a state into a checkpoint; ``report`` is called from the thread, with a
    Saved for each write and with an event where deleting fails, once until it works again.
    """

    def __init__(
        self,
        run_dir: Path,
        to_checkpoint: Callable[[TrainingState], Checkpoint],
        report: Callable[[Saved | Event], None],
        retention: Retention = KEEP_ALL,
    ) -> None:
        self._run_dir, self._to_checkpoint, self._report = run_dir, to_checkpoint, report
        self._retention = retention
        self._picky = retention.keep_every is not None or retention.keep_best is not None
        self._pruner = Pruner(run_dir, retention, lambda: self._closed)
        self._writes, self._deletes = False, True  # whether that worked the last time
        self._changed = threading.Condition()
        self._waiting: Save | None = None
        self._wanted: Save | None = None  # an older one, which retention wants
        self._closed = False
        self._hurry = False
        self.idle, self.resting = True, False
        self._budget = CpuBudget(SHARE, BURST_SECONDS, LONGEST_REST)
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def wants(self, save: Save) -> bool:
        """Whether this one should be written although there is a newer one."""
        return self._picky and self._retention.wants(entry_of(save.state))

    def submit(self, save: Save) -> int | None:
        """Write this state as soon as nothing is being written, without a rest.

        So whoever has nothing that must be written keeps it until the writer is ``idle``. Returns
        the step of a waiting one that it replaces, if any.
        """
        with self._changed:
            self.idle = False
            replaced, self._waiting = self._waiting, save
            if replaced is not None and self.wants(replaced):
                replaced, self._wanted = self._wanted, replaced
            self._changed.notify()
            return None if replaced is None else replaced.state.step

    def hurry(self) -> None:
        """Rest no more: the run is over, and waits for its last checkpoint."""
        with self._changed:
            self._hurry = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Finish what is being written or waits, for at most ``timeout`` seconds."""
        self._closed = True
        self.hurry()
        self._thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._changed:
                self.idle = self._waiting is None
                self._changed.wait_for(lambda: self._waiting is not None or self._closed)
                save = self._wanted or self._waiting
                if save is self._wanted:
                    self._wanted = None
                else:
                    self._waiting = None
            if save is None:
                return
            began = time.thread_time()
            self._write(save.state)
            self._rest(self._budget.rest(time.monotonic(), time.thread_time() - began))

    def _rest(self, seconds: float) -> None:
        with self._changed:
            self.resting = not self._hurry
            self._changed.wait_for(lambda: self._hurry or self._waiting is not None, seconds)
            self.resting = False

    def _write(self, state: TrainingState) -> None:
        folder = self._run_dir / CHECKPOINTS
        vanished = self._writes and not folder.is_dir()
        self._writes = False
        try:
            checkpoint = self._to_checkpoint(state)
            write(self._run_dir, checkpoint, copies=not self._retention.keeps_two)
        except Exception as error:  # whatever it is: the end of the run waits for this
            self._report(Saved(state.step, str(error) or repr(error)))
            return
        self._writes = True
        self._report(Saved(state.step))
        if vanished:
            self._report(CheckpointsVanished(str(folder), state.step))
        if not self._retention.keeps_all:
            self._prune(checkpoint)

    def _prune(self, checkpoint: Checkpoint) -> None:
        try:
            self._pruner.prune(checkpoint)
        except Exception as error:  # whatever it is: this thread has to write the next one
            if self._deletes:
                self._report(DeletionFailed(checkpoint.step, str(error)))
            self._deletes = False
            return
        if not self._deletes:
            self._report(DeletionRecovered(checkpoint.step))
        self._deletes = True
