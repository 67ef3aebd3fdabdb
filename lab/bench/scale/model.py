"""How long a step takes with many workers: a small model of events. Pure; nothing is measured here.

One node gives each of its children the weights and documents, one after the other, and takes in
their answers, one after the other. A *star* is one such node, the coordinator, with all workers as
its children. In a *tree* the children are aggregators (``aggregator``), which cut what they are
given for theirs as the coordinator does, and send one sum up. Giving out and taking in cost them
what they cost the coordinator, and towards it each costs what a worker does.

Processes have a processor each, or share so many: whoever is ready first has the next free one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from coordinator.core.sharding import choose_cut
from lab.conditions import Link
from microgpt.optim.reduction import Shard

SEND, WORK, RECEIVE = range(3)
NO_LINK = Link()


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor, and bytes. ``docs/scale.md`` says how they are measured.

    ``step``: of the coordinator in a step, however many workers there are. ``send``, ``receive``:
    for each shard that it gives out and takes in. ``worker``: of a worker for a shard, beside its
    engine, which takes ``call`` and ``document`` for each document. ``crowding``: how many times as
    long a worker takes where all processors of its machine work. ``vector``: bytes of the weights
    or a gradient as a message, ``document_down``, ``document_up``: of each document beside.
    """

    step: float
    send: float
    receive: float
    worker: float
    call: float
    document: float
    crowding: float
    vector: float
    document_down: float
    document_up: float


@dataclass(frozen=True)
class Network:
    """``link``: of each worker or aggregator; its jitter and loss are left out. ``trunk``: bytes
    per second and direction that a node's own line carries for all its children, None for any.
    """

    link: Link = NO_LINK
    trunk: float | None = None


@dataclass(frozen=True)
class Step:
    """A step of ``documents`` with ``workers``, of whom ``busy`` had any. ``seconds``: of it.

    ``sent``, ``received``: bytes at the coordinator. ``computing``: seconds of the slowest worker;
    ``coordinating``: of the coordinator's processor; ``line``: for which its line is busy one way.
    """

    workers: int
    busy: int
    documents: int
    seconds: float
    sent: float
    received: float
    computing: float
    coordinating: float
    line: float

    @property
    def documents_per_second(self) -> float:
        """How fast the run is."""
        return self.documents / self.seconds

    @property
    def bound(self) -> str:
        """What the largest part of a step is spent on; what is left is spent on workers' links."""
        parts = {
            "workers": self.computing,
            "coordinator": self.coordinating,
            "line": self.line,
            "link": self.seconds - self.computing - self.coordinating - self.line,
        }
        return max(parts, key=lambda part: parts[part])


@dataclass(frozen=True)
class Child:
    """Of a node: bytes that it is sent and answers with, and seconds from one to the other."""

    down: float
    up: float
    seconds: float


def star(
    costs: Costs, network: Network, workers: int, documents: int, processors: int | None = None
) -> Step:
    """A step with all workers at the coordinator. ``processors``: that all processes share."""
    cut = [shard.count for shard in _cut(costs, workers, documents)]
    together = 1.0 if processors is None else _crowded(costs, min(len(cut), processors), processors)
    children = [_worker(costs, count, together) for count in cut]
    seconds = fan(costs, network, children, workers, processors) + costs.step
    return _step(costs, network, workers, documents, children, seconds)


def tree(costs: Costs, network: Network, workers: int, documents: int, fan_out: int) -> Step:
    """A step with aggregators of up to ``fan_out`` children, as many levels as it takes.

    Raises ValueError for a fan-out below 2.
    """
    if fan_out < 2:
        raise ValueError(f"a fan-out of {fan_out} makes no tree")
    levels = [min(workers, documents)]  # nodes of each, from the workers upwards
    while levels[-1] > fan_out:
        levels.append(math.ceil(levels[-1] / fan_out))
    children = _below(costs, network, levels, documents)
    seconds = fan(costs, network, children, levels[-1], None) + costs.step
    return _step(costs, network, workers, documents, children, seconds)


