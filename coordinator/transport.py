"""The coordinator's socket: who is connected, what they say, and the limits they are held to."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import zmq
from zmq.utils.monitor import recv_monitor_message

from coordinator.events import Disconnected, Event, Misbehaved, Peer, Received
from coordinator.inflow import Inflow
from coordinator.ipcsocket import IpcClaim
from coordinator.security import Guard
from microgpt import messages
from microgpt.cli import UserError

BURST = 1000  # messages taken in before the clock is looked at again
LINGER_MS = 500  # for the last words to workers
MESSAGE_OVERHEAD = 1 << 20  # bytes that a message may have beyond the gradient in it
#: Messages of one connection that wait to be read; more wait at the sender. An honest worker never
#: has that many, and a flood of garbage must not fill our memory faster than we can refuse it.
MAX_WAITING = 20
MAX_CONNECTIONS = 4096  # a further one is closed again
IN_KERNEL = 8 << 20  # bytes that may have come over a connection and not been read yet
OWN_FILES = 100  # descriptors that strangers' connections must leave for checkpoints and the like


class Transport:
    """The ROUTER socket that workers connect to, and the news of their connections.

    ``timeout``: seconds of silence after which a connection is dropped. ``curve``: the folder of
    keys, None for no encryption. Raises UserError if ``bind`` is no address or in use, or if a key
    cannot be used.
    """

    def __init__(
        self, bind: str, max_message_bytes: int, timeout: float, curve: Path | None = None
    ) -> None:
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._guard = None if curve is None else Guard(self._context, curve)
        if self._guard is not None:
            self._guard.protect(self._router)
        self._router.setsockopt(zmq.LINGER, LINGER_MS)
        self._router.setsockopt(zmq.ROUTER_HANDOVER, 1)  # a reconnected worker keeps its name
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to nobody is an error
        self._router.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
        self._router.setsockopt(zmq.RCVHWM, MAX_WAITING)
        self._router.setsockopt(zmq.HEARTBEAT_IVL, int(timeout * 1000 / 3))
        self._router.setsockopt(zmq.HEARTBEAT_TIMEOUT, int(timeout * 1000))
        # A failed handshake ends in "disconnected" as well, and only that names the descriptor.
        self._monitor = self._router.get_monitor_socket(zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED)
        self._max_connections = connection_limit()
        #: Open connections by file descriptor, and who speaks there; None before the first word.
        self._connections: dict[int, Peer | None] = {}
        self._inflow = Inflow(max_message_bytes + IN_KERNEL)
        self._claim = IpcClaim(bind)
        try:
            self._claim.take()
            self._router.bind(bind)
            self._claim.bound()
        except (zmq.ZMQError, OSError) as error:
            self._close_sockets(linger=0)
            taken = error.errno == errno.EADDRINUSE
            reason = "is in use already" if taken else f"fails: {error.strerror}"
            raise UserError(f"--bind {bind} {reason}; choose another address") from error
        self.endpoint = self._router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        self.bytes_sent = 0
        self.bytes_received = 0
        # Another thread or a signal wakes the poll by a byte on this pair.
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self._poller = zmq.Poller()
        for source in (self._router, self._monitor, self._woken):
            self._poller.register(source, zmq.POLLIN)

    def wake(self) -> None:
        """Let ``wait`` return now. May be called from any thread."""
        with contextlib.suppress(OSError):  # closed, or so many bytes wait that one more is nothing
            self._waker.send(b"x")

    def wait(self, seconds: float) -> None:
        """Until something can be read, ``wake`` is called or the time is up."""
        ready = dict(self._poller.poll(max(0, int(seconds * 1000))))
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)

    def receive(self) -> Iterator[Event]:
        """What has come in: at most ``BURST`` messages, then the peers whose connection is gone.

        In this order a peer's last words count. Where it speaks over a new connection already, the
        end of the old one comes before.
        """
        gone = self._read_news()
        for _ in range(BURST):
            try:
                frames = self._router.recv_multipart(zmq.NOBLOCK, copy=False)
            except zmq.Again:
                break
            peer, descriptor = frames[0].bytes, source(frames[-1])
            if self._connections.get(descriptor) != peer:
                # Its first words: the news tell whose the descriptor was before.
                gone.update(self._read_news())
            if gone.get(peer, descriptor) != descriptor:
                del gone[peer]
                yield Disconnected(peer)
            yield self._event(peer, descriptor, frames)
        for peer in gone:
            yield Disconnected(peer)

    def _read_news(self) -> dict[Peer, int]:
        """Enter opened and closed connections; gives the descriptors of peers that are gone."""
        gone: dict[Peer, int] = {}
        while self._monitor.poll(0):
            news = recv_monitor_message(self._monitor)
            descriptor = news["value"]
            if news["event"] == zmq.EVENT_ACCEPTED:
                self._accepted(descriptor)
            elif (peer := self._connections.pop(descriptor, None)) is not None:
                gone[peer] = descriptor
        return gone

    def _accepted(self, descriptor: int) -> None:
        self._connections[descriptor] = None
        self._inflow.opened(descriptor)
        if len(self._connections) > self._max_connections:
            self._shut(descriptor)

    def connected(self, peers: Collection[Peer]) -> bool:
        """Whether any of these has a connection."""
        return any(peer in peers for peer in self._connections.values())

    def endless(self) -> Iterator[Misbehaved]:
        """Hang up where a message comes that does not end. To be called several times a second."""
        for descriptor in self._inflow.endless(self._connections):
            self._shut(descriptor)
            yield Misbehaved(self._connections[descriptor] or b"", "a message without an end")

    def cut_off(self, peer: Peer) -> None:
        """Close the connections of a peer that breaks the protocol."""
        for descriptor, speaker in self._connections.items():
            if speaker == peer:
                self._shut(descriptor)

    def _shut(self, descriptor: int) -> None:
        """Let libzmq, which owns the connection, read its end: ZeroMQ has no call for this."""
        with (
            contextlib.suppress(OSError),  # it has gone by itself
            socket.socket(fileno=os.dup(descriptor)) as connection,
        ):
            connection.shutdown(socket.SHUT_RD)

    def _event(self, peer: Peer, descriptor: int, frames: list[zmq.Frame]) -> Event:
        self.bytes_received += sum(len(frame) for frame in frames)
        self._inflow.complete(descriptor)
        if descriptor in self._connections:
            self._connections[descriptor] = peer
        if len(frames) != 2:
            return Misbehaved(peer, f"a message of {len(frames) - 1} parts instead of one")
        try:
            return Received(peer, messages.decode(frames[1].buffer, longest_list=0))
        except messages.ProtocolError as error:
            return Misbehaved(peer, str(error))

    def send(self, peer: Peer, data: bytes) -> None:
        """Queue a message; a peer that is gone or takes nothing in is told nothing."""
        with contextlib.suppress(zmq.ZMQError):
            self._router.send_multipart((peer, data), zmq.NOBLOCK)
            self.bytes_sent += len(data)

    def send_tracked(self, peer: Peer, data: bytes) -> zmq.MessageTracker | None:
        """Like ``send``; the tracker is done as soon as the data are out of this process's memory.

        Sent, or dropped with the connection. None if they were not even queued.
        """
        frame = zmq.Frame(data, track=True, copy=False, copy_threshold=0)
        try:
            self._router.send_multipart((peer, frame), zmq.NOBLOCK, copy=False)
        except zmq.ZMQError:
            return None
        self.bytes_sent += len(data)
        tracker: zmq.MessageTracker | None = frame.tracker
        return tracker

    def close(self) -> None:
        """Send what is queued, for a moment, and close."""
        self._router.disable_monitor()
        self._close_sockets(linger=LINGER_MS)
        self._waker.close()
        self._woken.close()

    def _close_sockets(self, linger: int) -> None:
        if self._guard is not None:
            self._guard.close()
        self._context.destroy(linger=linger)
        self._claim.release()


def source(frame: zmq.Frame) -> int:
    """The descriptor over which a frame came; -1 if it does not tell.

    Frames of ZMTP 1.0, which garbage may look like, do not.
    """
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def connection_limit() -> int:
    """How many connections may be open: the system's limit on files is for more than them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OWN_FILES
    files = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, files - OWN_FILES)
