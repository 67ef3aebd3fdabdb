"""The addresses of coordinators: which texts are one, and which of them may be bound to.

ZeroMQ itself takes port 99999 for 34463, and waits for ever at addresses of its other transports.
"""

from __future__ import annotations

import os

MAX_PORT = 65_535
MAX_IPC_PATH = 107  # bytes: the system's limit for the path of a socket
FORMS = "use tcp://HOST:PORT or ipc://PATH"


def ipc_path(address: str) -> str | None:
    """The file of an ``ipc`` address; None for others, and for a name without a file (``@...``)."""
    path = address.removeprefix("ipc://")
    return None if path in ("", address) or path.startswith("@") else path


def check_address(address: str, *, binding: bool = False) -> None:
    """Raise ValueError, with a sentence for people, unless this is an address.

    ``binding``: the address is one to listen at, so that the port may be 0 or ``*``, which mean a
    free one.
    """
    if address.startswith("ipc://"):
        _check_path(address, address.removeprefix("ipc://"))
    elif address.startswith("tcp://"):
        _check_port(address, binding)
    else:
        raise ValueError(f"{address} is no address: {FORMS}")


def _check_path(address: str, path: str) -> None:
    if not path or path == "*" or "\0" in path:
        raise ValueError(f"{address} is no address: {FORMS}")
    size = len(os.fsencode(path))
    if size > MAX_IPC_PATH:
        raise ValueError(
            f"{address}: the path has {size} bytes, and that of a socket has at most "
            f"{MAX_IPC_PATH}: use a shorter one"
        )


def _check_port(address: str, binding: bool) -> None:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    if not host.strip("[] "):
        raise ValueError(f"{address} is no address: {FORMS}")
    if binding and port == "*":
        return
    least = 0 if binding else 1
    digits = port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))
    if not digits or not least <= int(port) <= MAX_PORT:
        raise ValueError(
            f"{address} is no address: {port or 'nothing'} is no port, which is a number from "
            f"{least} to {MAX_PORT}"
        )
