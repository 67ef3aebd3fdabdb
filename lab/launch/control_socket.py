"""The supervisor's ear for commands on the same machine: ``microgpt workers``, ``microgpt scale``.

A socket without a file (in Linux's abstract names), called after the launch: nothing is left of it
whoever is killed. Both sides make sure that the other one belongs to the same user.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import struct
import threading
from types import TracebackType
from typing import Any

from lab.launch.channel import ANSWER_SECONDS, Conversation
from lab.launch.requests import COMMAND, OF_A_COMMAND, Verb, line_of
from microgpt.support.cli import UserError

MOST_COMMANDS = 16  # at once
MOST_ANSWER = 16 << 20  # bytes
ANSWERED_SECONDS = ANSWER_SECONDS + 5.0


class SupervisorGoneError(Exception):
    """No supervisor of this launch runs on this machine."""


class ControlSocket:
    """``news`` hears ``Asked`` for what commands want. Use it in a ``with`` statement."""

    def __init__(self, launch: str, news: queue.SimpleQueue[Any]) -> None:
        self._name, self._news = _name(launch), news
        self._socket: socket.socket | None = None
        self._room = threading.BoundedSemaphore(MOST_COMMANDS)

    def __enter__(self) -> ControlSocket:
        self._socket = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError):  # no such names here: then commands find nobody
            self._socket.bind(self._name)
            self._socket.listen()
            threading.Thread(target=self._accept, name="commands", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)  # wakes the thread
            self._socket.close()

    def _accept(self) -> None:
        assert self._socket is not None  # noqa: S101  # the thread was started with it
        with contextlib.suppress(OSError):
            while True:
                end, _ = self._socket.accept()
                if _user(end) == os.geteuid() and self._room.acquire(blocking=False):
                    threading.Thread(target=self._hold, args=(end,), daemon=True).start()
                else:
                    end.close()

    def _hold(self, end: socket.socket) -> None:
        try:
            with end:
                end.settimeout(ANSWERED_SECONDS)
                Conversation(self._news, end, OF_A_COMMAND, COMMAND).hold()
        finally:
            self._room.release()


def ask(launch: str, verb: Verb, value: int | None = None) -> str:
    """What the supervisor of a launch answers.

    Raises SupervisorGoneError, or UserError if it refuses.
    """
    with socket.socket(socket.AF_UNIX) as end:
        try:
            end.connect(_name(launch))
        except OSError as error:
            raise SupervisorGoneError from error
        if _user(end) != os.geteuid():
            raise SupervisorGoneError
        end.settimeout(ANSWERED_SECONDS)
        given = {} if value is None else {"value": value}
        try:
            end.sendall(line_of({"id": 1, "verb": verb.value, **given}))
            with end.makefile("rb") as lines:
                line = lines.readline(MOST_ANSWER)
        except TimeoutError as error:
            raise UserError("the launcher of the run does not answer") from error
        except OSError as error:
            raise SupervisorGoneError from error
    if not line.endswith(b"\n"):
        raise SupervisorGoneError
    answer = json.loads(line)
    if not answer["ok"]:
        raise UserError(answer["error"])
    return str(answer["text"])


def _name(launch: str) -> bytes:
    return f"\0microgpt-launch-{launch}".encode()


def _user(end: socket.socket) -> int:
    """The user who runs the other end."""
    size = struct.calcsize("3i")
    _, user, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return int(user)
