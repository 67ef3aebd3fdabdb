"""The private folder with the socket of a run on this machine, and what becomes of it.

The path of a socket may have 107 bytes, less than that of a file. A folder is locked by the
process that has made it; one that is left over from a process that was killed is removed by its
coordinator or by the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coordinator.net.ipc_socket import LOCK
from microgpt.support.cli import UserError

PREFIX = "microgpt-run-"
SOCKET = "coordinator"
LONGEST = 107  # bytes in the path of a socket, by the system and by libzmq
ELSEWHERE = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  # the folder made there is private
RANDOM = 8  # characters that tempfile puts behind a prefix


@contextmanager
def private_address() -> Iterator[str]:
    """An ``ipc://`` address that no other user reaches; gone at the end. Raises UserError."""
    parent = _parent()
    remove_abandoned(parent)
    folder, lock = _make(parent)
    try:
        yield f"ipc://{folder / SOCKET}"
    finally:
        _remove(folder)
        os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the private folders in ``parent`` whose owner was killed. Never raises."""
    with contextlib.suppress(OSError):
        for folder in parent.glob(f"{PREFIX}{'?' * RANDOM}"):
            _remove_if_abandoned(folder)


def private_parent(address: str) -> Path | None:
    """Where the private folder of an address lies; None if it is no private address."""
    path = Path(address.removeprefix("ipc://"))
    return path.parent.parent if path.parent.name.startswith(PREFIX) else None


def _parent() -> Path:
    """The folder for temporary files, or another if its path is too long for a socket."""
    usual = Path(tempfile.gettempdir()).absolute()
    for parent in (usual, *map(Path, ELSEWHERE)):
        path = parent / (PREFIX + "?" * RANDOM) / SOCKET
        if len(os.fsencode(path)) <= LONGEST and os.access(parent, os.W_OK | os.X_OK):
            return parent
    raise UserError(
        f"the path of a socket may have {LONGEST} bytes, too few for one in {usual}: "
        "set TMPDIR to a folder with a shorter path, or give --bind"
    )


def _make(parent: Path) -> tuple[Path, int]:
    while True:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
        except OSError as error:
            raise UserError(f"cannot write to {parent}: {error.strerror}") from error
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # another start has taken it for abandoned
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)  # waits for a start that is just removing it
        if folder.is_dir():
            return folder, lock
        os.close(lock)


def _remove_if_abandoned(folder: Path) -> None:
    with contextlib.suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if os.fstat(lock).st_uid == os.geteuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
        finally:
            os.close(lock)


def _remove(folder: Path) -> None:
    """Remove the socket, its lock and the folder, if there is nothing else in it."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK((folder / SOCKET).lstat().st_mode):
            (folder / SOCKET).unlink()
    with contextlib.suppress(OSError):
        lock = folder / (SOCKET + LOCK)
        if lock.lstat().st_size == 0:
            lock.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
