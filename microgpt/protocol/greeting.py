"""How a coordinator wants to be spoken to: what it says of that before any handshake.

ZeroMQ does not tell why a handshake was broken off if the other side has hung up too soon.
"""

from __future__ import annotations

import contextlib
import socket
import time
from urllib.parse import urlsplit

#: What a peer of ZMTP 3 begins with: the signature, and the version. It is answered with all of the
#: other side's greeting, whose mechanism is a name that is filled up with zeros.
BEGINNING = b"\xff" + bytes(8) + b"\x7f\x03"
GREETING_BYTES, MECHANISM = 64, slice(12, 32)
ASK_SECONDS = 1.0
KEYLESS, ENCRYPTED = "NULL", "CURVE"


def mechanism_of(address: str, seconds: float = ASK_SECONDS) -> str:
    """``KEYLESS`` or ``ENCRYPTED``, as whoever listens at ``tcp://HOST:PORT`` says within a time.

    Empty if nobody does, or the address is of another kind.
    """
    where = urlsplit(address)
    if where.scheme != "tcp" or where.hostname is None or where.port is None:
        return ""
    deadline, heard = time.monotonic() + seconds, b""
    with (
        contextlib.suppress(OSError),
        socket.create_connection((where.hostname, where.port), seconds) as peer,
    ):
        peer.sendall(BEGINNING)
        while len(heard) < GREETING_BYTES and (left := deadline - time.monotonic()) > 0:
            peer.settimeout(left)
            part = peer.recv(GREETING_BYTES - len(heard))
            if not part:
                break
            heard += part
    name = heard[MECHANISM].rstrip(b"\0")
    return next((known for known in (KEYLESS, ENCRYPTED) if known.encode() == name), "")


def differs(address: str, *, encrypted: bool) -> bool:
    """Whether who listens there says that it wants the contrary of what we have."""
    return mechanism_of(address) == (KEYLESS if encrypted else ENCRYPTED)
