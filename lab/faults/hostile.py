"""Peers that mean no good: bytes, messages and connections to throw at a coordinator.

They speak ZMTP over bare sockets: a library would not let them misbehave. Only for coordinators
that we have started ourselves.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgpack

from lab.faults import zmtp
from lab.faults.proxy import Observer
from microgpt.protocol import messages

PATIENCE = 10.0  # seconds for a coordinator to take in a burst, or to hang up
BURST = 64  # messages sent over one connection before the coordinator's answer is awaited
BURST_BYTES = 14 << 10  # of them: more is not let in from a stranger
NAN = struct.pack("<d", float("nan"))


class Capture:
    """Keeps up to ``limit`` messages of each direction that ``observer`` sees at a proxy."""

    def __init__(self, limit: int = 400) -> None:
        self._limit = limit
        self._readers: dict[tuple[int, int, bool], zmtp.Reader] = {}
        self.upwards: list[bytes] = []
        self.downwards: list[bytes] = []

    def observer(self, worker: int = 0) -> Observer:
        """What listens there."""

        def listen(connection: int, upwards: bool, data: bytes) -> None:
            kept = self.upwards if upwards else self.downwards
            if len(kept) < self._limit:
                key = worker, connection, upwards
                kept.extend(self._readers.setdefault(key, zmtp.Reader()).feed(data))

        return listen


#: Makes a message of captured ones.
Spoil: TypeAlias = Callable[[random.Random, Sequence[bytes]], bytes]


# --- messages ------------------------------------------------------------------------------------


def malformed(rng: random.Random, captured: Sequence[bytes]) -> bytes:
    """One message that nobody should send: noise, or a real one spoiled, or one replayed."""
    spoil: Callable[[random.Random, bytes], bytes] = rng.choice(
        (_noise, _noise, _flipped, _cut, _doubled, _other_fields, _other_fields, _replayed)
    )
    return spoil(rng, rng.choice(captured))


def _noise(rng: random.Random, real: bytes) -> bytes:
    if rng.random() < 0.2:  # nested containers that promise more than there is
        return rng.choice((b"\xdd\0\x10\0\0", b"\xdf\0\x10\0\0", b"\x91", b"\x81\xa0")) * 1100
    return rng.randbytes(rng.choice((0, 1, 2, 9, 64, 300)))


def _flipped(rng: random.Random, real: bytes) -> bytes:
    spoiled = bytearray(real)
    for _ in range(rng.choice((1, 1, 8))):
        spoiled[rng.randrange(min(len(spoiled), 400))] ^= 1 << rng.randrange(8)
    return bytes(spoiled)


def _cut(rng: random.Random, real: bytes) -> bytes:
    return real[: rng.randrange(len(real))]


def _doubled(rng: random.Random, real: bytes) -> bytes:
    place = rng.randrange(len(real))
    return real[:place] + real[place // 2 :]


def _replayed(rng: random.Random, real: bytes) -> bytes:
    return real


def _other_fields(rng: random.Random, real: bytes) -> bytes:
    plain: dict[str, Any] = msgpack.unpackb(real)
    name = rng.choice(list(plain))
    change = rng.randrange(4)
    if change == 0:
        del plain[name]
    elif change == 1:
        plain["surplus"] = 1
    elif change == 2:
        wrong: tuple[Any, ...] = (
            None,
            -1,
            2**64 - 1,
            float("nan"),
            "x" * 3000,
            b"1234567",
            [],
            {},
            {"wte": b""},
        )
        plain[name] = rng.choice(wrong)
    elif isinstance(plain.get("gradient"), dict):
        spoil_gradient(rng, plain["gradient"])
    else:
        plain["run"] = "another"
    packed: bytes = msgpack.packb(plain)
    return packed


def spoil_gradient(rng: random.Random, gradient: dict[str, bytes]) -> None:
    """A wrong shape, a narrower number format, no number, a missing or an unknown matrix."""
    name = rng.choice(list(gradient))
    data = gradient[name]
    spoiled = (data[:-8], data[: len(data) // 2], NAN + data[8:], data + data, b"")
    gradient[rng.choice((name, "unknown"))] = rng.choice(spoiled)


def question(rng: random.Random, captured: Sequence[bytes]) -> bytes:
    """A well-formed one about checkpoints, of the kinds that cost the coordinator most."""
    number = rng.randrange(1 << 30)
    step = rng.choice((None, 0, rng.randrange(100), 1 << 60))
    offset = rng.choice((0, 0, 100, 1 << 18, 1 << 61))
    fetch = messages.FetchCheckpoint("", "", number, step, offset, None)
    return messages.encode(rng.choice((fetch, messages.ListCheckpoints("", "", number))))


# --- connections ---------------------------------------------------------------------------------


def connect(address: tuple[str, int]) -> socket.socket:
    """A bare connection."""
    return socket.create_connection(address, timeout=PATIENCE)


def _knock(address: tuple[str, int]) -> socket.socket | None:
    """A connection, or None if there was none to be had just now."""
    try:
        return connect(address)
    except ConnectionRefusedError:
        raise
    except OSError:
        return None


def burst(address: tuple[str, int], messages: Sequence[bytes]) -> int:
    """Say these messages over one connection of a stranger. Returns how many could be sent.

    The coordinator may hang up at any time, which is what a stranger like this deserves.
    Raises ConnectionRefusedError if nobody listens there any more.
    """
    sent = 0
    peer = _knock(address)
    if peer is None:
        return sent
    with contextlib.suppress(OSError), peer:
        zmtp.shake_hands(peer, b"x" + os.urandom(8))
        for message in messages:
            peer.sendall(zmtp.frame(message))
            sent += 1
        peer.shutdown(socket.SHUT_WR)
        while peer.recv(1 << 16):
            pass  # until it hangs up, having read what we sent
    return sent


def throw(
    address: tuple[str, int],
    captured: Sequence[bytes],
    count: int,
    seed: int,
    threads: int = 16,
    spoil: Spoil = malformed,
) -> int:
    """Throw about ``count`` messages, several strangers at once. Returns how many.

    There are fewer if the coordinator has ended meanwhile.
    """
    sent = [0] * threads

    def stranger(number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while sent[number] < count // threads:
            size = rng.choice((1, 4, BURST))
            words, room = [spoil(rng, captured)], BURST_BYTES
            while len(words) < size and (room := room - len(words[-1])) > 0:
                words.append(spoil(rng, captured))
            try:
                sent[number] += burst(address, words)
            except ConnectionRefusedError:
                return

    crowd = [threading.Thread(target=stranger, args=(n,), daemon=True) for n in range(threads)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return sum(sent)


def silent_connections(address: tuple[str, int], count: int) -> Iterator[socket.socket]:
    """Connections that say nothing at all, or stop somewhere in the middle of the handshake."""
    words = zmtp.greeting() + zmtp.ready(b"half")
    for number in range(count):
        with contextlib.suppress(OSError):
            peer = connect(address)
            peer.sendall(words[: (number * 7) % len(words)] if number % 2 else b"")
            yield peer
