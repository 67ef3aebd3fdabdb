"""The door for new connections: while it is shut, the system answers nobody who knocks.

Whoever knocks tries again by itself, an honest worker after a second. ZeroMQ cannot do this: it
accepts whatever comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from coordinator.net import packet_filter

SHUT_SECONDS = 0.05  # at a time: who knocks in vain comes again after 1, 3 and 7 s
OPEN_SECONDS = 0.05  # between two of those
CROWD = 50  # new connections of late, from which on it may be a flood
KNOCKS = 200  # new connections in a second, and at once after one of rest


class Door:
    """Of a listening socket; open to begin with. Where the system has no filters it stays open."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._listener = -1
        self.is_shut = False
        self.keeps_beginnings = False  # of connections, see packet_filter
        self._changed = -OPEN_SECONDS  # when it was last shut or opened
        self._for_good = False
        self._knocks, self._knocked = 0.0, 0.0  # of late, and when that was counted

    def listens(self, descriptor: int) -> None:
        """This is the listening socket. Connections start with its filter."""
        self._listener = descriptor
        self.keeps_beginnings = packet_filter.keep_beginnings(descriptor)
        packet_filter.attach(descriptor, packet_filter.short_packets())

    def knocked(self) -> None:
        """Somebody has come in. When many have, the next ones have to wait."""
        now = self._clock()
        self._knocks = max(0.0, self._knocks - KNOCKS * (now - self._knocked)) + 1
        self._knocked = now
        if self._knocks > KNOCKS:
            self._set(True)

    @property
    def is_crowded(self) -> bool:
        """Whether more have come in of late than workers of a usual run.

        Never where the system tells nothing of their beginnings (``packet_filter``).
        """
        return self.keeps_beginnings and self._knocks > CROWD

    def shut(self, *, for_good: bool = False) -> None:
        """Let nobody in for a moment, unless that has just been so; open ones do not notice."""
        self._for_good = self._for_good or for_good
        if for_good or self._clock() - self._changed >= OPEN_SECONDS:
            self._set(True)

    def tend(self, *, full: bool = False) -> None:
        """Open it when the moment is over, unless there is no room. To be called often."""
        over = self._clock() - self._changed >= SHUT_SECONDS
        if self.is_shut and over and not full and not self._for_good:
            self._set(False)

    def _set(self, shut: bool) -> None:
        if self.is_shut == shut or self._listener < 0:
            return
        self.is_shut, self._changed = shut, self._clock()
        program = packet_filter.nothing() if shut else packet_filter.short_packets()
        packet_filter.attach(self._listener, program)
