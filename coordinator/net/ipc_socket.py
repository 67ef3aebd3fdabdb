"""Who owns the file of an ``ipc://`` address: one process, and nobody's file is replaced.

ZeroMQ deletes whatever is at the path before it binds, and leaves its socket there at the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import stat

from microgpt.protocol.addresses import ipc_path

#: What the lock's file has behind the path of the socket.
LOCK = ".lock"


class IpcClaim:
    """The right to bind to an address, from ``take`` to ``release``.

    While we have it, an empty file ``PATH.lock`` lies beside the socket. Addresses that are not
    files need none.
    """

    def __init__(self, address: str) -> None:
        self._path = ipc_path(address)
        self._lock = -1
        self._bound: tuple[int, int, int] | None = None

    def take(self) -> None:
        """Before binding.

        Raises OSError: EADDRINUSE if the path is another process's, EEXIST if a file is there.
        """
        if self._path is None:
            return
        try:
            self._lock = _locked(self._path + LOCK)
            _make_room(self._path)
        except OSError:
            self.release()
            raise

    def bound(self) -> None:
        """The socket is there now, and ours to delete."""
        if self._path is not None:
            self._bound = _identity(self._path)

    def release(self) -> None:
        """Delete the socket and the lock."""
        if self._path is None or self._lock < 0:
            return
        with contextlib.suppress(OSError):
            if self._bound is not None and _identity(self._path) == self._bound:
                os.unlink(self._path)
        with contextlib.suppress(OSError):
            if os.fstat(self._lock).st_size == 0:
                os.unlink(self._path + LOCK)
        os.close(self._lock)
        self._lock = -1


def _identity(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns  # numbers of files are used again


def _locked(path: str) -> int:
    """The descriptor of the locked file at ``path``, which is made if need be. Raises OSError."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE)) from None
        except OSError:
            return descriptor  # a file system without locks
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.lstat(path), os.fstat(descriptor)):
                return descriptor
        os.close(descriptor)  # whoever had it has just deleted it


def _make_room(path: str) -> None:
    """Delete the socket of a process that was killed. Raises OSError for anything else."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(status.st_mode):
        raise OSError(errno.EEXIST, "there is a file already, which is no socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        result = probe.connect_ex(path)
    if result == errno.ECONNREFUSED:  # nobody listens
        os.unlink(path)
    elif result != errno.ENOENT:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
