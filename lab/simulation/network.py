"""A virtual network between workers and the coordinator, with the manners of ZeroMQ over TCP.

On one connection messages keep their order, and arrive or are lost with it. A partition holds them
back. What a connection that is gone had under way may still arrive, later than words on a newer
one, and its last words may arrive twice: ZeroMQ does not do that, but nothing here rests on it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from coordinator.core.tally import Traffic
from lab.conditions import DOWN, UP, Link
from lab.simulation.clock import Clock
from microgpt.protocol.messages import Message, decode, encode

GOOD = Link(delay=0.002, jitter=0.001)
DETECTION = {UP: 1.5, DOWN: 2.0}  # seconds until the receiver calls a connection dead
RECENT = 4  # messages that may come twice
LATE = 1.0  # seconds by which words of a dead connection may be late
UNNOTICED = 0.3  # chance that the other end of a dead connection takes up to LATE to notice
OTHER = {UP: DOWN, DOWN: UP}  # the opposite direction
RETRY = 0.25  # seconds until the end of a connection is told again across a partition


class Host:
    """The network's view of the place where one worker after the other runs.

    ``usual``: its link when nothing goes wrong.
    """

    def __init__(self, usual: Link = GOOD) -> None:
        self.usual = self.link = usual
        self.free = {UP: 0.0, DOWN: 0.0}  # when all is sent that waits for the link's rate
        self.corrupt = {UP: 0, DOWN: 0}  # so many of the next messages are damaged


class Network:
    """``stale`` and ``twice``: the chance that a word of a dead connection comes late, or twice.

    ``detects``: whether a connection without a sign of life is given up. ``codec``: whether
    messages are really packed and unpacked.
    """

    def __init__(self, clock: Clock, rng: Random) -> None:
        self.clock, self.rng = clock, rng
        self.stale = self.twice = 0.0
        self.detects = True
        self.codec = False
        self.sent = 0
        self.bytes = {UP: 0, DOWN: 0}  # of messages that were packed
        self._of_peers = Counter[tuple[bytes, str]]()  # the same of each worker's

    def pack(self, peer: bytes, way: str, message: Message) -> Message:
        """What comes out of a message that is really packed."""
        packed = encode(message)
        self.bytes[way] += len(packed)
        self._of_peers[peer, way] += len(packed)
        return decode(packed)

    def traffic(self, peer: bytes) -> Traffic:
        """What a worker was sent and has sent, of what was packed."""
        return Traffic(self._of_peers[peer, DOWN], self._of_peers[peer, UP])

    def watch(self, connection: Connection, way: str) -> None:
        """Nothing gets through this way from now on: its receiver may give the connection up."""
        if self.detects:
            patience = DETECTION[way] + self.rng.uniform(0.0, 0.5)
            self.clock.after(patience, connection.give_up, way)


class Connection:
    """Between one worker process and one coordinator process. See the module."""

    def __init__(
        self, network: Network, host: Host, ends: tuple[WorkerEnd, CoordinatorEnd]
    ) -> None:
        self.network, self.host = network, host
        self.worker, self.coordinator = ends
        self.peer = self.worker.peer
        #: Whether the receiver of this way still has the connection.
        self.open = {UP: True, DOWN: True}
        self._arrival = {UP: 0.0, DOWN: 0.0}
        self._held: dict[str, list[Message]] = {UP: [], DOWN: []}
        self._recent = {UP: deque[Message](maxlen=RECENT), DOWN: deque[Message](maxlen=RECENT)}

    def send(self, way: str, message: Message) -> None:
        """Put a message on the way, if the sender still has the connection."""
        network, clock = self.network, self.network.clock
        if not self.open[OTHER[way]]:
            return
        network.sent += 1
        if network.codec:
            message = network.pack(self.peer, way, message)
        link, before = self.host.link, self._arrival[way]
        if link.rate or link.loss:
            arrival = self._arrives(way, message)
        else:
            arrival = clock.now + link.seconds_for(0, network.rng)
        arrival = self._arrival[way] = arrival if arrival > before else before
        clock.after(arrival - clock.now, self._arrive, way, message)

    def _arrives(self, way: str, message: Message) -> float:
        """When a message that is sent now comes out of a link for which its length matters."""
        link, host, size = self.host.link, self.host, len(encode(message))
        sent = self.network.clock.now
        if link.rate:
            sent = host.free[way] = max(sent, host.free[way]) + size / link.rate
        return sent + link.seconds_for(size, self.network.rng)

    def _arrive(self, way: str, message: Message) -> None:
        if not self.open[way]:
            self._perhaps_later(way, message, self.network.stale)
        elif way in self.host.link.partitioned or self._held[way]:
            self._held[way].append(message)
        else:
            self._recent[way].append(message)
            damaged = self.host.corrupt[way] > 0
            if damaged:
                self.host.corrupt[way] -= 1
            self._deliver(way, message, damaged)

    def _deliver(self, way: str, message: Message, damaged: bool = False) -> None:
        if way == UP:
            self.coordinator.deliver(self.coordinator.receive, self, message, damaged)
        else:
            self.worker.deliver(self.worker.receive, message, damaged)

    def heal(self, way: str) -> None:
        """What a partition has held back arrives now."""
        held, self._held[way] = self._held[way], []
        for message in held:
            self._arrive(way, message)

    def give_up(self, way: str) -> None:
        """The receiver has heard nothing for too long, if that is still so."""
        sender: End = self.worker if way == UP else self.coordinator
        if way in self.host.link.partitioned or sender.frozen or not sender.alive:
            self.lose(way)

    def lose(self, way: str) -> None:
        """The receiver of this way has the connection no more; the other end hears of it later."""
        if not self.open[way]:
            return
        self.open[way] = False
        network = self.network
        self._held[way].clear()
        for message in self._recent[way]:
            self._perhaps_later(way, message, network.twice)
        if way == UP:
            self.coordinator.deliver(self.coordinator.lost, self)
        else:
            self.worker.deliver(self.worker.lost, self)
        slow = network.rng.random() < UNNOTICED
        delay = network.rng.uniform(0.0, LATE if slow else 0.02)
        network.clock.after(delay, self.tell_end, OTHER[way])

    def _perhaps_later(self, way: str, message: Message, chance: float) -> None:
        if self.network.rng.random() < chance:
            late = self.network.rng.uniform(0.0, LATE)
            self.network.clock.after(late, self._deliver, way, message)

    def tell_end(self, way: str) -> None:
        """The receiver of this way hears that the other end is gone, if it has not yet."""
        receiver: End = self.coordinator if way == UP else self.worker
        if not self.open[way] or not receiver.alive:
            return
        if way in self.host.link.partitioned:
            self.network.clock.after(RETRY, self.tell_end, way)
        else:
            self.lose(way)


class End(Protocol):
    """A process as the network sees it."""

    name: str

    @property
    def alive(self) -> bool:
        """Whether the process runs or is frozen."""

    @property
    def frozen(self) -> bool:
        """Whether the process stands still."""

    def deliver(self, call: Callable[..., None], *arguments: Any) -> None:
        """Call this now, or when the process runs again if it is frozen."""


class WorkerEnd(End, Protocol):
    """A worker process: ``peer`` is the name that the coordinator knows it by."""

    peer: bytes

    def receive(self, message: Message, damaged: bool) -> None:
        """A message has come in."""

    def lost(self, connection: Connection | None = None) -> None:
        """The connection is gone."""


class CoordinatorEnd(End, Protocol):
    """A coordinator process with its ``connections`` by the peer at the other end."""

    connections: dict[bytes, Connection]

    def receive(self, connection: Connection, message: Message, damaged: bool) -> None:
        """A message has come in."""

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
