"""Run directories: which one a run writes to, and that only one run at a time does.

Whoever writes to a run directory owns it: it holds a lock on the folder, taken before anything in
it is made, changed or deleted. A supervisor takes the lock and hands it down to its coordinators.
What was there before is never deleted, and a start that fails takes back what it has made itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from datetime import datetime
from pathlib import Path
from types import TracebackType

from microgpt.checkpoint.newest import NEWEST, stored_steps
from microgpt.support.cli import UserError, say

CONFIG = "config.json"
#: What a run writes beside its checkpoints.
RECORDS = (CONFIG, "metrics.jsonl", "events.jsonl", "endpoint")
TRIES = 20  # to lock a directory that others remove meanwhile
#: Whoever shows runs looks now and then whether a directory is locked, which locks it for a moment.
LOOKS, LOOK_SECONDS = 5, 0.01


class RunDirectoryError(Exception):
    """The run directory cannot be used; the message is one plain sentence."""


class OwnedRunDir:
    """A run directory that is ours until it is closed. ``descriptor`` holds the lock.

    Use it in a ``with`` statement: at its end what was made is removed, unless ``keep`` was called.
    """

    def __init__(self, path: Path, descriptor: int, made: list[Path]) -> None:
        self.path, self.descriptor = path, descriptor
        self._made = made
        self._begun = False

    @classmethod
    def take(cls, path: Path, lock: int | None = None) -> OwnedRunDir:
        """Make the directory if it is missing, and lock it. Raises RunDirError.

        ``lock`` is a descriptor that another process has locked it with for us, if one has.
        """
        if lock is not None and _is(lock, path) and _lock(lock):
            return cls(path, lock, [])
        try:
            for _ in range(TRIES):
                made = _make(path)
                descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                if not _lock(descriptor):
                    os.close(descriptor)
                    raise RunDirectoryError(f"another coordinator is writing to {path}")
                if _is(descriptor, path):
                    return cls(path, descriptor, made)
                os.close(descriptor)  # somebody has removed it meanwhile
        except OSError as error:
            raise cannot_write(path, error) from error
        raise RunDirectoryError(f"cannot write to {path}: others keep removing it")

    @classmethod
    def new(cls) -> OwnedRunDir:
        """Make and lock a directory ``runs/<timestamp>``. Raises RunDirError."""
        missing = not os.path.lexists("runs")
        path = new_run_dir()
        taken = cls.take(path)
        taken._made = [*([path.parent] if missing else []), path]
        return taken

    def will_make(self, path: Path) -> None:
        """To be called before a file or folder is made here that may exist already."""
        if not self._begun and not os.path.lexists(path):
            self._made.append(path)

    def keep(self) -> None:
        """The run has begun: what was made stays."""
        self._begun = True
        self._made.clear()

    def __enter__(self) -> OwnedRunDir:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for path in reversed(self._made):
            with contextlib.suppress(OSError):  # a folder that is not empty stays
                path.rmdir() if path.is_dir() else path.unlink()
        os.close(self.descriptor)


def _lock(descriptor: int) -> bool:
    for _ in range(LOOKS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOOK_SECONDS)
        except OSError:
            return True  # a file system without locks
        else:
            return True
    return False


def _is(descriptor: int, path: Path) -> bool:
    """Whether a descriptor is of what now lies at the path."""
    with contextlib.suppress(OSError, OverflowError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    return False


def _make(path: Path) -> list[Path]:
    """Make a directory with those above it. Returns those that were missing, the outermost first.

    Raises OSError; nothing is left behind then.
    """
    missing = [folder for folder in (path, *path.parents) if not _exists(folder)]
    made: list[Path] = []
    try:
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # opening it will tell if it is no folder
                folder.mkdir()
                made.append(folder)
    except OSError:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return made


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def cannot_write(path: Path, error: OSError) -> RunDirectoryError:
    """The error in words."""
    return RunDirectoryError(f"cannot write to {path}: {error.strerror}")


def find_run_dir(run_dir: Path | None, resume: str | None) -> Path | None:
    """The directory that ``--run-dir`` and ``--resume`` name; None if it is to be a new one.

    A link such as ``runs/latest`` means what it points to. Raises UserError if there is nothing to
    resume from.
    """
    if run_dir is None and resume not in (None, "auto"):
        if not os.path.exists(resume):
            raise UserError(f"--resume {resume}: there is no such file or directory")
        named = Path(os.path.realpath(resume))
        folder = named if named.is_dir() else named.parent
        return folder.parent if folder.name == "checkpoints" else folder
    if run_dir is not None and os.path.islink(run_dir):
        return Path(os.path.realpath(run_dir))
    return run_dir


def check_free(path: Path, run: str | None) -> None:
    """Raise RunDirError if the directory holds something that a run would overwrite or mix with.

    ``run`` is the id of a run that goes on from elsewhere, None for a new one.
    """
    if holds_checkpoints(path):
        raise RunDirectoryError(f"{path} holds a run already: --resume {path} goes on with it")
    there = [name for name in RECORDS if os.path.lexists(path / name)]
    owner = recorded_run(path)
    if there and owner is None:
        raise RunDirectoryError(f"{path / there[0]} is of no run: choose another --run-dir")
    if run is not None and owner not in (None, run):
        raise RunDirectoryError(f"{path} holds the record of another run: choose another --run-dir")


def holds_checkpoints(path: Path) -> bool:
    """Whether a run has saved something there."""
    if os.path.lexists(path / NEWEST):
        return True
    try:
        return bool(stored_steps(path))
    except OSError:
        return False


def last_save(path: Path) -> object:
    """Something that changes when a run saves its first checkpoint in the directory."""
    try:
        entry = (path / NEWEST).stat()
    except OSError:
        return holds_checkpoints(path)
    return entry.st_dev, entry.st_ino, entry.st_mtime_ns


def recorded_run(path: Path) -> str | None:
    """The id of the run whose ``config.json`` lies in a directory; None if none does."""
    try:
        config = json.loads((path / CONFIG).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    run = config.get("run") if isinstance(config, dict) and "training" in config else None
    return run if isinstance(run, str) else None


def new_run_dir() -> Path:
    """A new directory ``runs/<timestamp>``, with a number behind it if that exists.

    It is made at once, so that of two runs begun in one second each has its own. Raises
    RunDirError.
    """
    base = Path("runs") / datetime.now().strftime("%Y%m%d-%H%M%S")
    path, number = base, 2
    while True:
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError as error:
            if not path.parent.is_dir():  # a file has this name
                raise cannot_write(path, error) from error
            path, number = base.with_name(f"{base.name}-{number}"), number + 1
        except OSError as error:
            raise cannot_write(path, error) from error


def link_latest(run_dir: Path) -> None:
    """Make ``latest`` beside a run directory in a folder ``runs`` point to it.

    Anything else of that name stays as it is, and a file system without links goes without.
    """
    latest = run_dir.absolute().with_name("latest")
    if latest.parent.name != "runs" or latest == run_dir.absolute():
        return
    if os.path.lexists(latest) and not latest.is_symlink():
        say(f"{latest} is no link, and is left as it is")
        return
    temporary = latest.with_name(f".latest.{os.urandom(4).hex()}")
    try:
        temporary.symlink_to(run_dir.name)
        os.replace(temporary, latest)
    except OSError as error:
        say(f"{latest} cannot point to this run: {error.strerror}")
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
