"""Which fault hits whom and when: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

LONGEST = 5.0  # seconds that a fault stays


@dataclass(frozen=True)
class Kind:
    """A kind of fault. ``target`` is what it hits: a worker, its proxy, the link, the disk ...

    ``lasts`` is false for what is over at once. ``weight`` says how often it is drawn.
    """

    name: str
    target: str
    weight: float
    lasts: bool


KINDS = (
    Kind("worker killed", "worker", 3, lasts=False),
    Kind("worker frozen", "worker", 2, lasts=True),
    Kind("worker terminated", "worker", 1, lasts=False),
    Kind("coordinator killed", "coordinator", 1, lasts=False),
    Kind("coordinator frozen", "coordinator", 1, lasts=True),
    Kind("coordinator terminated", "coordinator", 0.5, lasts=False),
    Kind("connection cut", "proxy", 2, lasts=False),
    Kind("connection partitioned", "proxy", 2, lasts=True),
    Kind("connection partitioned one way", "proxy", 1, lasts=True),
    Kind("connection delayed", "proxy", 1, lasts=True),
    Kind("connection throttled", "proxy", 1, lasts=True),
    Kind("link down", "link", 2, lasts=True),
    Kind("disk full", "disk", 1, lasts=True),
    Kind("disk read-only", "disk", 1, lasts=True),
)


@dataclass(frozen=True)
class Planned:
    """A fault to come: ``at`` seconds after the start, for ``seconds`` (0: over at once).

    ``victim`` counts the targets of its kind from 0; ``amount`` in [0, 1) says how bad it is.
    """

    at: float
    kind: Kind
    victim: int
    seconds: float
    amount: float


def schedule(seed: int, every: float, targets: dict[str, int]) -> Iterator[Planned]:
    """Faults without end, ``every`` so many seconds on average, on ``targets`` (how many of each).

    Kinds without a target are left out. Raises ValueError if none is left.
    """
    rng = random.Random(seed)
    kinds = possible(targets)
    if not kinds:
        raise ValueError("there is nothing to harm")
    at = 0.0
    while True:
        at += rng.expovariate(1 / every)
        (kind,) = rng.choices(kinds, [kind.weight for kind in kinds])
        victim = rng.randrange(targets[kind.target])
        # Short faults are hard in other ways than long ones: many of each.
        seconds = rng.choice((0.3, 1.5, LONGEST)) * rng.uniform(0.3, 1.0)
        amount = rng.random()
        yield Planned(at, kind, victim, seconds if kind.lasts else 0.0, amount)


def possible(targets: dict[str, int]) -> list[Kind]:
    """The kinds of faults for which there is a target."""
    return [kind for kind in KINDS if targets.get(kind.target)]


def kind_names(kinds: Collection[Kind] = KINDS) -> list[str]:
    """What they are called."""
    return [kind.name for kind in kinds]
