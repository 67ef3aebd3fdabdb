"""A virtual disk with the checkpoints of a run, and the thread that writes them.

Follows ``coordinator.checkpointing.writer``: one state is being written and one waits; a file is
the old one or the whole new one, also after a crash; ``checkpoint.msgpack`` counts, or the newest
good file if that is damaged. With a ``folder`` real files are written there, and the recovery rule
of production reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from coordinator.checkpointing.given_up import set_aside
from coordinator.checkpointing.writer import CHECKPOINTS, NEWEST, find_newest, step_path
from coordinator.core.actions import Save
from coordinator.core.inputs import Saved
from lab import conditions
from lab.simulation.arithmetic import ReferenceRun
from lab.simulation.clock import Clock
from microgpt.checkpoint.format import encode
from microgpt.training import TrainingState, from_checkpoint, to_checkpoint

WRITE_SECONDS = 0.02  # that a file takes on a good disk
FULL = "No space left on device"


class Disk:
    """``condition`` may be changed at any time."""

    def __init__(self, clock: Clock, reference_run: ReferenceRun, folder: Path | None) -> None:
        self.condition = conditions.Disk(seconds=WRITE_SECONDS)
        self.files: dict[str, TrainingState | None] = {}  # None: damaged
        self.on_write: Callable[[], None] = lambda: None  # a file is half written
        self._clock, self._reference_run, self._folder = clock, reference_run, folder
        if folder is not None:
            (folder / CHECKPOINTS).mkdir(parents=True)

    def put(self, name: str, state: TrainingState) -> None:
        """A file is there, durably and whole."""
        self.files[name] = state
        if self._folder is not None:
            self._path(self._folder, name).write_bytes(self._encode(state))

    def leave_half(self, name: str, state: TrainingState) -> None:
        """What a writer leaves that is killed: a temporary file with the beginning."""
        if self._folder is not None:
            path = self._path(self._folder, name)
            data = self._encode(state)
            path.with_name(f".{path.name}.x{len(self.files)}").write_bytes(data[: len(data) // 2])

    def damage(self, name: str) -> bool:
        """Make a file unreadable, if another good one of the same step is there."""
        state = self.files.get(name)
        twins = [n for n, s in self.files.items() if s is not None and s is state and n != name]
        if state is None or not twins:
            return False
        self.files[name] = None
        if self._folder is not None:
            path = self._path(self._folder, name)
            path.write_bytes(path.read_bytes()[:-7])
        return True

    def newest(self) -> TrainingState | None:
        """The state from which a coordinator goes on: ``find_newest``."""
        good = [state for state in self.files.values() if state is not None]
        highest = max(good, key=lambda state: state.step, default=None)
        state = self.files.get(NEWEST) or highest
        if self._folder is not None:
            found = find_newest(self._folder)
            if (found.checkpoint.step if found else None) != (state.step if state else None):
                raise AssertionError("the files on the disk are not those of the simulation")
            state = from_checkpoint(found.checkpoint) if found else None
        return state

    def go_on(self) -> TrainingState | None:
        """The newest state, from which a coordinator goes on now: ``set_aside`` the later ones."""
        state = self.newest()
        if state is not None:
            self.files = {name: s for name, s in self.files.items() if _belongs(name, s, state)}
            if self._folder is not None:
                set_aside(self._folder, state.step, state.next_document)
        return state

    def _path(self, folder: Path, name: str) -> Path:
        return folder / NEWEST if name == NEWEST else step_path(folder, int(name))

    def _encode(self, state: TrainingState) -> bytes:
        reference_run = self._reference_run
        tokenizer = reference_run.corpus.tokenizer
        return encode(to_checkpoint(reference_run.config, state, tokenizer, {"name": "x"}, "run"))


def _belongs(name: str, found: TrainingState | None, state: TrainingState) -> bool:
    """Whether a file is of the past of ``state``, or ``checkpoint.msgpack``, or damaged there."""
    if name == NEWEST or int(name) != state.step:
        return name == NEWEST or int(name) < state.step
    return found is None or found.next_document <= state.next_document


class Writer:
    """The checkpoint writer of one coordinator; see ``coordinator.checkpointing.writer``."""

    def __init__(self, clock: Clock, disk: Disk, done: Callable[[Saved], None]) -> None:
        self._clock, self._disk, self._done = clock, disk, done
        self._waiting: Save | None = None
        self._writing: tuple[str, TrainingState] | None = None
        self._alive = True

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self._writing is None

    def submit(self, save: Save) -> None:
        """Write this state soon, instead of one that waits."""
        self._waiting = save
        if self._writing is None:
            self._next()

    def kill(self) -> None:
        """The process is gone, maybe in the middle of a file."""
        if self._alive and self._writing is not None:
            self._disk.leave_half(*self._writing)
        self._alive = False

    def _next(self) -> None:
        save, self._waiting, self._writing = self._waiting, None, None
        if save is not None:
            self._begin(str(save.state.step), save.state)

    def _begin(self, name: str, state: TrainingState) -> None:
        self._writing = (name, state)
        self._clock.after(self._disk.condition.seconds / 2, self._half)
        self._clock.after(self._disk.condition.seconds, self._end)

    def _half(self) -> None:
        if self._alive:
            self._disk.on_write()

    def _end(self) -> None:
        if not self._alive or self._writing is None:
            return
        name, state = self._writing
        if self._disk.condition.full:
            self._next()
            self._done(Saved(state.step, FULL))
            return
        self._disk.put(name, state)
        if name != NEWEST:
            self._begin(NEWEST, state)
        else:
            self._next()
            self._done(Saved(state.step))
