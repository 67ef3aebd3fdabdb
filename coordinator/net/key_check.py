"""Whether those who are connected have keys that are still on the list."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import zmq

from coordinator.core.inputs import KeyRevoked
from coordinator.net.connection import Connection

if TYPE_CHECKING:  # takes time, and most runs have no keys
    from coordinator.net.allow_list import AllowList

USER_ID = "User-Id"  # of messages: the key that the authenticator has let in, as Z85 text


class KeyCheck:
    """``allowed``: the list, or None if there are no keys. Nothing more is heard of who is told."""

    def __init__(self, allowed: AllowList | None) -> None:
        self._allowed = allowed
        self._seen: frozenset[bytes] = frozenset()  # the revoked keys at the last look

    def first_words(self, connection: Connection, frame: zmq.Frame) -> KeyRevoked | None:
        """A message has come over a connection: note its key, which may have been revoked since."""
        if self._allowed is None or connection.key:
            return None
        connection.key = key_of(frame)
        return self._check(connection, self._allowed)

    def look(self, connections: Iterable[Connection]) -> Iterator[KeyRevoked]:
        """Those whose key has been taken off the list since the last look."""
        if self._allowed is None or self._allowed.revoked is self._seen:
            return
        self._seen = self._allowed.revoked
        for connection in connections:
            if revoked := self._check(connection, self._allowed):
                yield revoked

    def _check(self, connection: Connection, allowed: AllowList) -> KeyRevoked | None:
        is_heard = connection.peer is not None and not connection.garbled
        if not is_heard or connection.key not in allowed.revoked:
            return None
        connection.garbled = True
        return KeyRevoked(connection.peer or b"", f"its key is no longer in {allowed.directory}")


def key_of(frame: zmq.Frame) -> bytes:
    """The key with which a message's sender has been let in; empty if it has none."""
    try:
        return str(frame.get(USER_ID)).encode()
    except zmq.ZMQError:
        return b""
