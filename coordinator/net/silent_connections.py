"""Connections that have said nothing yet: few may stay, and none for long.

An honest worker says Hello as soon as it is connected, and comes again if it is let go.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_SILENT = 256  # more, and the oldest go
SILENT_SECONDS = 30.0  # libzmq gives a handshake as long


class SilentConnections:
    """By descriptor, in the order in which they came; times are on any one clock."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}

    def add(self, descriptor: int, now: float) -> Iterator[int]:
        """A new one. Gives those that are too many now."""
        self.discard(descriptor)
        self._since[descriptor] = now
        while len(self._since) > MAX_SILENT:
            yield self._pop()

    def discard(self, descriptor: int) -> None:
        """It has said something, or is gone."""
        self._since.pop(descriptor, None)

    def late(self, now: float) -> Iterator[int]:
        """Those whose time is up."""
        while self._since and now - next(iter(self._since.values())) >= SILENT_SECONDS:
            yield self._pop()

    def _pop(self) -> int:
        descriptor = next(iter(self._since))
        del self._since[descriptor]
        return descriptor
