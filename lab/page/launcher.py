"""The launcher at the other end of the socket that the page was given: one question at a time."""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

from lab.launch.requests import MOST_LINE, line_of

ANSWER_SECONDS = 5.0
MOST_WAITING = 8  # questions
GONE = "the launcher does not answer any more: is the run over?"


class Launcher:
    """Reached by the socket ``descriptor``. Raises OSError if that is none."""

    def __init__(self, descriptor: int) -> None:
        self._socket: socket.socket | None = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._turn = asyncio.Lock()
        self._waiting = self._number = 0
        self._rest = b""  # of what was read

    async def ask(self, plain: dict[str, Any]) -> tuple[bool, str]:
        """Whether it was done, and a sentence about it."""
        if self._waiting >= MOST_WAITING:
            return False, "too much is asked for at once"
        self._waiting += 1
        try:
            async with self._turn:
                return await self._ask(plain)
        finally:
            self._waiting -= 1

    async def _ask(self, plain: dict[str, Any]) -> tuple[bool, str]:
        if self._socket is None:
            return False, GONE
        self._number += 1
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await self._exchange(self._socket, {"id": self._number, **plain})
            return bool(answer["ok"]), str(answer.get("text") or answer.get("error"))
        except (OSError, ValueError, KeyError, TypeError):  # also what has taken too long
            self._socket.close()
            self._socket = None
            return False, GONE

    async def _exchange(self, connection: socket.socket, plain: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, line_of(plain))
        while True:
            while b"\n" not in self._rest:
                part = await loop.sock_recv(connection, MOST_LINE)
                if not part:
                    raise OSError("the other end is closed")
                self._rest += part
            line, _, self._rest = self._rest.partition(b"\n")
            answer = json.loads(line)
            if answer["id"] == plain["id"]:  # else it is for somebody who has not waited for it
                return answer
