"""The shell of a checkpoint file: what it is, its version, the digest of its body.

A file is the map ``{"format", "version", "sha256", "body"}`` in this order, so that its first bytes
tell what it is. Nothing here trusts a file: what comes out is as large as the file and no larger.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgpack

from microgpt.parameters import sha256

FORMAT = "microgpt-checkpoint"
VERSION = 5
MAX_BYTES = 1 << 30
#: What stands after the header of the map, one byte.
BEGINNING: bytes = msgpack.packb("format") + msgpack.packb(FORMAT)
#: No list of a checkpoint is longer; msgpack makes room for a list before it has seen its entries.
MAX_LIST = 10_000


class Problem(StrEnum):
    """What is wrong with a checkpoint."""

    MISSING = "missing"
    UNREADABLE = "unreadable"
    FOREIGN = "not a checkpoint"
    TRUNCATED = "truncated"
    DAMAGED = "damaged"
    NEWER = "newer format"
    OTHER_MODEL = "other model"


class CheckpointError(Exception):
    """A checkpoint cannot be read or written; the message is one plain sentence with the path."""

    def __init__(self, message: str, problem: Problem = Problem.UNREADABLE) -> None:
        super().__init__(message)
        self.problem = problem


def seal(body: bytes) -> bytes:
    """The bytes of a file with this packed body."""
    outer = {"format": FORMAT, "version": VERSION, "sha256": sha256(body), "body": body}
    packed: bytes = msgpack.packb(outer)
    return packed


def open_container(data: bytes, where: str) -> tuple[int, bytes]:
    """A file's version and its body, digest checked. ``where`` is named in errors.

    Raises CheckpointError.
    """

    def damaged(reason: object) -> CheckpointError:
        return CheckpointError(f"{where} is damaged: {reason}", Problem.DAMAGED)

    check_beginning(data, where)
    try:
        outer = unpack(data, 1000)
    except msgpack.OutOfData as error:
        raise CheckpointError(
            f"{where} is truncated: it ends after {len(data)} bytes", Problem.TRUNCATED
        ) from error
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        raise damaged(error) from error
    version, body = outer.get("version"), outer.get("body")
    if type(version) is not int or version < 1:
        raise damaged("it has no format version")
    if version > VERSION:
        raise CheckpointError(
            f"{where} has format {version}; this program reads up to {VERSION}: update the program",
            Problem.NEWER,
        )
    if not isinstance(body, bytes) or sha256(body) != outer.get("sha256"):
        raise damaged("its digest does not match its contents")
    return version, body


def check_beginning(data: bytes, where: str) -> None:
    """Raise CheckpointError unless a file with this beginning may be a checkpoint."""
    if not data:
        raise CheckpointError(f"{where} is empty: not a checkpoint", Problem.FOREIGN)
    start = data[1 : 1 + len(BEGINNING)]
    if data[0] >> 4 != 0x8 or start != BEGINNING[: len(start)]:  # 0x8n: a map of n entries
        raise CheckpointError(f"{where} is not a checkpoint of this program", Problem.FOREIGN)


def unpack(data: bytes, entries: int) -> Any:
    """What ``data`` holds, made of no more than about ``entries`` objects, whatever it says.

    Raises msgpack.OutOfData if ``data`` ends too early, ValueError or others for anything else.
    """
    left = entries

    def count(container: Any) -> Any:
        nonlocal left
        left -= 1 + len(container)
        if left < 0:
            raise ValueError("it has more entries than any checkpoint")
        return container

    unpacker = msgpack.Unpacker(
        object_hook=count,
        list_hook=count,
        max_buffer_size=MAX_BYTES,
        max_array_len=min(entries, MAX_LIST),
        max_map_len=entries,
        max_ext_len=0,
    )
    unpacker.feed(data)
    unpacked = unpacker.unpack()
    if unpacker.tell() != len(data):
        raise ValueError("it goes on after the checkpoint's end")
    return unpacked
