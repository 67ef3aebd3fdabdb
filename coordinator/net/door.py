"""The door for new connections: while it is shut, the system answers nobody who knocks.

Whoever knocks tries again by itself, an honest worker after a second. ZeroMQ cannot do this: it
accepts whatever comes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import struct
import time
from collections.abc import Callable

#: Linux's numbers; Python does not name them.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
RETURN_NOTHING = struct.pack("=HBBI", 6, 0, 0, 0)  # a packet filter that drops every packet


SHUT_SECONDS = 0.05  # at a time: who knocks in vain comes again after 1, 3 and 7 s
OPEN_SECONDS = 0.05  # between two of those
KNOCKS = 500  # new connections in a second, and at once after one of rest


class Door:
    """Of a listening socket; open to begin with. Where the system has no filters it stays open."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener = -1
        self._filter = ctypes.create_string_buffer(RETURN_NOTHING)
        self.is_shut = False
        self._changed = -OPEN_SECONDS  # when it was last shut or opened
        self._for_good = False
        self._knocks, self._knocked = 0.0, 0.0  # of late, and when that was counted

    def listens(self, descriptor: int) -> None:
        """This is the listening socket."""
        self._listener = descriptor

    def knocked(self) -> None:
        """Somebody has come in. When many have, the next ones have to wait."""
        now = self._clock()
        self._knocks = max(0.0, self._knocks - KNOCKS * (now - self._knocked)) + 1
        self._knocked = now
        if self._knocks > KNOCKS:
            self._set(True)

    def shut(self, *, for_good: bool = False) -> None:
        """Let nobody in for a moment, unless that has just been so; open ones do not notice."""
        self._for_good = self._for_good or for_good
        if for_good or self._clock() - self._changed >= OPEN_SECONDS:
            self._set(True)

    def tend(self, *, full: bool = False) -> None:
        """Open it when the moment is over, unless there is no room. To be called often."""
        over = self._clock() - self._changed >= SHUT_SECONDS
        if self.is_shut and over and not full and not self._for_good:
            self._set(False)

    def _set(self, shut: bool) -> None:
        if self.is_shut == shut or self._listener < 0:
            return
        self.is_shut, self._changed = shut, self._clock()
        option = SO_ATTACH_FILTER if shut else SO_DETACH_FILTER
        program = struct.pack("@HP", 1, ctypes.addressof(self._filter))
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self._listener)) as listener,
        ):
            listener.setsockopt(socket.SOL_SOCKET, option, program)
