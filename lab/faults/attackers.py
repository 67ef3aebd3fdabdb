"""What strangers do to a coordinator over bare sockets; see ``lab.faults.strangers``.

An attack is gone through again and again: a round of a few seconds, which yields how much has been
done. An OSError ends a round early, as the other side may hang up whenever it likes.
"""

from __future__ import annotations

import contextlib
import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from lab.faults import zmtp
from microgpt.protocol import messages

PATIENCE = 3.0  # seconds for the coordinator to greet back, or to take something in
MOST_HALF_OPEN = 300  # connections at a time
BLOB_BYTES = 1 << 20
ENDLESS_BYTES = 64 << 20  # that a message may have had before we tire of it
RESET = struct.pack("ii", 1, 0)  # lingering for no time at all makes close() send a reset


@dataclass(frozen=True)
class Target:
    """Whom to attack. ``engine`` is what hostile members say that they compute with."""

    host: str
    port: int
    engine: str = "scalar"

    @property
    def address(self) -> str:
        """As ZeroMQ writes it."""
        return f"tcp://{self.host}:{self.port}"


Attack: TypeAlias = Callable[[random.Random, Target], Iterator[int]]


def dial(target: Target) -> socket.socket:
    """A connection that waits for nothing for long."""
    return socket.create_connection((target.host, target.port), timeout=PATIENCE)


def hang_up(rng: random.Random, peer: socket.socket) -> None:
    """End a connection: in order, or with a reset."""
    with contextlib.suppress(OSError):
        if rng.random() < 0.5:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        peer.close()


def visit(rng: random.Random, target: Target, talk: Callable[[socket.socket], None]) -> int:
    """Connect, talk until one of both has had enough, and hang up. Returns 1."""
    peer = dial(target)
    try:
        with contextlib.suppress(OSError):
            talk(peer)
    finally:
        hang_up(rng, peer)
    return 1


def garbage(rng: random.Random, target: Target) -> Iterator[int]:
    """Connections that bring noise, some of it after a greeting that is none."""
    greeting = zmtp.greeting()
    beginnings = (b"", b"\xff", greeting[:12], greeting, b"\x01\x00", b"GET / HTTP/1.1\r\n")

    def talk(peer: socket.socket) -> None:
        noise = rng.randbytes(rng.choice((1, 70, 4000, 200_000)))
        peer.sendall(rng.choice(beginnings) + noise)

    for _ in range(20):
        yield visit(rng, target, talk)


def half_open(rng: random.Random, target: Target) -> Iterator[int]:
    """Many connections whose handshake stops somewhere, or that say nothing; held for a while."""
    words = zmtp.greeting(minor=1) + zmtp.ready(b"half")
    peers: list[socket.socket] = []
    try:
        for _ in range(rng.choice((20, MOST_HALF_OPEN))):
            peer = dial(target)
            peers.append(peer)
            with contextlib.suppress(OSError):
                peer.sendall(words[: rng.choice((0, 1, 11, 64, rng.randrange(len(words))))])
            yield 1
        time.sleep(rng.uniform(0.1, 2.0))
    finally:
        for peer in peers:
            hang_up(rng, peer)


def pings(rng: random.Random, target: Target) -> Iterator[int]:
    """PING behind, before and between messages, then the end of the connection."""

    def talk(peer: socket.socket) -> None:
        zmtp.shake_hands(peer, b"" if rng.random() < 0.5 else rng.randbytes(5), minor=1)
        word = zmtp.frame(rng.choice((b"hi", b"", *small_talk())))
        alive = zmtp.ping(rng.randbytes(rng.choice((0, 4, 16))), rng.choice((0, 1, 65535)))
        some = word * rng.choice((0, 1, 60, 500)) + alive * rng.choice((1, 3, 50))
        peer.sendall(some * rng.choice((1, 20)))
        time.sleep(rng.choice((0.0, 0.05, 0.3)))

    for _ in range(10):
        yield visit(rng, target, talk)


def small_talk() -> tuple[bytes, ...]:
    """Messages that anybody may send."""
    return (
        messages.encode(messages.Hello("", "", "evil", "tape", "x")),
        messages.encode(messages.ListCheckpoints("", "", 1)),
        messages.encode(messages.Heartbeat("", "", ready=True)),
    )


def raw_flood(rng: random.Random, target: Target) -> Iterator[int]:
    """A megabyte of tiny messages as fast as the system sends them, over and over."""
    word = zmtp.frame(rng.choice((b"", b"\0", b"hi", *small_talk())))
    blob = zmtp.greeting() + zmtp.ready(rng.randbytes(5)) + word * (BLOB_BYTES // len(word))
    for _ in range(10):
        yield visit(rng, target, lambda peer: peer.sendall(blob))


def endless(rng: random.Random, target: Target) -> Iterator[int]:
    """A message that has always one part more, or one that is far too large."""

    def talk(peer: socket.socket) -> None:
        zmtp.shake_hands(peer, rng.randbytes(5))
        if rng.random() < 0.5:
            size = rng.choice((1 << 30, 1 << 62, (1 << 64) - 1, 0xFFFFFFFF))
            peer.sendall(bytes([zmtp.LONG]) + size.to_bytes(8, "big") + bytes(100_000))
            return
        part = zmtp.frame(rng.randbytes(rng.choice((1, 200, 5000))), zmtp.MORE)
        some = part * (1 + (1 << 16) // len(part))
        for _ in range(ENDLESS_BYTES // len(some)):
            peer.sendall(some)

    yield visit(rng, target, talk)
