"""The coordinator's socket: who is connected, what they say, and the limits they are held to."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import zmq

from coordinator.core.inputs import Disconnected, Input, Misbehaved, Peer, Received
from coordinator.core.tally import Traffic
from coordinator.net.allocator import few_arenas, give_back
from coordinator.net.bound_socket import BoundSocket, source
from coordinator.net.connections import Connections
from coordinator.net.door import Door
from coordinator.net.ignored_peers import IgnoredPeers
from coordinator.net.key_check import KeyCheck
from coordinator.net.limits import connection_limit
from coordinator.net.look_pace import LOOK_SECONDS, next_look
from coordinator.net.outgoing import Outgoing
from microgpt.protocol import messages
from microgpt.protocol.monitor import news_of
from microgpt.support import tcp
from microgpt.support.step_clock import NO_CLOCK, NoClock

#: Messages taken in before the clock is looked at again; connections opened or closed, likewise.
BURST = NEWS_BURST = 1000
LINGER_SECONDS = 0.5  # for the last words to workers
MESSAGE_OVERHEAD = 1 << 20  # bytes that a message may have beyond the gradient in it
LEAST_USUAL = 8 << 10  # bytes that an answer may always have
FLOOD_SECONDS = 0.1  # without a moment of quiet: then others have to wait at the door
TRIM_SECONDS = 1.0  # at least, from giving memory back to doing so again


class Transport:
    """The ROUTER socket that workers connect to, and the news of their connections. ``watch``
    lets ``wait`` return as well when something can be read from another socket.

    ``largest``: bytes of the longest message, ``usual`` of a member's longest answer, ``at_once``
    of what a member may be sent without having read any of it. ``curve``: the folder of keys.
    Raises UserError if ``bind`` cannot be used, or a key is of no use.
    """

    def __init__(
        self,
        bind: str,
        largest: int,
        curve: Path | None = None,
        usual: int = 0,
        at_once: int = 0,
    ) -> None:
        few_arenas()  # before libzmq starts its thread
        self._socket = BoundSocket(bind, largest, curve)
        self.endpoint, self.watch = self._socket.endpoint, self._socket.watch
        encrypted, self._max_connections = curve is not None, connection_limit()
        usual = max(usual, largest - MESSAGE_OVERHEAD, LEAST_USUAL)
        self._connections = Connections(largest, usual=usual, encrypted=encrypted)
        self._outgoing = Outgoing(max(largest, at_once), encrypted=encrypted)
        self._door, self._keys = Door(), KeyCheck(self._socket.allowed)
        self._quiet = time.monotonic()  # when there was last nothing to read
        self._look_at, self._trim_at, self._flooded = 0.0, 0.0, False  # since memory was given back
        self._found: deque[Input] = deque()  # by a look, and not told yet
        self._ignored = IgnoredPeers()
        self.bytes_sent = self.bytes_received = 0
        self.clock: NoClock = NO_CLOCK  # hears where time goes
        self._read_news()  # that the socket listens: the first connection has a limit as well

    def wake(self) -> None:
        """Let ``wait`` return now. May be called from any thread."""
        self._socket.wake()

    def wait(self, seconds: float) -> None:
        """Until something can be read, ``wake`` is called or the time is up."""
        until = time.monotonic() + seconds
        while True:
            self._look_around()
            left = 0.0 if self._found else until - time.monotonic()
            step = max(0.0, min(left, self._look_at - time.monotonic()))
            if self._socket.poll(step) or left <= step:
                return

    def receive(self) -> Iterator[Input]:
        """What has come in: at most ``BURST`` messages, then the peers whose connection is gone.

        In this order a peer's last words count.
        """
        gone = self._read_news() if self._socket.told else {}
        for _ in range(BURST):
            received = self._socket.receive()
            if received is None:
                self._drained()
                break
            peer, frames = received
            if peer not in self._connections.by_peer and peer not in gone:
                gone.update(self._read_news())  # its first words: whose descriptor is that?
            if peer not in self._ignored:  # else these are last words
                yield from self._events(peer, frames, gone)
            self._look_around()
            while self._found:
                yield self._found.popleft()
        while self._found:
            yield self._found.popleft()
        for peer in gone:
            self._ignored.add(peer)
            yield Disconnected(peer)

    def _drained(self) -> None:
        """There was nothing to read."""
        self._quiet = time.monotonic()
        self._connections.drained()
        self._ignored.clear()

    def _look_around(self) -> None:
        """If it is time, see that nobody brings more than can be read, and no more come."""
        began = time.monotonic()
        if began < self._look_at:
            return
        cut = self._connections.look()
        for descriptor, reason in cut:
            self._found.append(self._cut(descriptor, reason))
        for silent in self._connections.silent.late(began):
            self._abort(silent)
        if began - self._quiet > FLOOD_SECONDS:
            self._flooded = True
            self._door.shut()
            self._connections.pass_time(began)  # a flood may last: there is no quiet moment
            self._ignored.pass_time(began)
        self._door.tend(full=len(self._connections.open) >= self._max_connections)
        self._flooded = self._flooded or bool(cut)
        if self._flooded and began > self._trim_at:
            self._trim_at, self._flooded = began + TRIM_SECONDS, False
            give_back()
        self._found.extend(self._keys.look(self._connections.open.values()))
        self._look_at = next_look(self._connections, began, time.monotonic())

    def _read_news(self) -> dict[Peer, None]:
        """Enter opened and closed connections; gives the peers that are gone."""
        gone: dict[Peer, None] = {}
        for _ in range(NEWS_BURST):
            if not self._socket.has_news():
                break
            event, descriptor = news_of(self._socket.monitor.recv_multipart())
            if event == zmq.EVENT_ACCEPTED:
                self._accepted(descriptor)
            elif event == zmq.EVENT_LISTENING:
                self._door.listens(descriptor)
            else:
                garbled = self._connections.is_garbled(descriptor)
                if (peer := self._connections.closed(descriptor)) is not None:
                    gone[peer] = None
                    if garbled:
                        self._ignored.add(peer)
        return gone

    def _accepted(self, descriptor: int) -> None:
        for silent in [*self._connections.opened(descriptor, time.monotonic())]:
            self._abort(silent)
        self._door.knocked()
        unlimited = self._door.is_crowded and self._connections.open[descriptor].first is None
        if unlimited or len(self._connections.open) > self._max_connections:
            self._abort(descriptor)  # one that is honest comes again
        if len(self._connections.open) >= self._max_connections:
            self._door.shut()
        if self._connections.has_unlimited:
            self._look_at = min(self._look_at, time.monotonic() + LOOK_SECONDS)

    def traffic(self, peer: Peer) -> Traffic | None:
        """Bytes of messages to and from a peer; None if it has no connection."""
        return self._connections.traffic(peer)

    def connected(self, peers: Collection[Peer]) -> bool:
        """Whether any of these has a connection."""
        return any(peer in peers for peer in self._connections.by_peer)

    def let_in(self, members: Collection[Peer], proves: Callable[[Peer], bool]) -> None:
        """These peers are no strangers, whoever is among them at a time; some are proven."""
        self._connections.members, self._connections.proves = members, proves

    def cut_off(self, peer: Peer) -> None:
        """Close the connection of a peer that breaks the protocol."""
        descriptor = self._connections.by_peer.get(peer)
        if descriptor is not None:
            self._abort(descriptor)

    def _cut(self, descriptor: int, reason: str) -> Misbehaved:
        self._abort(descriptor)
        return Misbehaved(self._connections.open[descriptor].peer or b"", reason)

    def _abort(self, descriptor: int) -> None:
        """Let libzmq, which owns it, read its end: ZeroMQ has no call for this."""
        connection = self._connections.open[descriptor]
        tcp.abort(descriptor, connection.address)
        if connection.peer is not None:
            self._ignored.add(connection.peer)
        connection.cut = True

    def _events(
        self, peer: Peer, frames: list[zmq.Frame], gone: Collection[Peer]
    ) -> Iterator[Input]:
        sizes = [len(frame) for frame in frames]
        self.bytes_received += sum(sizes)
        descriptor = source(frames[-1])
        if peer not in gone:  # else the descriptor may be somebody else's by now
            other = self._connections.taken_for(descriptor, peer)
            if other is not None:
                self._ignored.add(other)
                yield Disconnected(other)
            reason = self._connections.heard(descriptor, peer, sizes)
            if peer not in self._connections.by_peer:  # it has gone before we heard anything
                self._ignored.add(peer)
                return
            if reason or self._connections.is_garbled(descriptor):
                if reason:
                    yield self._cut(descriptor, reason)
                return
            own = self._connections.open[self._connections.by_peer[peer]]
            if revoked := self._keys.first_words(own, frames[-1]):
                yield revoked
                return
        self.clock.lap("receive")
        try:
            if len(frames) != 1:
                raise messages.ProtocolError(f"a message of {len(frames)} parts instead of one")
            message = messages.decode(frames[0].buffer, longest_list=0)
            self.clock.lap("decode")
        except messages.ProtocolError as error:
            self._connections.garbled(descriptor)
            self._ignored.add(peer)
            yield Misbehaved(peer, str(error))
        else:
            hello = isinstance(message, messages.Hello)
            yield Received(peer, message, self._connections.host(descriptor) if hello else "")

    def send(self, peer: Peer, data: bytes) -> None:
        """Queue a message; a peer that is gone is told nothing, one that does not read is cut off.

        Data of weights, which many get, are kept once.
        """
        try:
            self._socket.send(peer, self._outgoing.frame(data))
        except zmq.Again:
            self.cut_off(peer)
        except zmq.ZMQError:  # it is gone
            return
        else:
            self.bytes_sent += len(data)
            self._queued(peer, data)

    def _queued(self, peer: Peer, data: bytes) -> None:
        descriptor = self._connections.by_peer.get(peer)
        if descriptor is None:
            return
        connections = self._connections.open
        connections[descriptor].sent += len(data)
        if not self._outgoing.sent(descriptor, connections[descriptor], data):
            self._abort(descriptor)
        for late in self._outgoing.holders(connections):
            self._abort(late)

    def send_tracked(self, peer: Peer, data: bytes) -> zmq.MessageTracker | None:
        """Like ``send``; the tracker is done as soon as the data are out of this process's memory.

        Sent, or dropped with the connection. None if they were not even queued.
        """
        frame = zmq.Frame(data, track=True, copy=False, copy_threshold=0)
        try:
            self._socket.send(peer, frame)
        except zmq.ZMQError:
            return None
        self.bytes_sent += len(data)
        self._queued(peer, data)
        tracker: zmq.MessageTracker | None = frame.tracker
        return tracker

    def close(self) -> None:
        """Send what is queued, for a moment, and close.

        All is sent before the socket is closed: one that is being closed takes nothing in, and
        must not be so while anybody is connected (see ``BoundSocket``).
        """
        self._door.shut(for_good=True)
        until = time.monotonic() + LINGER_SECONDS
        while self._unsent() and time.monotonic() < until:
            self.wait(0.005)
            for _ in self.receive():
                pass
        local = not self.endpoint.startswith("tcp://")  # nobody counts there, or could attack
        self._socket.close(LINGER_SECONDS if local else 0.0)

    def _unsent(self) -> bool:
        return any(
            connection.queued and self._outgoing.waiting(descriptor, connection)
            for descriptor, connection in self._connections.open.items()
        )
