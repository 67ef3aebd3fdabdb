"""Opening the coordinator's ROUTER socket: its options, its address, and what wakes who waits."""

from __future__ import annotations

import contextlib
import errno
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from coordinator.core.work_order import SNAPSHOT_EVERY
from coordinator.net.ipc_socket import IpcClaim
from microgpt.support.cli import UserError

if TYPE_CHECKING:  # takes time, and most runs have no keys
    from coordinator.net.allow_list import AllowList

#: Seconds of silence, seconds between probes and how many before a connection counts as broken.
KEEPALIVE = {
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 5,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 20_000,  # milliseconds for what has been sent to be confirmed
}
ZERO_COPY_RECV = 10  # an option of libzmq's contexts; pyzmq does not name it
#: Messages to one peer, where the system does not count what arrives: as many as bring it to where
#: a replica is that was another worker's, weights and a task for each step, and some more.
MAX_QUEUED = 64 + 2 * SNAPSHOT_EVERY
#: Plain numbers: to join two members of an enumeration takes as long as to send a message.
NOW, MORE_NOW = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
READABLE = int(zmq.POLLIN)


class BoundSocket:
    """``router`` listens at ``endpoint``; ``monitor`` tells of its connections, and had something
    to tell when it was last polled if ``told``.

    ``curve``: the folder of keys, None for no encryption; ``allowed``: whose keys are let in.
    Raises UserError if ``bind`` is no address or in use, or if a key cannot be used.
    """

    def __init__(self, bind: str, max_message_bytes: int, curve: Path | None) -> None:
        self._context = zmq.Context()
        # Else a message of 34 bytes that comes alone keeps 18 KiB until it is read: all that libzmq
        # reads into. Messages of more than 8 KiB are not copied either way.
        self._context.set(ZERO_COPY_RECV, 0)
        self.router = self._context.socket(zmq.ROUTER)
        self._guard = None
        self.allowed: AllowList | None = None
        if curve is not None:
            from coordinator.net.curve import Guard

            self._guard = Guard(self._context, curve)
            self._guard.protect(self.router)
            self.allowed = self._guard.allowed
        # Never RCVHWM with strangers: where a connection breaks that libzmq has stopped reading
        # from, it never closes the descriptor, and ends the process if there is another sign of
        # life to send.
        self.router.setsockopt(zmq.RCVHWM, 0)
        self.router.setsockopt(zmq.LINGER, 0)
        self.router.setsockopt(zmq.SNDHWM, MAX_QUEUED)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)  # sending to nobody is an error
        self.router.setsockopt(zmq.MAXMSGSIZE, max_message_bytes)
        for option, value in KEEPALIVE.items():  # the system's own signs of life
            self.router.setsockopt(option, value)
        # A failed handshake ends in "disconnected" as well, and only that names the descriptor.
        self.monitor = self.router.get_monitor_socket(
            zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_LISTENING
        )
        self._claim = IpcClaim(bind)
        self._bind(bind)
        self.endpoint = self.router.get_string(zmq.LAST_ENDPOINT).rstrip("\0")
        # Another thread or a signal wakes the poll by a byte on this pair.
        self._waker, self._woken = socket.socketpair()
        self._waker.setblocking(False)
        self._woken.setblocking(False)
        self.told = False
        self._poller = zmq.Poller()
        for source in (self.router, self.monitor, self._woken.fileno()):
            self._poller.register(source, zmq.POLLIN)

    def _bind(self, bind: str) -> None:
        try:
            self._claim.take()
            self.router.bind(bind)
            self._name_peers_ourselves()
            self._claim.bound()
        except (zmq.ZMQError, OSError) as error:
            self._destroy(linger=0)
            taken = error.errno == errno.EADDRINUSE
            reason = "is in use already" if taken else f"fails: {error.strerror}"
            raise UserError(f"--bind {bind} {reason}; choose another address") from error

    def _name_peers_ourselves(self) -> None:
        """Let every connection have a number of its own as its name, whatever name it brings.

        Two of one name are trouble: with ROUTER_HANDOVER the one that had it keeps a descriptor
        for ever if it still says something, without it libzmq keeps all that the other brings.

        To be called right after binding. What listens has its options already, and goes on to
        speak ZeroMQ; what is raw is only how the socket names peers (libzmq, router.cpp:
        ``identify_peer``), and that an empty message to one would close its pipe. Nobody is sent
        one: it would leave the connection without a pipe, as handover does.
        """
        self.router.setsockopt(zmq.ROUTER_RAW, 1)

    def wake(self) -> None:
        """Let ``poll`` return now. May be called from any thread."""
        with contextlib.suppress(OSError):  # closed, or so many bytes wait that one more is nothing
            self._waker.send(b"x")

    def watch(self, socket: zmq.Socket[bytes]) -> None:
        """Let ``poll`` return as well when something can be read from another socket."""
        self._poller.register(socket, zmq.POLLIN)

    def poll(self, seconds: float) -> bool:
        """Wait until something can be read or ``wake`` is called; whether that came in time."""
        ready = dict(self._poller.poll(int(seconds * 1000 + 0.5)))
        self.told = self.monitor in ready
        if self._woken.fileno() in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        return bool(ready)

    def has_news(self) -> bool:
        """Whether the monitor has something to tell."""
        return bool(int(self.monitor.getsockopt(zmq.EVENTS)) & READABLE)

    def receive(self) -> tuple[bytes, list[zmq.Frame]] | None:
        """Who sends the next message, and its parts; None if there is none yet."""
        receive = self.router.recv
        try:
            peer = receive(NOW)
        except zmq.Again:
            return None
        frames = [receive(NOW, copy=False)]
        while frames[-1].more:
            frames.append(receive(NOW, copy=False))
        return peer, frames

    def send(self, peer: bytes, data: zmq.Frame | bytes) -> None:
        """Queue a message; a frame is not copied.

        Raises zmq.Again if the peer's queue is full, another ZMQError if it is gone.
        """
        self.router.send(peer, MORE_NOW)  # here already: what follows a name is always taken
        self.router.send(data, NOW)

    def close(self, linger: float) -> None:
        """Close, after so many seconds at most for what is queued."""
        self.router.disable_monitor()
        self._destroy(int(linger * 1000))
        self._waker.close()
        self._woken.close()

    def _destroy(self, linger: int) -> None:
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
