"""A limit on what a server may send that we have not read, for sockets that take in everything.

Workers and whoever asks for checkpoints have one connection each, to a server that may be hostile.
A socket that stops taking in at a limit of its own (RCVHWM) can be made to end the process, so it
has none, and this is it.
"""

from __future__ import annotations

import math
import time

from microgpt.support import tcp

MAX_WAITING = 1000  # messages that wait at once: nobody has reason to send so many
LOOK_SECONDS = 0.005  # parts of a byte may fill 0.5 GB of memory in a second


class TooMuchError(Exception):
    """More has come than can be read."""


class ReceiveLimit:
    """``limit``: bytes that may have come and be no whole message yet, or wait to be read."""

    def __init__(self, limit: int, *, encrypted: bool) -> None:
        self._limit, self._encrypted = limit, encrypted
        self._descriptor: int | None = None
        self._read = self._seen = self._waiting = 0
        self._look_at = 0.0

    def connected(self, descriptor: int) -> None:
        """There is a new connection."""
        self._descriptor, self._read, self._seen, self._waiting = descriptor, 0, 0, 0
        self._look_at = 0.0

    def heard(self, size: int) -> None:
        """A part of a message, of so many bytes, has been read. Raises TooMuchError."""
        self._read += tcp.frame_bytes((size,), encrypted=self._encrypted)
        self._waiting += 1
        if self._waiting > MAX_WAITING:
            self._break_off()

    def drained(self) -> None:
        """There is nothing to read.

        If something was, what had come before the last look was no message but signs of life.
        """
        if self._waiting:
            self._read = max(self._read, self._seen)
        self._waiting = 0

    def look(self) -> None:
        """See how much has come. Raises TooMuchError. To be called often; it rests by itself."""
        now = time.monotonic()
        if self._descriptor is None or now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        count = tcp.taken_in(self._descriptor)
        if count is None:  # not by the system, for this kind of connection
            self._look_at = math.inf
            return
        self._seen, self._read = count, min(self._read, count)
        if count - self._read > self._limit:
            self._break_off()

    def _break_off(self) -> None:
        if self._descriptor is not None:
            tcp.abort(self._descriptor, tcp.address_of(self._descriptor))
        raise TooMuchError
