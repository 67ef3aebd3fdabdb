"""What is asked about checkpoints, answered from the files of a run directory.

Reads only, a bounded number of bytes and for a bounded time per question. No sockets, no threads.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import msgpack

from coordinator.checkpointing.writer import step_path, stored_steps
from microgpt.checkpoint.container import (
    BEGINNING,
    MAX_BYTES,
    CheckpointError,
    Problem,
    check_beginning,
    open_container,
    unpack,
)
from microgpt.checkpoint.format import MAX_ENTRIES
from microgpt.protocol.messages import (
    MAX_LISTED,
    MAX_PART,
    NOT_LOOKED_INTO,
    CheckpointList,
    CheckpointPart,
    FetchCheckpoint,
    ListCheckpoints,
    NoCheckpoint,
    Question,
    Reply,
    Stored,
)
from microgpt.protocol.schema import is_stored

#: What is raised where a body is not made as expected.
_WRONG = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)

LOOK_SECONDS = 0.1  # per question, for files that have not been looked into yet

#: Changes with the file: inode, time of change in nanoseconds, size.
Stamp: TypeAlias = tuple[int, int, int]


class CheckpointIndex:
    """Answers for one run; see ``reply``.

    ``newest`` is the step of the newest checkpoint that this epoch of the coordinator has written,
    None before the first. Files of later steps are of an attempt that was given up.
    """

    def __init__(self, run_dir: Path, run: str, epoch: str) -> None:
        self.newest: int | None = None
        self._run_dir, self._run, self._epoch = run_dir, run, epoch
        self._seen: dict[int, tuple[Stamp, Stored]] = {}

    def reply(self, question: Question) -> Reply:
        """What there is, or why there is nothing."""
        newest = self.newest
        try:
            if newest is None:
                return self._nothing(question, "there is no checkpoint yet", again=True)
            if isinstance(question, ListCheckpoints):
                return self._list(question, newest)
            return self._part(question, newest)
        except (OSError, MemoryError) as error:
            reason = getattr(error, "strerror", None) or "out of memory"
            return self._nothing(question, f"the checkpoints cannot be read: {reason}")

    def _nothing(self, question: Question, reason: str, again: bool = False) -> NoCheckpoint:
        return NoCheckpoint(self._run, self._epoch, question.number, reason, again)

    # --- parts of a file -------------------------------------------------------------------------

    def _part(self, question: FetchCheckpoint, newest: int) -> Reply:
        step = newest if question.wanted is None else question.wanted
        if question.wanted is None and step == question.known:
            return self._nothing(question, f"step {step} is the newest still", again=True)
        # Deleted or written anew since it was chosen, or since the part before.
        moved = question.wanted is None or question.offset > 0
        try:
            if step > newest:
                raise FileNotFoundError
            with _opened(step_path(self._run_dir, step)) as (file, status):
                size = min(MAX_PART, status.st_size - question.offset)
                data = os.pread(file.fileno(), size, question.offset) if size > 0 else b""
        except FileNotFoundError:
            return self._nothing(question, f"there is no checkpoint of step {step}", again=moved)
        if size <= 0 or len(data) != size:
            reason = f"the checkpoint of step {step} has no byte {question.offset}"
            return self._nothing(question, reason, again=moved)
        return CheckpointPart(
            self._run, self._epoch, question.number, step, status.st_size, question.offset, data
        )

    # --- the list --------------------------------------------------------------------------------

    def _list(self, question: ListCheckpoints, newest: int) -> CheckpointList:
        steps = sorted(step for step in stored_steps(self._run_dir) if step <= newest)
        listed = steps[-MAX_LISTED:]
        until = time.monotonic() + LOOK_SECONDS
        seen, entries = {}, []
        for step in reversed(listed):  # if there is no time for all: the newest first
            path = step_path(self._run_dir, step)
            try:
                status = path.stat()
            except FileNotFoundError:
                continue  # just deleted
            stamp = status.st_ino, status.st_mtime_ns, status.st_size
            known, entry = self._seen.get(step, (None, None))
            if entry is None or known != stamp:
                if time.monotonic() > until:
                    entries.append(_without_losses(step, status.st_size, NOT_LOOKED_INTO))
                    continue
                entry = look_into(path, step, status.st_size)
            seen[step] = stamp, entry
            entries.append(entry)
        self._seen = seen
        entries.reverse()
        omitted = len(steps) - len(listed)
        return CheckpointList(self._run, self._epoch, question.number, tuple(entries), omitted)


def look_into(path: Path, step: int, size: int) -> Stored:
    """What a file says of itself, its digest checked; numbers are not, other than in ``load``.

    Costs a tenth of loading it: it is done beside a training.
    """
    try:
        with _opened(path) as (file, status):
            if status.st_size > MAX_BYTES:
                raise CheckpointError("too large", Problem.FOREIGN)
            data = file.read(1 + len(BEGINNING))
            check_beginning(data, path.name)
            _, body = open_container(data + file.read(MAX_BYTES), path.name)
        return _describe(unpack(body, MAX_ENTRIES), step, size)
    except CheckpointError as error:
        problem = str(error.problem)
    except OSError:
        problem = str(Problem.UNREADABLE)
    except (*_WRONG, msgpack.OutOfData):
        problem = str(Problem.DAMAGED)
    return _without_losses(step, size, problem)


def _describe(body: Any, step: int, size: int) -> Stored:
    if body["step"] != step:
        return _without_losses(step, size, "of another step")
    losses, validation = body["losses"], body.get("validation")  # format 1 has no validation
    at, held_out = (None, None) if validation is None else (validation["step"], validation["loss"])
    stored = Stored(step, size, losses[-1] if losses else None, at, held_out, "")
    if not is_stored(stored):
        raise ValueError("a step or a loss that is none")
    return stored


def _without_losses(step: int, size: int, problem: str) -> Stored:
    return Stored(step, size, None, None, None, problem)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """A file and its status. A pipe, which may never have a writer, is no file: OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, f"{path.name} is not a file")
        yield file, status
