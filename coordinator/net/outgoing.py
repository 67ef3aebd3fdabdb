"""What has been sent and not arrived: bounded for one peer and for all.

Weights go to every worker, so what counts is how many different large messages are kept, and for
whom. Whoever has not taken in the oldest of too many is cut off.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import zmq

from coordinator.net.connections import Connection
from microgpt.support import tcp

LARGE = 32 << 10  # bytes from which on a message is kept once for all who get it
KEPT = 8 << 20  # bytes of large messages that have not arrived, if a model's are not larger
KEPT_MESSAGES = 16


class Outgoing:
    """``largest``: bytes that a member is sent at once; ``count`` tells what has arrived."""

    def __init__(
        self,
        largest: int,
        count: Callable[[int], int | None] = tcp.acknowledged,
        *,
        encrypted: bool = False,
    ) -> None:
        self._count, self._encrypted = count, encrypted
        self._for_one = 3 * largest
        self._for_all = max(KEPT, KEPT_MESSAGES * largest)
        self._last: tuple[bytes, zmq.Frame] | None = None
        #: Large messages, the oldest first: their sizes, and up to where whom they were sent.
        self._kept: deque[tuple[int, dict[int, tuple[Connection, int]]]] = deque()
        self._total = 0  # of their sizes

    def frame(self, data: bytes) -> zmq.Frame | bytes:
        """What to give to the socket: the same frame for the same data."""
        if len(data) < LARGE:
            return data
        if self._last is None or self._last[0] is not data:
            self._last = (data, zmq.Frame(data, copy=True))
            self._kept.append((len(data), {}))
            self._total += len(data)
        return self._last[1]

    def sent(self, descriptor: int, connection: Connection, data: bytes) -> bool:
        """These data have been queued. Returns whether the peer takes in what it is sent."""
        connection.queued += tcp.frame_bytes((len(data),), encrypted=self._encrypted)
        if self._last is not None and self._last[0] is data:
            self._kept[-1][1][descriptor] = connection, connection.queued
        if connection.queued - connection.arrived <= self._for_one:
            return True
        return self.waiting(descriptor, connection) <= self._for_one

    def waiting(self, descriptor: int, connection: Connection) -> int:
        """Bytes that have not arrived."""
        count = self._count(descriptor)
        if count is None or count >= connection.queued:
            # Signs of life and the handshake are not among what we have queued.
            connection.queued = connection.arrived = count or connection.queued
        else:
            connection.arrived = count
        return connection.queued - connection.arrived

    def holders(self, open_now: dict[int, Connection]) -> list[int]:
        """Who has to be cut off, because too much is kept for them."""
        if self._total <= self._for_all:
            return []
        late: list[int] = []
        kept: deque[tuple[int, dict[int, tuple[Connection, int]]]] = deque()
        for size, sent in self._kept:
            for descriptor, (connection, end) in list(sent.items()):
                if open_now.get(descriptor) is not connection:
                    del sent[descriptor]
                elif connection.arrived < end:
                    self.waiting(descriptor, connection)
                if connection.arrived >= end:
                    sent.pop(descriptor, None)
            if sent or sent is self._kept[-1][1]:
                kept.append((size, sent))
        self._kept = kept
        total = self._total = sum(size for size, _ in kept)
        for size, sent in kept:
            if total <= self._for_all:
                break
            late.extend(sent)
            total -= size
        return late
