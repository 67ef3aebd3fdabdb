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

#: Linux's numbers; Python does not name them.
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
RETURN_NOTHING = struct.pack("=HBBI", 6, 0, 0, 0)  # a packet filter that drops every packet


class Door:
    """Of a listening socket; open to begin with. Where the system has no filters it stays open."""

    def __init__(self) -> None:
        self._listener = -1
        self._filter = ctypes.create_string_buffer(RETURN_NOTHING)
        self.is_shut = False

    def listens(self, descriptor: int) -> None:
        """This is the listening socket."""
        self._listener = descriptor

    def shut(self) -> None:
        """Let nobody in. Connections that are open do not notice."""
        program = struct.pack("@HP", 1, ctypes.addressof(self._filter))
        self._set(True, SO_ATTACH_FILTER, program)

    def open(self) -> None:
        """Let people in again."""
        self._set(False, SO_DETACH_FILTER, bytes(4))

    def _set(self, shut: bool, option: int, value: bytes) -> None:
        if self.is_shut == shut or self._listener < 0:
            return
        self.is_shut = shut
        with (
            contextlib.suppress(OSError),
            socket.socket(fileno=os.dup(self._listener)) as listener,
        ):
            listener.setsockopt(socket.SOL_SOCKET, option, value)
