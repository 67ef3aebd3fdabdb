"""How long a step takes with many workers, from what its parts cost. Pure; nothing is measured.

One node gives each of its children the weights and documents, one after the other, and takes in
their answers, one after the other (``sharing``). A *star* is one such node, the coordinator, with
all workers as its children. In a *tree* the children are aggregators (``aggregator``), which cut
what they are given for theirs as the coordinator does, and send one sum up. Giving out and taking
in cost them what they cost the coordinator, and towards it each costs what a worker does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from coordinator.core.sharding import choose_cut
from lab.bench.scale.sharing import Child, Network, Node, play
from microgpt.optim.reduction import Shard

COOL = 1024  # documents


@dataclass(frozen=True)
class Costs:
    """Seconds of one processor, and bytes. ``docs/scale.md`` says how they are measured.

    ``step``: of the coordinator in a step, however many workers there are, from the last answer to
    the next weights. ``send``, ``receive``: for each shard that it gives out and takes in.
    ``worker``: of a worker for a shard, beside its engine, which takes ``call`` and for each
    document ``document``. ``vector``: bytes of the weights or a gradient as a message,
    ``document_down``, ``document_up``: of each document beside.

    ``ahead``: of the coordinator in a step, while the workers compute. ``step_document``,
    ``ahead_document``: how much longer ``step`` and ``ahead`` are for each document of the batch,
    up to ``COOL`` documents: arithmetic cools the caches down, and does not make them colder then.
    ``crowding``: how many times as long an engine takes where all processors of its machine work.
    ``switching``: of a worker for a shard, beside, where more processes than processors take turns,
    and ``turns``: how many times as long everything is there than if a processor never stood still
    while somebody waited for one.
    """

    step: float
    send: float
    receive: float
    worker: float
    call: float
    document: float
    vector: float
    document_down: float
    document_up: float
    ahead: float = 0.0
    step_document: float = 0.0
    ahead_document: float = 0.0
    crowding: float = 1.0
    switching: float = 0.0
    turns: float = 1.0


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


def star(
    costs: Costs, network: Network, workers: int, documents: int, processors: int | None = None
) -> Step:
    """A step with all workers at the coordinator. ``processors``: that all processes share."""
    cut = [shard.count for shard in _cut(costs, workers, documents)]
    crowded = crowd(costs, min(workers, len(cut)), processors).applied(costs)
    children = [_worker(crowded, count) for count in cut]
    seconds = play(coordinator_of(crowded, documents), network, children, workers, processors)
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
    seconds = play(coordinator_of(costs, documents), network, children, levels[-1])
    return _step(costs, network, workers, documents, children, seconds)


def _below(costs: Costs, network: Network, levels: list[int], documents: int) -> list[Child]:
    """What a node has computed below it: a child for each shard, in the order of the cut.

    ``levels``: how many nodes it has on each level, from its workers up to its own children, who
    share the workers equally.
    """
    *lower, number = levels
    if not lower:
        return [_worker(costs, shard.count) for shard in _cut(costs, number, documents)]
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
    node = Node(costs.send, costs.receive)
    seconds = costs.worker + play(node, network, children, levels[-1])
    up = costs.vector + documents * costs.document_up
    return Child(costs.vector + documents * costs.document_down, up, seconds)


def _cut(costs: Costs, workers: int, documents: int) -> list[Shard]:
    """As the coordinator cuts a batch for workers that are alike."""
    overhead = costs.call + costs.worker + costs.send + costs.receive
    return choose_cut(documents, [costs.document] * workers, overhead)


class Crowd(NamedTuple):
    """What it costs that others use the same machine: ``engine`` takes so many times as long,
    everything ``turns`` times, and a worker ``switching`` seconds more for each shard.
    """

    engine: float = 1.0
    turns: float = 1.0
    switching: float = 0.0

    def applied(self, costs: Costs) -> Costs:
        """The costs there."""
        turns, engine = self.turns, self.turns * self.engine
        return replace(
            costs, step=turns * costs.step, send=turns * costs.send, ahead=turns * costs.ahead,
            receive=turns * costs.receive, worker=turns * (costs.worker + self.switching),
            call=engine * costs.call, document=engine * costs.document,
            step_document=turns * costs.step_document,
            ahead_document=turns * costs.ahead_document,
        )  # fmt: skip


def crowd(costs: Costs, busy: int, processors: int | None) -> Crowd:
    """Of so many busy workers and their coordinator; an engine is slowed down in proportion to the
    processors at work beside its own.
    """
    if processors is None:
        return Crowd()
    others = min(busy, processors) - 1
    engine = 1.0 + (costs.crowding - 1.0) * others / max(1, processors - 1)
    return Crowd(engine, costs.turns, costs.switching) if busy >= processors else Crowd(engine)


def _worker(costs: Costs, documents: int) -> Child:
    return Child(
        costs.vector + documents * costs.document_down,
        costs.vector + documents * costs.document_up,
        costs.worker + costs.call + documents * costs.document,
    )


def coordinator_of(costs: Costs, documents: int) -> Node:
    """What it takes for a batch of so many documents."""
    cool = min(documents, COOL)
    step, ahead = cool * costs.step_document, cool * costs.ahead_document
    return Node(costs.send, costs.receive, costs.ahead + ahead, costs.step + step)


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
    computing = _worker(costs, math.ceil(documents / busy)).seconds
    node = coordinator_of(costs, documents)
    coordinating = node.step + node.ahead + len(children) * (node.send + node.receive)
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
