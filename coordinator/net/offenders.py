"""Peers that have broken the protocol, and are cut off once they can have heard why."""

from __future__ import annotations

from coordinator.core.inputs import Peer


class Offenders:
    """To be asked once in a tick for those who are ``due``."""

    def __init__(self) -> None:
        self._fresh: set[Peer] = set()
        self._earlier: set[Peer] = set()

    def add(self, peer: Peer) -> None:
        """This peer has just broken the protocol."""
        self._fresh.add(peer)

    def due(self) -> set[Peer]:
        """Those who did a tick ago at least: they have heard why by now."""
        due, self._earlier, self._fresh = self._earlier, self._fresh, set()
        return due
