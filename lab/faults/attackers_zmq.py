"""What strangers do to a coordinator with a library that speaks ZeroMQ well."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import zmq

from lab.faults.attackers import Target
from microgpt.protocol import messages

JOIN_SECONDS = 3.0  # for a welcome
HOARDERS = 30


class Caller:
    """A DEALER of ours. Close it; nothing that it has to say keeps it."""

    def __init__(
        self, target: Target, identity: bytes, context: zmq.Context[zmq.Socket[bytes]] | None = None
    ) -> None:
        self._own = context is None
        self._context = context or zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, 1)
        self.socket.setsockopt(zmq.ROUTING_ID, identity)
        self.socket.connect(target.address)
        self.run = self.epoch = ""
        self.model: dict[str, int] = {}

    def say(self, message: messages.Message | bytes) -> bool:
        """Send it, unless that would have to wait."""
        data = message if isinstance(message, bytes) else messages.encode(message)
        try:
            self.socket.send(data, zmq.NOBLOCK)
        except zmq.Again:
            return False
        return True

    def hear(self, seconds: float) -> messages.Message | None:
        """What comes within the time."""
        if not self.socket.poll(int(seconds * 1000)):
            return None
        try:
            message = messages.decode(self.socket.recv())
        except messages.ProtocolError:
            return None
        if isinstance(message, messages.Welcome):
            self.run, self.epoch, self.model = message.run, message.epoch, dict(message.model)
        return message

    def join(self, engine: str) -> bool:
        """Become a member. False if that fails."""
        self.say(messages.Hello("", "", "evil", engine, "x"))
        deadline = time.monotonic() + JOIN_SECONDS
        while (left := deadline - time.monotonic()) > 0:
            message = self.hear(left)
            if isinstance(message, messages.Refuse):
                return False
            if isinstance(message, messages.Welcome):
                return True
        return False

    def beat(self) -> bool:
        """Say that we are alive and ready."""
        return self.say(messages.Heartbeat(self.run, self.epoch, ready=True))

    def close(self) -> None:
        """Break off at once."""
        self.socket.close(0)
        if self._own:
            self._context.term()


def flood_and_close(rng: random.Random, target: Target) -> Iterator[int]:
    """Connections that send as much as they can, and are gone."""
    payload = rng.choice((
        b"\x93\x01\x02\x03",
        messages.encode(messages.Hello("", "", "evil", target.engine, "x")),
        messages.encode(messages.ListCheckpoints("", "", 1)),
        messages.encode(messages.Heartbeat("", "", ready=True)),
    ))  # fmt: skip
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    number = rng.choice((1, 3, 10, 100))
    callers = [Caller(target, b"f" + rng.randbytes(8), context) for _ in range(number)]
    try:
        end = time.monotonic() + rng.uniform(0.5, 3.0)
        while time.monotonic() < end:
            if not sum(caller.say(payload) for caller in callers for _ in range(10)):
                time.sleep(0.01)  # everything is full
    finally:
        for caller in callers:
            caller.close()
        context.term()
    yield number
    time.sleep(rng.uniform(0.0, 0.5))


def same_identity(rng: random.Random, target: Target) -> Iterator[int]:
    """Two peers that take the one name from each other."""
    done = [0, 0]
    end = time.monotonic() + 2.0

    def come_and_go(number: int) -> None:
        while time.monotonic() < end:
            caller = Caller(target, b"same")
            try:
                caller.say(messages.Hello("", "", "evil", target.engine, "x"))
                caller.hear(0.02)
                caller.beat()
                caller.hear(0.02)
                done[number] += 1
            finally:
                caller.close()

    twins = [threading.Thread(target=come_and_go, args=(n,), daemon=True) for n in range(2)]
    for twin in twins:
        twin.start()
    for twin in twins:
        twin.join()
    yield sum(done)


def never_reading(rng: random.Random, target: Target) -> Iterator[int]:
    """Members that say Hello and that they live, again and again, and read nothing."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    callers = [Caller(target, b"n" + rng.randbytes(8), context) for _ in range(HOARDERS)]
    hello = messages.encode(messages.Hello("", "", "evil", target.engine, "x"))
    try:
        for caller in callers:
            yield caller.join(target.engine)
        end = time.monotonic() + rng.uniform(3.0, 12.0)
        while time.monotonic() < end:
            said = 0
            for caller in callers:
                said += caller.say(hello) + caller.beat()
            if not said:
                time.sleep(0.01)
    finally:
        for caller in callers:
            caller.close()
        context.term()