def _below(costs: Costs, network: Network, levels: list[int], documents: int) -> list[Child]:
    """What a node has computed below it: a child for each shard, in the order of the cut.

    ``levels``: how many nodes it has on each level, from its workers up to its own children, who
    share the workers equally.
    """
    *lower, number = levels
    if not lower:
        return [_worker(costs, shard.count, 1.0) for shard in _cut(costs, number, documents)]
    below = [math.ceil(nodes / number) for nodes in lower]  # each child
    share = math.ceil(documents / number)
    pace = _aggregator(costs, network, below, share).seconds / share  # as it will have been seen
    beside = costs.worker + costs.send + costs.receive
    counts = [shard.count for shard in choose_cut(documents, [pace] * number, beside)]
    known = {each: _aggregator(costs, network, below, each) for each in set(counts)}
    return [known[count] for count in counts]


def _aggregator(costs: Costs, network: Network, levels: list[int], documents: int) -> Child:
    """One with these levels below it, and what it makes of so many documents."""
    children = _below(costs, network, levels, documents)
    seconds = costs.worker + fan(costs, network, children, levels[-1], None)
    up = costs.vector + documents * costs.document_up
    return Child(costs.vector + documents * costs.document_down, up, seconds)


def fan(
    costs: Costs,
    network: Network,
    children: list[Child],
    workers: int,
    processors: int | None,
) -> float:
    """Seconds from having weights to having all answers of these children, or of so many workers
    who do their work: the next one as soon as they have answered.
    """
    line = _Line(network)
    pool = [0.0] * (processors or 0)
    node = done = 0.0  # when the node is free; when the last answer is in
    waiting = [(0.0, place, SEND, place) for place in range(min(workers, len(children)))]
    heapify(waiting)
    given, number = len(waiting), len(waiting)
    seconds = {SEND: costs.send, RECEIVE: costs.receive}
    while waiting:
        ready, _, kind, place = heappop(waiting)
        takes = children[place].seconds if kind == WORK else seconds[kind]
        begin = ready if kind == WORK else max(ready, node)
        if processors:
            begin = max(begin, heappop(pool))
        end = begin + takes
        if processors:
            heappush(pool, end)
        if kind != WORK:
            node = end
        number += 1
        if kind == SEND:
            heappush(waiting, (line.down(end, children[place].down), number, WORK, place))
        elif kind == WORK:
            heappush(waiting, (line.up(end, children[place].up), number, RECEIVE, place))
        else:
            done = max(done, end)
            if given < len(children):
                heappush(waiting, (end, number, SEND, given))
                given += 1
    return done


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


def _cut(costs: Costs, workers: int, documents: int) -> list[Shard]:
    """As the coordinator cuts a batch for workers that are alike."""
    overhead = costs.call + costs.worker + costs.send + costs.receive
    return choose_cut(documents, [costs.document] * workers, overhead)


def _worker(costs: Costs, documents: int, crowding: float) -> Child:
    seconds = costs.worker + costs.call + documents * costs.document
    return Child(
        costs.vector + documents * costs.document_down,
        costs.vector + documents * costs.document_up,
        seconds * crowding,
    )


def _crowded(costs: Costs, working: int, processors: int) -> float:
    """From 1 where one processor works to ``crowding`` where all do."""
    if processors == 1:
        return 1.0
    return 1.0 + (costs.crowding - 1.0) * (working - 1) / (processors - 1)


def _step(
    costs: Costs,
    network: Network,
    workers: int,
    documents: int,
    children: list[Child],
    seconds: float,
) -> Step:
    sent, received = sum(each.down for each in children), sum(each.up for each in children)
    line = max(sent, received) / network.trunk if network.trunk else 0.0
    busy = min(workers, documents)
    computing = _worker(costs, math.ceil(documents / busy), 1.0).seconds
    coordinating = costs.step + len(children) * (costs.send + costs.receive)
    where = workers, busy, documents, seconds
    return Step(*where, sent, received, computing, coordinating, line)


def crossover(stars: list[Step], trees: list[Step]) -> int | None:
    """The fewest workers of those tried from which on the tree stays faster; None: it never is."""
    found = None
    for one, other in zip(reversed(stars), reversed(trees), strict=True):
        if other.seconds >= one.seconds:
            break
        found = other.workers
    return found
