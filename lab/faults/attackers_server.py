"""A server that means harm to the workers and askers that connect to it."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

from lab.faults import zmtp
from lab.faults.attackers import PATIENCE, Target, hang_up
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    CheckpointPart,
    NoCheckpoint,
    Reregister,
    Status,
    Weights,
    Welcome,
)

ROUND_SECONDS = 3.0
REPLIES = 30  # to one question
ENDLESS_PARTS = 12_000  # more than any message may have
EPOCH = "injector"


def hostile_server(rng: random.Random, target: Target) -> Iterator[int]:
    """Floods who comes, with PINGs among the words, and closes."""
    served: list[threading.Thread] = []
    end = time.monotonic() + ROUND_SECONDS
    with socket.create_server((target.host, target.port)) as server:
        server.settimeout(0.1)
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                peer, _ = server.accept()
                seed = rng.random()
                thread = threading.Thread(target=_serve, args=(peer, seed), daemon=True)
                thread.start()
                served.append(thread)
                yield 1
    for thread in served:
        thread.join()


def _serve(peer: socket.socket, seed: float) -> None:
    rng = random.Random(seed)
    peer.settimeout(PATIENCE)
    try:
        with contextlib.suppress(OSError, messages.ProtocolError):
            if rng.random() < 0.1:
                peer.sendall(rng.randbytes(rng.choice((5, 70, 4000))))
                return
            peer.sendall(zmtp.greeting(minor=1) + zmtp.ready(kind=b"ROUTER"))
            rng.choice(_MANNERS)(rng, peer)
            time.sleep(rng.choice((0.0, 0.05, 0.5)))
    finally:
        hang_up(rng, peer)


def _silence(rng: random.Random, peer: socket.socket) -> None:
    """Say nothing at all."""
    time.sleep(rng.uniform(0.5, PATIENCE))


def _too_many_replies(rng: random.Random, peer: socket.socket) -> None:
    """A well-formed reply to every question, many times, for a while."""
    end = time.monotonic() + ROUND_SECONDS
    peer.recv(zmtp.GREETING_BYTES, socket.MSG_WAITALL)
    reader = zmtp.Reader(greeted=True)
    while time.monotonic() < end:
        data = peer.recv(1 << 16)
        if not data:
            return
        for question in reader.feed(data):
            asked = messages.decode(question)
            number = getattr(asked, "number", 1)
            reply: messages.Message = NoCheckpoint("", "", number, "later", True)
            if rng.random() < 0.2:
                reply = CheckpointPart("", "", number, 1, 1 << 40, 0, bytes(1 << 18))
            some = zmtp.frame(messages.encode(reply))
            peer.sendall((some + zmtp.ping()) * REPLIES)
        if rng.random() < 0.3:
            return


def _flood(rng: random.Random, peer: socket.socket) -> None:
    """Words that nobody has asked for, PINGs behind and between them."""
    harmless: tuple[messages.Message, ...] = (  # so that who is flooded stays
        NoCheckpoint("", "", 1, "later", True),
        Reregister("", EPOCH),
        Status("", EPOCH, "x"),
    )
    word = messages.encode(rng.choice(harmless))
    if rng.random() < 0.15:
        welcome = messages.encode(Welcome("", EPOCH, 1, 1.0, {}))
        word = rng.choice((b"", b"hi", welcome, messages.encode(Weights("", EPOCH, 1, {}))))
    some = (zmtp.frame(word) * 60 + zmtp.ping() * 3) * 20
    for _ in range(rng.choice((1, 5, 50))):
        peer.sendall(some)


def _endless(rng: random.Random, peer: socket.socket) -> None:
    """A message without an end."""
    part = zmtp.frame(bytes(50_000), zmtp.MORE)
    for _ in range(ENDLESS_PARTS):
        peer.sendall(part)


_MANNERS: tuple[Callable[[random.Random, socket.socket], None], ...] = (
    _silence, _too_many_replies, _too_many_replies, _flood, _flood, _endless
)  # fmt: skip
