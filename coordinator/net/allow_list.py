"""Whose keys are let in, as a folder says at the moment, and whose were and are no more.

Loads asyncio, as ``zmq.auth`` does: to be imported where a run has keys.
"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
import time
from pathlib import Path
from typing import TypeAlias

import zmq
import zmq.auth

from microgpt.protocol.keys import PUBLIC

WATCH_SECONDS = 0.4  # from one look at the folder to the next
PAUSE_SHARE = 4  # times a look's length without one
SHORT_SECONDS = 0.01  # a look that is no longer needs no pause
SETTLED_SECONDS = 1.0  # after a change: before, another may have left the same times
MOST_BYTES = 16 << 10  # of a file with a key, which usually has less than 1 KiB

#: What changes with a file's content, or with the file that a link leads to.
Signature: TypeAlias = tuple[int, ...]


class AllowList:
    """The public keys (Z85 text) in the files ``*.key`` of a folder.

    Read again for every connection, and by a thread (``watch``) twice a second, but for files that
    have not changed since. What is no key, such as a file that is being copied, lets nobody in. A
    folder that cannot be read lets nobody in either, and revokes no key. May be used from any
    thread.

    ``revoked``: the keys that have been on the list and are not any more, whoever looks: a set that
    is replaced, never changed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.revoked: frozenset[bytes] = frozenset()
        self._keys: frozenset[bytes] = frozenset()
        self._ever: set[bytes] = set()  # keys that have been on the list
        self._missed: set[bytes] = set()  # those of them that the last look has not found
        self._known: dict[str, tuple[Signature, bytes | None]] = {}  # by the files' names
        self._read_at, self._took = float("-inf"), 0.0
        self._lock, self._closed = threading.Lock(), threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="keys", daemon=True)

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a worker with this public key (Z85 text or 32 bytes) may connect."""
        self._read(unless_costly=True)
        return (key if len(key) == 40 else zmq.utils.z85.encode(key)) in self._keys

    def look(self) -> None:
        """Revoke what two looks in a row have missed: a file may be written anew during one."""
        if not self._read():
            return
        with self._lock:
            absent = self._ever - self._keys
            if not self.revoked >= (gone := absent & self._missed):
                self.revoked |= gone
            self._missed = absent

    def watch(self) -> None:
        """Keep ``revoked`` up to date until ``close``, in a thread."""
        self._watcher.start()

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self._watcher.is_alive():
            self._watcher.join()

    def _watch(self) -> None:
        while not self._closed.wait(max(WATCH_SECONDS, PAUSE_SHARE * self._took)):
            self.look()

    def _read(self, *, unless_costly: bool = False) -> bool:
        """Look at the folder, or not where that has just taken long: whoever connects causes it.

        Returns whether the folder can be read.
        """
        with self._lock:
            began = time.monotonic()
            costly = self._took > SHORT_SECONDS
            if unless_costly and costly and began - self._read_at < PAUSE_SHARE * self._took:
                return True
            keys = self._scan()
            self._keys = frozenset() if keys is None else keys
            self._ever |= self._keys
            if not self.revoked.isdisjoint(self._keys):
                self.revoked -= self._keys
            self._read_at = time.monotonic()
            self._took = self._read_at - began
            return keys is not None

    def _scan(self) -> frozenset[bytes] | None:
        """The keys that are listed now; None if the folder cannot be read."""
        known, self._known = self._known, {}
        try:
            with os.scandir(self.directory) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(PUBLIC)]
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()
        except OSError:
            return None
        for name in names:
            with contextlib.suppress(OSError):  # it has gone, or a link leads nowhere
                self._known[name] = self._look(name, known.get(name))
        return frozenset(key for _, key in self._known.values() if key is not None)

    def _look(
        self, name: str, known: tuple[Signature, bytes | None] | None
    ) -> tuple[Signature, bytes | None]:
        """What a file holds, read only if it has changed. Raises OSError."""
        path = self.directory / name
        about = path.stat()
        times = about.st_mtime_ns, about.st_ctime_ns
        signature = about.st_dev, about.st_ino, about.st_size, *times
        settled = time.time() - max(about.st_mtime, about.st_ctime) > SETTLED_SECONDS
        if settled and known is not None and known[0] == signature:
            return known
        if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
            return signature, None  # to read a pipe could take for ever
        return signature, key_in(path)


def key_in(path: Path) -> bytes | None:
    """The public key (Z85 text) in a file; None if there is none. Raises OSError."""
    try:
        return zmq.auth.load_certificate(path)[0]
    except (ValueError, IndexError):
        return None
