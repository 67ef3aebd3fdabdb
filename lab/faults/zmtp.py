"""Just enough of ZMTP 3 (ZeroMQ's wire format) to read along, and to speak it badly on purpose."""

from __future__ import annotations

import socket
from collections.abc import Iterator

GREETING_BYTES = 64
MORE, LONG, COMMAND = 1, 2, 4


def greeting(mechanism: bytes = b"NULL", minor: int = 0) -> bytes:
    """What either side sends first: signature, version 3 (1 has PING), mechanism, no server."""
    head = b"\xff" + bytes(8) + b"\x7f" + bytes([3, minor])
    return (head + mechanism.ljust(20, b"\0")).ljust(GREETING_BYTES, b"\0")


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame."""
    if len(body) > 255:
        return bytes([flags | LONG]) + len(body).to_bytes(8, "big") + body
    return bytes([flags, len(body)]) + body


def ready(identity: bytes = b"", kind: bytes = b"DEALER") -> bytes:
    """The command that ends a NULL handshake."""
    body = b"\x05READY"
    for name, value in ((b"Socket-Type", kind), (b"Identity", identity)):
        body += bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
    return frame(body, COMMAND)


def ping(context: bytes = b"", patience: int = 0) -> bytes:
    """The command of ZMTP 3.1 that wants a PONG; ``patience`` in tenths of a second."""
    return frame(b"\x04PING" + patience.to_bytes(2, "big") + context, COMMAND)


def shake_hands(peer: socket.socket, identity: bytes = b"", minor: int = 0) -> None:
    """The NULL handshake of a client; messages may follow it. Raises OSError if it fails."""
    peer.sendall(greeting(minor=minor) + ready(identity))
    read_exactly(peer, GREETING_BYTES)
    flags, size = read_exactly(peer, 2)
    if flags != COMMAND:
        raise ConnectionError("the other side does not greet back")
    read_exactly(peer, size)


def read_exactly(peer: socket.socket, count: int) -> bytes:
    """So many bytes. Raises ConnectionError if the other side hangs up before."""
    data = b""
    while len(data) < count:
        more = peer.recv(count - len(data))
        if not more:
            raise ConnectionError("the other side has hung up")
        data += more
    return data


class Reader:
    """Finds the messages in one direction of an unencrypted connection.

    ``greeted``: the greeting has been read already.
    """

    def __init__(self, *, greeted: bool = False) -> None:
        self._buffer = bytearray()
        self._greeted = greeted
        self._message = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete with this data; parts of one are joined."""
        self._buffer += data
        if not self._greeted:
            if len(self._buffer) < GREETING_BYTES:
                return
            del self._buffer[:GREETING_BYTES]
            self._greeted = True
        while len(self._buffer) >= 2:
            flags = self._buffer[0]
            head = 9 if flags & LONG else 2
            size = int.from_bytes(self._buffer[1:head], "big")
            if len(self._buffer) < head + size:
                return
            body = bytes(self._buffer[head : head + size])
            del self._buffer[: head + size]
            if flags & COMMAND:
                continue
            self._message += body
            if not flags & MORE:
                whole, self._message = self._message, b""
                yield whole
