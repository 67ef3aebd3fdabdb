"""A TCP proxy that does to connections what bad networks do: cut, partition, delay, throttle.

It runs in a thread of its own. Its methods may be called from any thread; when one returns, what
it says holds for every byte that is sent from then on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, TypeAlias

from lab.conditions import BOTH, DOWN, UP, Link

CHUNK = 1 << 16
WINDOW = 1 << 18  # bytes held back in one direction before reading pauses, as a network would
CLONE_NEWNET = 0x40000000

CALM = Link()
#: ``observer(connection, upwards, data)`` is called with all that passes; upwards: to the target.
Observer: TypeAlias = Callable[[int, bool, bytes], None]


@dataclass
class Stream:
    """One direction of a connection: bytes wait here until they are due."""

    source: socket.socket
    sink: socket.socket
    upwards: bool
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    held: int = 0
    ended: bool = False
    allowance: float = 0.0
    counted: float = 0.0
    frozen: bool = False
    last_due: float = 0.0

    def partitioned(self, link: Link) -> bool:
        """Whether nothing moves in this direction."""
        return self.frozen or (UP if self.upwards else DOWN) in link.partitioned

    def budget(self, link: Link, now: float) -> int:
        """How many bytes may pass now."""
        if link.rate is None:
            return CHUNK
        # A tenth of a second's worth may be saved up; never less than one byte, or none would pass.
        most = max(1.0, link.rate / 10)
        self.allowance = min(most, self.allowance + (now - self.counted) * link.rate)
        self.counted = now
        return int(self.allowance)


class Proxy:
    """Forwards connections to ``target`` (host and port); ``address`` is where it listens.

    ``namespace`` is the path of a network namespace to live in. ``observer`` is shown what passes.
    ``link`` is what the way is like in calm weather; ``seed`` decides what is drawn for it.
    """

    def __init__(
        self,
        target: tuple[str, int],
        *,
        namespace: str | None = None,
        observer: Observer | None = None,
        link: Link = CALM,
        seed: int = 0,
    ) -> None:
        self._target, self._namespace, self._observer = target, namespace, observer
        self._link = self._calm = link
        self._rng = Random(seed)
        self._moving = threading.Lock()  # held while bytes move
        self._cut = self._closing = False
        self._streams: dict[int, tuple[Stream, Stream]] = {}
        self._accepted = 0
        self._ready = threading.Event()
        self._failure: OSError | None = None
        self._waker, self._woken = socket.socketpair()
        self._woken.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise self._failure

    # --- what it can do to connections -----------------------------------------------------------

    def cut(self) -> None:
        """Close every connection now, as a reset."""
        self._cut = True
        self._wake()

    def partition(self, directions: frozenset[str] = BOTH) -> None:
        """Swallow all traffic of these directions: connections stay open and say nothing."""
        self._set(replace(self._calm, partitioned=directions))

    def freeze(self) -> None:
        """Partition the connections that are open now; new ones pass. Until ``calm``."""
        self._freeze(True)

    def delay(self, seconds: float) -> None:
        """Every byte arrives so much later."""
        self._set(replace(self._calm, delay=seconds))

    def throttle(self, rate: float) -> None:
        """So many bytes per second and direction."""
        self._set(replace(self._calm, rate=rate))

    def calm(self) -> None:
        """Nothing bad any more. Bytes that waited go out."""
        self._freeze(False)
        self._set(self._calm)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._streams)

    def close(self) -> None:
        """Cut every connection and end."""
        self._closing = True
        self._wake()
        self._thread.join()
        self._waker.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the thread ------------------------------------------------------------------------------

    def _freeze(self, frozen: bool) -> None:
        with self._moving:
            for pair in list(self._streams.values()):
                for stream in pair:
                    stream.frozen = frozen
        self._wake()

    def _set(self, link: Link) -> None:
        with self._moving:
            self._link = link
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(OSError):
            self._waker.send(b"x")

    def _run(self) -> None:
        try:
            if self._namespace is not None:
                enter_namespace(self._namespace)  # this thread alone
            listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        except OSError as error:
            self._failure = error
            self._ready.set()
            return
        listener.setblocking(False)
        self.address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        self._ready.set()
        with listener, self._woken:
            while not self._closing:
                if self._cut:
                    self._cut = False
                    self._drop_all()
                self._turn(listener)
            self._drop_all()

    def _turn(self, listener: socket.socket) -> None:
        """Wait until something can move, and move it."""
        link, now = self._link, time.monotonic()
        pause: float | None = None
        with selectors.PollSelector() as selector:
            selector.register(listener, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            wishes: dict[socket.socket, int] = {}
            for number, pair in list(self._streams.items()):
                for stream in pair:
                    if stream.ended and not stream.waiting:
                        self._drop(number)
                        break
                    if stream.partitioned(link):
                        continue
                    if not stream.ended and stream.held < WINDOW:
                        wishes[stream.source] = wishes.get(stream.source, 0) | selectors.EVENT_READ
                    if stream.waiting:
                        wait = stream.waiting[0][0] - now
                        if wait <= 0 and stream.budget(link, now):
                            wishes[stream.sink] = wishes.get(stream.sink, 0) | selectors.EVENT_WRITE
                        else:
                            wait = wait if wait > 0 else 0.005
                            pause = wait if pause is None else min(pause, wait)
            for wished, events in wishes.items():
                if wished.fileno() >= 0:
                    selector.register(wished, events)
            ready = {key.fileobj: mask for key, mask in selector.select(pause)}
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                self._woken.recv(4096)
        if listener in ready:
            self._accept(listener)
        with self._moving:
            self._move(ready)

    def _move(self, ready: dict[Any, int]) -> None:
        """Read and write what can be; the link may have changed while we waited."""
        link = self._link
        for number, pair in list(self._streams.items()):
            for stream in pair:
                if stream.partitioned(link):
                    continue
                if ready.get(stream.source, 0) & selectors.EVENT_READ:
                    self._read(stream, link)
                if stream.waiting and ready.get(stream.sink, 0) & selectors.EVENT_WRITE:
                    self._write(number, stream, link)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client, _ = listener.accept()
            try:
                server = socket.create_connection(self._target, timeout=1.0)
            except OSError:
                client.close()  # the target is not there: the client will try again
                return
            for end in (client, server):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._accepted += 1
            self._streams[self._accepted] = (
                Stream(client, server, upwards=True),
                Stream(server, client, upwards=False),
            )

    def _read(self, stream: Stream, link: Link) -> None:
        try:
            data = stream.source.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            stream.ended = True
            return
        due = time.monotonic() + link.seconds_for(len(data), self._rng)
        stream.last_due = due = max(due, stream.last_due)  # none overtakes what was sent before
        stream.waiting.append((due, data))
        stream.held += len(data)

    def _write(self, number: int, stream: Stream, link: Link) -> None:
        due, data = stream.waiting.popleft()
        try:
            sent = stream.sink.send(data[: stream.budget(link, time.monotonic())])
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(number)
            return
        if self._observer is not None:
            self._observer(number, stream.upwards, data[:sent])
        stream.held -= sent
        stream.allowance -= sent
        if sent < len(data):
            stream.waiting.appendleft((due, data[sent:]))

    def _drop(self, number: int, *, reset: bool = False) -> None:
        streams = self._streams.pop(number, None)
        for stream in streams or ():
            with contextlib.suppress(OSError):
                if reset:  # lingering for no time at all makes close() send a reset
                    linger = b"\1\0\0\0\0\0\0\0"
                    stream.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                stream.source.close()

    def _drop_all(self) -> None:
        for number in list(self._streams):
            self._drop(number, reset=True)


def enter_namespace(path: str) -> None:
    """Put the calling thread into a network namespace (``os.setns`` came with Python 3.12)."""
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
