"""Connections of strangers and members, and what each may bring before we have read it.

The coordinator's socket takes in whatever comes: a socket that stops taking in at a limit of its
own can be made to end the process (docs/guarantees.md). So the limits are here. What a connection
has brought and we have not read is what the system has received over it, less the messages read.

Where the system can, it keeps the limit itself (``packet_filter``), so that it holds however long
we are busy with something else. What is found by looking is then only who goes up to it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Iterator
from typing import Any

from coordinator.core.inputs import Peer
from coordinator.core.tally import Traffic
from coordinator.net import packet_filter
from coordinator.net.connection import Connection as Connection
from coordinator.net.silent_connections import SilentConnections
from microgpt.support import tcp

#: Bytes that a stranger may bring unread. An honest one says Hello or asks, in less than 1 KiB.
STRANGER_UNREAD = 64 << 10
#: The same where the system keeps the limit, which is moved on after a part of it has been read.
STRANGER_WINDOW = 16 << 10
#: For a member whose answers are accepted that is four of its usual messages and this. Another one
#: is given its next work when it has answered: two of them and less beside.
MEMBER_WINDOW, NEWCOMER_WINDOW = 128 << 10, 32 << 10
MOST_DROPPED = 2  # packets that go beyond it; a third is no mistake
#: Bytes that all strangers together may. An empty message is 2 bytes, and 64 in libzmq's memory.
STRANGERS_UNREAD = 512 << 10
SLACK = 1 << 20  # bytes of small messages that a member may bring beside two of the largest
#: Messages that one connection may bring before we find nothing to read from anybody.
STRANGER_SAYS, MEMBER_SAYS = 100, 2000
SMALL = 1 << 10  # bytes of a message that is no gradient of a large model
MEMBER_HURRIES = 8  # after so many small ones a member may bring no more unread than a stranger
WINDOW_SECONDS = 0.5  # in which messages are counted where there is always something to read
LIFE_BYTES = 128  # a second that signs of life may take

#: Why somebody is cut off.
UNREAD = "it sends more than can be read"
FLOOD = "it sends too many messages"
Cut = tuple[int, str]  # a descriptor and why


class Connections:
    """By descriptor. ``largest`` is the longest message of a member in bytes, which may have text
    in it; ``usual`` that of a gradient.

    ``members``: those peers that may bring more, ``proves(peer)`` whether it is one whose answers
    are accepted. ``count`` tells what has come over a descriptor.
    """

    def __init__(
        self,
        largest: int,
        count: Callable[[int], int | None] = tcp.taken_in,
        *,
        usual: int | None = None,
        encrypted: bool = False,
    ) -> None:
        self.members: Container[Peer] = ()
        self.proves: Callable[[Peer], bool] = lambda peer: True
        self.open: dict[int, Connection] = {}
        self.by_peer: dict[Peer, int] = {}
        self._member_unread = 2 * largest + SLACK
        usual = largest if usual is None else usual
        self._member_window = 4 * usual + MEMBER_WINDOW
        self._newcomer_window = 2 * usual + NEWCOMER_WINDOW
        self._count, self._encrypted = count, encrypted
        self.silent = SilentConnections()
        self._talked: list[Connection] = []  # those with ``said``
        self._looked_at: list[Connection] = []  # those with ``seen``
        self._passed = 0.0  # when time was last counted
        self.flow = False  # whether somebody had brought more than it had said, at the last look
        self._first_numbers: dict[int, tuple[Any, int]] = {}  # and the address of the other end
        self._unlimited: set[int] = set()  # strangers whose limit is kept by us alone

    def opened(self, descriptor: int, now: float = 0.0) -> Iterator[int]:
        """A new connection. Gives the connections that are too silent to stay now."""
        connection = Connection(tcp.address_of(descriptor))
        connection.first = self._first_number(descriptor, connection.address)
        self.open[descriptor] = connection
        self._unlimited.discard(descriptor)
        self._move_window(descriptor, connection)
        if connection.first is None:
            self._unlimited.add(descriptor)
            packet_filter.attach(descriptor, packet_filter.everything())
        yield from self.silent.add(descriptor, now)

    def closed(self, descriptor: int) -> Peer | None:
        """It is gone. Gives who spoke there last."""
        self.silent.discard(descriptor)
        connection = self.open.pop(descriptor, None)
        self._unlimited.discard(descriptor)
        if connection is None or connection.peer is None:
            return None
        del self.by_peer[connection.peer]
        return connection.peer

    def taken_for(self, descriptor: int, peer: Peer) -> Peer | None:
        """A message of ``peer`` has come over it. Gives for whom this peer was taken until now.

        That one had gone before we heard of it, and its descriptor was this one's already when
        its words were read. Names are numbers counted up: the higher one has the descriptor.
        """
        connection = self.open.get(descriptor)
        if connection is None or connection.peer is None or not _is_newer(peer, connection.peer):
            return None
        before, connection.peer = connection.peer, peer
        connection.known = connection.proven = connection.garbled = False
        connection.sent = connection.received = 0
        connection.key = b""
        del self.by_peer[before]
        self.by_peer[peer] = descriptor
        return before

    def heard(self, descriptor: int, peer: Peer, sizes: Collection[int]) -> str:
        """A message of frames of these sizes has come. Returns why to cut it off, or nothing."""
        connection = self.open.get(descriptor)
        if connection is None:
            return ""
        if connection.peer is None:
            connection.peer = peer
            self.by_peer[peer] = descriptor
            self.silent.discard(descriptor)
        elif connection.peer != peer:  # the descriptor was another's before
            return ""
        size = tcp.frame_bytes(sizes, encrypted=self._encrypted)
        connection.read += size
        connection.received += sum(sizes)
        connection.small += size < SMALL
        connection.heard = True
        if not connection.said:
            self._talked.append(connection)
        connection.said += 1
        if not connection.known and peer in self.members:
            connection.known = True
            self._unlimited.discard(descriptor)
        elif not connection.known and connection.first is not None:
            connection.dropped = tcp.dropped(descriptor)  # a lossy link drops some as well
        if connection.known and not connection.proven:
            connection.proven = peer in self.members and self.proves(peer)
        self._move_window(descriptor, connection)
        says = MEMBER_SAYS if connection.known else STRANGER_SAYS
        return FLOOD if connection.said > says else ""

    def garbled(self, descriptor: int) -> None:
        """What came over it is no message."""
        if descriptor in self.open:
            self.open[descriptor].garbled = True

    def traffic(self, peer: Peer) -> Traffic | None:
        """What has gone over a peer's connection; None if it has none."""
        descriptor = self.by_peer.get(peer)
        return None if descriptor is None else self.open[descriptor].traffic

    def host(self, descriptor: int) -> str:
        """The address at the other end of a connection; see ``Connection.host``."""
        return self.open[descriptor].host if descriptor in self.open else ""

    def is_garbled(self, descriptor: int) -> bool:
        """Whether nothing that comes over it is looked at any more."""
        return descriptor in self.open and self.open[descriptor].garbled

    def _first_number(self, descriptor: int, address: Any) -> int | None:
        """The system tells it once, and may have done so when we took this for another one.

        That was gone before we heard of it, and its descriptor this one's already.
        """
        number = packet_filter.first_sequence_number(descriptor)
        if number is not None:
            self._first_numbers[descriptor] = address, number
        known = self._first_numbers.get(descriptor)
        return known[1] if known is not None and known[0] == address is not None else None

    def _move_window(self, descriptor: int, connection: Connection) -> None:
        """Let the system take in more, if half of what it may has been read."""
        if connection.first is None:
            return
        allowed = STRANGER_WINDOW
        if connection.known:
            allowed = self._member_window if connection.proven else self._newcomer_window
        if connection.window - connection.read > allowed // 2:
            return
        connection.window = connection.read + allowed
        limit = (connection.first + connection.window) % packet_filter.SEQUENCE_NUMBERS
        if not packet_filter.attach(descriptor, packet_filter.until(limit)):
            connection.first = None  # it has gone

    @property
    def has_unlimited(self) -> bool:
        """Whether the limit of a stranger is kept by us alone."""
        return bool(self._unlimited)

    def drained(self) -> None:
        """There is nothing to read from anybody.

        So what had come before the last look has been read, also where it was no message but a
        sign of life of the library. Not where a message has begun and no one has ended.
        """
        for connection in self._talked:
            connection.said = connection.small = 0
        self._talked.clear()
        for connection in self._looked_at:
            if connection.heard and connection.seen is not None:
                connection.read = max(connection.read, connection.seen)
                connection.heard = False
            connection.seen = None
        self._looked_at.clear()

    def pass_time(self, now: float) -> None:
        """There is always something to read. To be called often; a time of its own is counted."""
        passed = now - self._passed
        if passed < WINDOW_SECONDS:
            return
        self._passed = now
        for connection in self._talked:
            connection.said = connection.small = 0
        self._talked.clear()
        forgiven = int(LIFE_BYTES * min(passed, 2 * WINDOW_SECONDS))
        for connection in self.open.values():
            connection.read += forgiven  # the next look takes off what has not come

    def look(self) -> list[Cut]:
        """Who has brought too much, alone or as one of the strangers: the worst first."""
        unread: list[tuple[int, int]] = []
        found: list[Cut] = []
        self.flow = False
        for descriptor, connection in self.open.items():
            if connection.cut:
                continue
            if self._over(descriptor, connection):
                found.append((descriptor, UNREAD))
            elif connection.seen is not None and not self._may_hurry(connection):
                unread.append((connection.seen - connection.read, descriptor))
        total = sum(size for size, _ in unread)
        for size, descriptor in sorted(unread, reverse=True):
            if total <= STRANGERS_UNREAD:
                break
            found.append((descriptor, UNREAD))
            total -= size
        return found

    def _over(self, descriptor: int, connection: Connection) -> bool:
        count = self._count(descriptor)
        if count is None:
            return False
        if connection.seen is None:
            self._looked_at.append(connection)
        connection.seen = count
        connection.read = min(connection.read, count)  # nobody saves up for later
        self._move_window(descriptor, connection)
        unread = count - connection.read
        if connection.first is not None and not connection.known:
            return tcp.dropped(descriptor) - connection.dropped > MOST_DROPPED
        allowed = self._member_unread if self._may_hurry(connection) else STRANGER_UNREAD
        self.flow = self.flow or (connection.first is None and unread > STRANGER_UNREAD // 8)
        return unread > allowed

    def _may_hurry(self, connection: Connection) -> bool:
        """Whether large messages of this one may be under way."""
        return connection.known and connection.small <= MEMBER_HURRIES


def _is_newer(peer: Peer, other: Peer) -> bool:
    """Whether the number in a name (the last four bytes) has been given later, modulo 2**32."""
    if peer == other:
        return False
    later = int.from_bytes(peer[-4:]) - int.from_bytes(other[-4:])
    return later % (1 << 32) < 1 << 31
