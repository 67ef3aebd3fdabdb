"""What a Ray launcher and its driver say to each other: one JSON object a line, over a socket.

The launcher's first line is the order; then ``{"scale": 4}``, ``{"restart": 1.5}`` (all of them, in
so many seconds) and ``{"leave": true}``. It hangs up when the workers are to end. The driver tells
how things are: ``workers`` (each a handle), ``output`` (of one worker), ``say`` (a line for
people), ``exhausted`` (an exit code), ``failed`` (why it cannot go on).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from lab.launch.launchers.base import WorkerKeys

REMOVED_SECONDS = 2.0


@dataclass(frozen=True)
class Order:
    """What a driver is to do.

    ``address``: of the cluster. ``owner``: how the names of all actors of this run begin, and
    ``epoch``: those of this driver's; see ``ray_launcher.py``. ``count`` workers get ``flags``,
    and for each ``cpus`` processors and ``resources`` are kept. ``folder``: for the files of a
    cluster of our own.
    """

    address: str
    owner: str
    epoch: str
    count: int
    flags: list[str]
    cpus: int
    folder: str
    resources: Mapping[str, float] = field(default_factory=dict)
    keys: WorkerKeys | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        plain = asdict(self)
        if self.keys is not None:
            plain["keys"] = {k: base64.b64encode(v).decode() for k, v in asdict(self.keys).items()}
        return plain

    @classmethod
    def read(cls, plain: dict[str, Any]) -> Order:
        """What ``plain`` has made."""
        keys = plain.pop("keys")
        read = {k: base64.b64decode(v) for k, v in keys.items()} if keys is not None else None
        return cls(**plain, keys=WorkerKeys(**read) if read is not None else None)


def remove_folder(folder: str) -> None:
    """Remove the files of a cluster of our own, whose last processes may still write some."""
    until = time.monotonic() + REMOVED_SECONDS
    while folder and os.path.exists(folder) and time.monotonic() < until:
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(REMOVED_SECONDS / 50)


class Wire:
    """One end. ``lines``: what has come, and None when the other end has hung up.

    Nothing is lost before ``listen`` is called.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._thread: threading.Thread | None = None
        self.lines: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()

    def listen(self, wake: Callable[[], None] = lambda: None) -> None:
        """What comes is put into ``lines``; ``wake`` is called after each."""
        self._thread = threading.Thread(target=self._read, args=(wake,), daemon=True)
        self._thread.start()

    def tell(self, **plain: Any) -> None:
        """Send one object; nobody being there any more is no error."""
        with contextlib.suppress(OSError):
            self._end.sendall(json.dumps(plain).encode() + b"\n")

    def hang_up(self) -> None:
        """Say that there is no more to say; what the other end says is still heard."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hear no more, either."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join()
        self._end.close()

    def _read(self, wake: Callable[[], None]) -> None:
        with contextlib.suppress(OSError, ValueError), self._end.makefile("rb") as lines:
            for line in lines:
                self.lines.put(json.loads(line))
                wake()
        self.lines.put(None)
        wake()
