"""Peers whose last words are not wanted any more: they have been cut off, or are gone."""

from __future__ import annotations

import time

from coordinator.core.inputs import Peer

IGNORED_SECONDS = 5.0  # for the last words of who is gone to have come


class IgnoredPeers:
    """Remembers each peer until all that it can have sent has been read, or for a while."""

    def __init__(self) -> None:
        self._since: dict[Peer, float] = {}

    def __contains__(self, peer: Peer) -> bool:
        return peer in self._since

    def add(self, peer: Peer) -> None:
        """Ignore what comes from this peer, from now on."""
        self._since.pop(peer, None)
        self._since[peer] = time.monotonic()

    def clear(self) -> None:
        """All that was sent has been read."""
        self._since.clear()

    def pass_time(self, now: float) -> None:
        """Forget those who have been ignored for long, on the monotonic clock."""
        while self._since:
            peer = next(iter(self._since))
            if now - self._since[peer] < IGNORED_SECONDS:
                break
            del self._since[peer]
