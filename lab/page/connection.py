"""A connection of a browser, or of anybody: how many there may be, and how long they may idle.

uvicorn waits for ever for a request that does not come, and for a peer that does not take its
answer. A page that strangers can reach would be held by a few hundred of those.
"""

from __future__ import annotations

import asyncio
from typing import cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 256  # connections
CHECK_SECONDS = 5.0
#: Checks after which a connection ends that has asked for nothing all the time, or only for half.
UNASKED = 2
#: Checks after which one ends whose peer has taken nothing of what waits for it.
UNTAKEN = 6


class Connection(H11Protocol):
    """One that is watched."""

    _unasked = 0
    _untaken = 0
    _waiting = 0  # bytes that the peer had still to take at the last check
    _check: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Too many: it ends at once."""
        super().connection_made(cast(asyncio.Transport, transport))
        if len(self.connections) > MOST:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(CHECK_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        if self._check is not None:
            self._check.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """End it if nothing happens."""
        answering = self.cycle is not None and not self.cycle.response_complete
        asked = answering and self.conn.their_state is not h11.SEND_BODY
        self._unasked = 0 if asked else self._unasked + 1
        waiting = self.transport.get_write_buffer_size()
        self._untaken = self._untaken + 1 if waiting and waiting == self._waiting else 0
        self._waiting = waiting
        if self._unasked >= UNASKED or self._untaken >= UNTAKEN:
            self.transport.abort()
        else:
            self._check = self.loop.call_later(CHECK_SECONDS, self._look)
