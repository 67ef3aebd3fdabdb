"""How long one node and those below it take for a piece of work: a small play of events. Pure.

The node gives each child its shard, one after the other, does what it can do ahead, and takes in
the answers, one after the other. Whoever computes below it has a processor of its own, or all share
so many (``lab.simulation.processors``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from lab.conditions import Link
from lab.simulation.processors import Processors

NO_LINK = Link()
#: What happens: work has come to a child, a child has computed, an answer has come to the node, and
#: the node has done what it was at.
WORK, COMPUTED, ANSWER, DONE = range(4)
#: What the node does.
SEND, AHEAD, RECEIVE = range(3)


@dataclass(frozen=True)
class Network:
    """``link``: of each worker or aggregator; its jitter and loss are left out. ``trunk``: bytes
    per second and direction that a node's own line carries for all its children, None for any.
    """

    link: Link = NO_LINK
    trunk: float | None = None


@dataclass(frozen=True)
class Child:
    """Of a node: bytes that it is sent and answers with, and seconds from one to the other."""

    down: float
    up: float
    seconds: float


@dataclass(frozen=True)
class Node:
    """Seconds that a node takes to ``send`` to a child, to ``receive`` its answer, and once for
    what it does ``ahead``, when there is nothing else to do, and for its ``step``, when all are in.
    """

    send: float
    receive: float
    ahead: float = 0.0
    step: float = 0.0


def play(
    node: Node,
    network: Network,
    children: Sequence[Child],
    workers: int,
    processors: int | None = None,
) -> float:
    """Seconds from having weights to having done with all answers of these children, or of so many
    workers who do their work: the next one as soon as they have answered.

    ``processors``: that the node and the workers share; None: each has its own.
    """
    return _Play(node, network, children, processors).run(min(workers, len(children)))


class _Play:
    """One piece of work. Children are known by their places."""

    def __init__(
        self, node: Node, network: Network, children: Sequence[Child], processors: int | None
    ) -> None:
        self._costs, self._line, self._children = node, _Line(network), children
        self._seconds = {SEND: node.send, AHEAD: node.ahead, RECEIVE: node.receive}
        self._events: list[tuple[float, int, int, int]] = []  # when, number, what, child or job
        self._number = 0
        self._orders, self._answers = deque[int](), deque[int]()
        self._given = self._taken = 0
        self._at: tuple[int, int] | None = None  # what the node does, and for which child
        self._looks_ahead = node.ahead > 0.0
        number = len(children) + 1 if processors is None else processors
        self._processors = Processors[int](number)

    def run(self, workers: int) -> float:
        """Seconds until all is done."""
        self._orders.extend(range(workers))
        self._given = workers
        now = 0.0
        self._go_on(now)
        while self._events:
            now, _, what, place = heappop(self._events)
            if what == WORK:
                self._processors.begin(place, self._children[place].seconds)
            elif what == COMPUTED:
                if not self._processors.ended(place, now):
                    continue
                self._later(self._line.up(now, self._children[place].up), ANSWER, place)
            elif what == ANSWER:
                self._answers.append(place)
            else:
                self._done(now)
            self._go_on(now)
        return now + self._costs.step

    def _later(self, when: float, what: int, place: int) -> None:
        self._number += 1
        heappush(self._events, (when, self._number, what, place))

    def _done(self, now: float) -> None:
        """The node has done what it was at."""
        job, place = self._at or (AHEAD, -1)
        self._at = None
        if job == SEND:
            self._later(self._line.down(now, self._children[place].down), WORK, place)
        elif job == RECEIVE:
            self._taken += 1
            if self._given < len(self._children):
                self._orders.append(self._given)
                self._given += 1

    def _go_on(self, now: float) -> None:
        """The node begins what is next, and the processors that it leaves are used."""
        if self._at is None and (job := self._next_job()) is not None:
            self._at = job
            self._later(now + self._seconds[job[0]], DONE, job[1])
        for place, end in self._processors.assign(now, self._at is not None):
            self._later(end, COMPUTED, place)

    def _next_job(self) -> tuple[int, int] | None:
        if self._orders:
            return SEND, self._orders.popleft()
        if self._answers:
            return RECEIVE, self._answers.popleft()
        if self._looks_ahead:
            self._looks_ahead = False
            return AHEAD, -1
        return None


class _Line:
    """When what a node sends and is sent comes out at the other end."""

    def __init__(self, network: Network) -> None:
        self._link, self._trunk = network.link, network.trunk
        self._free = [0.0, 0.0]

    def down(self, now: float, size: float) -> float:
        return self._trunked(0, now, size) + self._own(size)

    def up(self, now: float, size: float) -> float:
        return self._trunked(1, now + self._own(size), size)

    def _own(self, size: float) -> float:
        return self._link.delay + (size / self._link.rate if self._link.rate else 0.0)

    def _trunked(self, way: int, now: float, size: float) -> float:
        if not self._trunk:
            return now
        self._free[way] = max(self._free[way], now) + size / self._trunk
        return self._free[way]
