"""Finds connections over which a message comes that does not end.

ZeroMQ delivers a message when its last part is there, and keeps the parts until then; none of its
limits is for all of them together. So what the system has received over a connection is compared
with what was when the last complete message came from there.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection, Iterator

#: Of Linux's ``struct tcp_info``: bytes received in all, 64 bits.
RECEIVED_AT, INFO_BYTES = 128, 136
LOOKED_AT = 64  # connections at a time


class Inflow:
    """``limit``: bytes that a connection may bring without a complete message."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._before: dict[int, int] = {}  # by descriptor: received before the message that comes
        self._complete: set[int] = set()  # since we last looked
        self._turn: Iterator[int] = iter(())

    def opened(self, descriptor: int) -> None:
        """A new connection has this descriptor."""
        self._before[descriptor] = 0

    def complete(self, descriptor: int) -> None:
        """A whole message has come over it."""
        self._complete.add(descriptor)

    def endless(self, connections: Collection[int]) -> list[int]:
        """Those of the open connections, some of which are looked at, that are over the limit."""
        found = []
        for _ in range(min(LOOKED_AT, len(connections))):
            descriptor = next(self._turn, None)
            if descriptor is None:
                self._turn = iter(sorted(connections))
                descriptor = next(self._turn)
            count = received(descriptor) if descriptor in connections else None
            if count is None:
                continue
            if descriptor in self._complete:
                self._complete.discard(descriptor)
                self._before[descriptor] = count
            elif count - self._before.get(descriptor, 0) > self._limit:
                found.append(descriptor)
        return found


def received(descriptor: int) -> int | None:
    """Bytes that have come over a TCP connection; None for what is none, or not any more."""
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    except OSError:
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
        (count,) = struct.unpack_from("=Q", info, RECEIVED_AT)
    except (OSError, struct.error):
        return None
    finally:
        connection.detach()  # it is libzmq's to close
    return int(count)
