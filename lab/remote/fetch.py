"""Checkpoints from the coordinator at an address: listed, fetched, followed.

Needs pyzmq, and click for keys, only when an address is really used.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from lab.remote.chunk_assembler import BrokenReplyError, ChunkAssembler, LaterError
from lab.terminal import UserError, visible
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem
from microgpt.protocol.messages import (
    NOT_LOOKED_INTO,
    CheckpointList,
    CheckpointPart,
    ListCheckpoints,
    NoCheckpoint,
    Stored,
)

if TYPE_CHECKING:
    from lab.remote.client import CheckpointClient

TRIES = 6
PAUSE = 0.5  # seconds between them
FOLLOW_SECONDS = 1.0  # between questions for a newer checkpoint
MOST_UNHEARD = 8  # questions in turn that one who follows asks in vain, of some seconds each
PACKAGES = {"zmq": "pyzmq"}  # where a package has another name than its module


class Fetched(NamedTuple):
    """A checkpoint and the bytes of its file."""

    checkpoint: Checkpoint
    data: bytes


def is_address(text: str) -> bool:
    """Whether this names a coordinator, and no file."""
    return text.startswith(("tcp://", "ipc://"))


def call(address: str, curve: str | None) -> CheckpointClient:
    """A connection. Raises UserError."""
    try:
        from lab.remote.client import CheckpointClient
    except ImportError as error:
        name = PACKAGES.get(error.name or "", error.name)
        raise UserError(f"asking a coordinator needs {name}: pip install {name}") from error
    return CheckpointClient(address, curve)


def list_all(connection: CheckpointClient) -> tuple[list[Stored], int]:
    """What is there, the oldest first, and how many older ones are not listed. Raises UserError."""
    for left in reversed(range(TRIES)):
        try:
            entries, omitted = _list_once(connection)
        except LaterError as error:
            if not left:
                raise UserError(str(error)) from error
            time.sleep(PAUSE)
        else:
            if not left or all(entry.problem != NOT_LOOKED_INTO for entry in entries):
                break
    return entries, omitted


def _list_once(connection: CheckpointClient) -> tuple[list[Stored], int]:
    reply = connection.ask(ListCheckpoints("", "", connection.next_number()))
    if isinstance(reply, NoCheckpoint):
        raise _refused(reply)
    if not isinstance(reply, CheckpointList):
        raise _not_understood(connection, "it replies to another question")
    return [Stored._make(entry) for entry in reply.entries], reply.omitted


def fetch(connection: CheckpointClient, step: int | None = None) -> Fetched:
    """The checkpoint of a step, None for the newest. Raises UserError and CheckpointError."""
    for left in reversed(range(TRIES)):
        try:
            return _fetch(connection, step)
        except LaterError as error:
            if not left:
                raise UserError(str(error)) from error
            time.sleep(PAUSE)
    raise AssertionError  # the last try returns or raises


def follow(connection: CheckpointClient) -> Iterator[Checkpoint]:
    """The newest checkpoint, and again each time there is a newer one, until the coordinator ends.

    One that does not reply for a while may be busy: it is asked again, but not for ever.

    Raises UserError and CheckpointError, and GoneError if there is no coordinator to begin with.
    """
    from lab.remote.client import GoneError, SilentError

    known: int | None = None
    unheard = 0
    while True:
        try:
            loaded, _ = _fetch(connection, known=known)
        except LaterError:
            unheard = 0
        except SilentError:
            unheard += 1
            if known is None or unheard == MOST_UNHEARD:
                raise
        except GoneError:
            if known is None:
                raise
            return
        else:
            known, unheard = loaded.step, 0
            yield loaded
        connection.rest(FOLLOW_SECONDS)


def _fetch(
    connection: CheckpointClient, wanted: int | None = None, known: int | None = None
) -> Fetched:
    """Raises LaterError, too, if there is nothing (newer) yet, or not any more."""
    for left in reversed(range(TRIES)):
        try:
            return _fetch_once(connection, ChunkAssembler(wanted, known))
        except CheckpointError as error:
            if not left or error.problem not in (Problem.DAMAGED, Problem.TRUNCATED):
                raise
            time.sleep(PAUSE)  # it may have been written anew between two parts
    raise AssertionError  # the last try returns or raises


def _fetch_once(connection: CheckpointClient, assembler: ChunkAssembler) -> Fetched:
    try:
        while not assembler.complete:
            reply = connection.ask(assembler.question(connection.next_number()))
            if isinstance(reply, NoCheckpoint):
                raise _refused(reply)
            if not isinstance(reply, CheckpointPart):
                raise BrokenReplyError("it replies to another question")
            assembler.take(reply)
        where = f"step {assembler.step} at {connection.address}"
        loaded = checkpoint_format.decode(assembler.data, where)
        if loaded.step != assembler.step:
            raise BrokenReplyError("it sends another step than it says")
    except BrokenReplyError as error:
        raise _not_understood(connection, str(error)) from error
    return Fetched(loaded, assembler.data)


def _refused(reply: NoCheckpoint) -> Exception:
    return (LaterError if reply.again else UserError)(visible(reply.reason))


def _not_understood(connection: CheckpointClient, reason: str) -> UserError:
    return UserError(f"the coordinator at {connection.address} cannot be understood: {reason}")
