"""What Linux counts for a TCP connection that belongs to a library, and how to break it off.

ZeroMQ owns the descriptors. They are looked at and never closed here; one that is gone, or is no
TCP connection, has no counts.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import termios
from collections.abc import Iterable, Iterator
from typing import Any

#: Of Linux's ``struct tcp_info``: bytes that the other side has confirmed, and bytes received.
ACKED_AT, RECEIVED_AT, INFO_BYTES = 120, 128, 136
SO_DOMAIN = 39  # Linux's number; Python does not name it
#: Of Linux's ``SO_MEMINFO``, which Python does not name either: packets dropped.
SO_MEMINFO, DROPPED_AT, MEMINFO_BYTES = 55, 32, 36
CURVE_BYTES = 33  # that encryption adds to a frame
SHORT_FRAME = 255  # bytes; a longer one has nine bytes before it instead of two
DISCONNECT = bytes(16)  # a socket address of the family AF_UNSPEC

_LIBC = ctypes.CDLL(None, use_errno=True)


def frame_bytes(sizes: Iterable[int], *, encrypted: bool) -> int:
    """What frames of these sizes take on the wire."""
    total = 0
    for size in sizes:
        if encrypted:
            size += CURVE_BYTES
        total += size + (2 if size <= SHORT_FRAME else 9)
    return total


def taken_in(descriptor: int) -> int | None:
    """Bytes that have come over a connection and left the system's queue; None if not counted."""
    return _count(descriptor, RECEIVED_AT)


def acknowledged(descriptor: int) -> int | None:
    """Bytes that have arrived at the other side's system; None if not counted."""
    return _count(descriptor, ACKED_AT)


@contextlib.contextmanager
def borrowed(descriptor: int) -> Iterator[socket.socket]:
    """A socket that belongs to somebody else, for a moment: it is neither copied nor closed.

    A copy would keep open what has taken the descriptor's place, be it the end of a pipe whose
    reader waits for the end. Raises OSError if the descriptor is none.
    """
    if descriptor < 0:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _count(descriptor: int, place: int) -> int | None:
    try:
        with borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, INFO_BYTES)
            (count,) = struct.unpack_from("=Q", info, place)
            if place == RECEIVED_AT:
                waiting = fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4))
                count -= int.from_bytes(waiting, "little")
    except (OSError, struct.error):
        return None
    return int(count)


def dropped(descriptor: int) -> int:
    """Packets of a connection that the system has not taken in; 0 if they are not counted."""
    try:
        with borrowed(descriptor) as connection:
            info = connection.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, MEMINFO_BYTES)
        (count,) = struct.unpack_from("=I", info, DROPPED_AT)
    except (OSError, struct.error):
        return 0
    return int(count)


def address_of(descriptor: int) -> Any:
    """Who is at the other end; None if nobody is (any more)."""
    try:
        with borrowed(descriptor) as connection:
            return connection.getpeername()
    except OSError:
        return None


def abort(descriptor: int, address: Any) -> None:
    """Break off the connection with ``address``, whatever is still under way in it.

    To stop reading (SHUT_RD) is not enough: Linux goes on to deliver what a fast sender sends. A
    TCP connection that is disconnected has an empty queue, and its owner reads an error. Nothing
    is done if the descriptor is another connection's by now.
    """
    with (
        contextlib.suppress(OSError),  # it has gone by itself
        borrowed(descriptor) as connection,
    ):
        if connection.getpeername() != address:
            return
        domain = connection.getsockopt(socket.SOL_SOCKET, SO_DOMAIN)
        if domain in (socket.AF_INET, socket.AF_INET6):
            _LIBC.connect(descriptor, DISCONNECT, len(DISCONNECT))
        else:
            connection.shutdown(socket.SHUT_RDWR)
