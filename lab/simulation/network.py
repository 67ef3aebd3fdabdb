"""A virtual network between workers and the coordinator, with the manners of ZeroMQ over TCP.

On one connection messages keep their order, and arrive or are lost with it. A partition holds them
back. What a connection that is gone had under way may still arrive, later than words on a newer
one, and its last words may arrive twice: ZeroMQ does not do that, but nothing here rests on it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from coordinator.core.tally import Traffic
from lab.conditions import DOWN, UP, Link
from lab.simulation.clock import Clock
from microgpt.protocol.messages import Message, Weights, decode, encode

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

    __slots__ = ("corrupt", "free", "link", "usual")

    def __init__(self, usual: Link = GOOD) -> None:
        self.usual = self.link = usual
        self.free = {UP: 0.0, DOWN: 0.0}  # when all is sent that waits for the link's rate
        self.corrupt: list[str] = []  # directions of which the next message is damaged, for each

    def damages(self, way: str) -> bool:
        """Whether a message that comes out this way now is damaged: each time is counted off."""
        damaged = way in self.corrupt
        if damaged:
            self.corrupt.remove(way)
        return damaged


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
        #: The last weights, as they come out, and how many bytes they have had.
        self._weights: tuple[Message | None, Message, int] = None, Message("", ""), 0

    def pack(self, peer: bytes, way: str, message: Message) -> tuple[Message, int]:
        """What comes out of a message that is really packed, and how many bytes it has had."""
        if isinstance(message, Weights):  # the same for many: packed once, as in production
            if self._weights[0] is not message:
                self._weights = message, *_packed(message)
            _, unpacked, size = self._weights
        else:
            unpacked, size = _packed(message)
        self.bytes[way] += size
        self._of_peers[peer, way] += size
        return unpacked, size

    def traffic(self, peer: bytes) -> Traffic:
        """What a worker was sent and has sent, of what was packed."""
        return Traffic(self._of_peers[peer, DOWN], self._of_peers[peer, UP])

    def watch(self, connection: Connection, way: str) -> None:
        """Nothing gets through this way from now on: its receiver may give the connection up."""
        if self.detects:
            patience = DETECTION[way] + self.rng.uniform(0.0, 0.5)
            self.clock.after(patience, connection.give_up, way)


def _packed(message: Message) -> tuple[Message, int]:
    packed = encode(message)
    return decode(packed), len(packed)


class Way:
    """One direction of a connection, ``name``.

    ``open``: whether its receiver still has the connection. ``arrival``: when the last message that
    was sent comes out, ``held`` what a partition keeps back, ``recent`` what may come twice.
    """

    __slots__ = ("arrival", "held", "name", "open", "recent")

    def __init__(self, name: str) -> None:
        self.name, self.open, self.arrival = name, True, 0.0
        self.held: list[Message] = []
        self.recent: list[Message] = []


class Connection:
    """Between one worker process and one coordinator process. See the module.

    There are thousands, which are met in no order: what a message needs lies close together.
    """

    __slots__ = ("coordinator", "down", "host", "network", "peer", "up", "worker")

    def __init__(
        self, network: Network, host: Host, ends: tuple[WorkerEnd, CoordinatorEnd]
    ) -> None:
        self.network, self.host = network, host
        self.worker, self.coordinator = ends
        self.peer = self.worker.peer
        self.up, self.down = Way(UP), Way(DOWN)

    def way(self, name: str) -> Way:
        """The direction of this name."""
        return self.up if name == UP else self.down

    @property
    def over(self) -> bool:
        """Whether both ends have lost it."""
        return not (self.up.open or self.down.open)

    def send(self, name: str, message: Message) -> None:
        """Put a message on the way, if the sender still has the connection."""
        way, back = (self.up, self.down) if name == UP else (self.down, self.up)
        if not back.open:
            return
        network = self.network
        network.sent += 1
        size = 0
        if network.codec:
            message, size = network.pack(self.peer, name, message)
        link, clock = self.host.link, network.clock
        if link.rate or link.loss:
            arrival = self._arrives(name, size or len(encode(message)))
        elif link.jitter:  # ``Link.seconds_for`` where nothing is lost, as for nearly all messages
            seconds = link.delay + (2.0 * link.jitter * network.rng.random() - link.jitter)
            arrival = clock.now + (seconds if seconds > 0.0 else 0.0)
        else:
            arrival = clock.now + link.delay
        if arrival < way.arrival:
            arrival = way.arrival
        way.arrival = arrival
        clock.after(arrival - clock.now, self._arrive, way, message)

    def _arrives(self, name: str, size: int) -> float:
        """When so many bytes that are sent now come out of a link for which that matters."""
        link, host = self.host.link, self.host
        sent = self.network.clock.now
        if link.rate:
            sent = host.free[name] = max(sent, host.free[name]) + size / link.rate
        return sent + link.seconds_for(size, self.network.rng)

    def _arrive(self, way: Way, message: Message) -> None:
        host = self.host
        if not way.open:
            self._perhaps_later(way, message, self.network.stale)
        elif way.held or (host.link.partitioned and way.name in host.link.partitioned):
            way.held.append(message)
        else:
            recent = way.recent
            recent.append(message)
            if len(recent) > RECENT:
                del recent[0]
            damaged = bool(host.corrupt) and host.damages(way.name)
            end = self.coordinator if way is self.up else self.worker
            if end.alive and not end.frozen:
                end.receive(self, message, damaged)
            else:
                end.deliver(end.receive, self, message, damaged)

    def _come_late(self, way: Way, message: Message) -> None:
        end = self.coordinator if way is self.up else self.worker
        end.deliver(end.receive, self, message, False)

    def heal(self, name: str) -> None:
        """What a partition has held back arrives now."""
        way = self.way(name)
        held, way.held = way.held, []
        for message in held:
            self._arrive(way, message)

    def give_up(self, name: str) -> None:
        """The receiver has heard nothing for too long, if that is still so."""
        sender: End = self.worker if name == UP else self.coordinator
        if name in self.host.link.partitioned or sender.frozen or not sender.alive:
            self.lose(name)

    def lose(self, name: str) -> None:
        """The receiver of this way has the connection no more; the other end hears of it later."""
        way = self.way(name)
        if not way.open:
            return
        way.open = False
        network = self.network
        way.held.clear()
        for message in way.recent:
            self._perhaps_later(way, message, network.twice)
        if name == UP:
            self.coordinator.deliver(self.coordinator.lost, self)
        else:
            self.worker.deliver(self.worker.lost, self)
        slow = network.rng.random() < UNNOTICED
        delay = network.rng.uniform(0.0, LATE if slow else 0.02)
        network.clock.after(delay, self.tell_end, OTHER[name])

    def _perhaps_later(self, way: Way, message: Message, chance: float) -> None:
        if self.network.rng.random() < chance:
            late = self.network.rng.uniform(0.0, LATE)
            self.network.clock.after(late, self._come_late, way, message)

    def tell_end(self, name: str) -> None:
        """The receiver of this way hears that the other end is gone, if it has not yet."""
        receiver: End = self.coordinator if name == UP else self.worker
        if not self.way(name).open or not receiver.alive:
            return
        if name in self.host.link.partitioned:
            self.network.clock.after(RETRY, self.tell_end, name)
        else:
            self.lose(name)


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

    def receive(self, connection: Connection, message: Message, damaged: bool) -> None:
        """A message has come in."""


class WorkerEnd(End, Protocol):
    """A worker process: ``peer`` is the name that the coordinator knows it by."""

    peer: bytes

    def lost(self, connection: Connection | None = None) -> None:
        """The connection is gone."""


class CoordinatorEnd(End, Protocol):
    """A coordinator process with its ``connections`` by the peer at the other end."""

    connections: dict[bytes, Connection]

    def lost(self, connection: Connection) -> None:
        """A connection is gone."""
