"""Which fault hits whom and when: drawn from a seed, so that a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from lab.conditions import Fault, FaultKind

LONGEST = 5.0  # seconds that a fault stays


@dataclass(frozen=True)
class Kind:
    """A kind of fault. ``target`` is what it hits: a worker, its proxy, the link, the disk ...

    ``lasts`` is false for what is over at once. ``weight`` says how often it is drawn.
    """

    name: FaultKind
    target: str
    weight: float
    lasts: bool


KINDS = (
    Kind(FaultKind.WORKER_KILLED, "worker", 3, lasts=False),
    Kind(FaultKind.WORKER_FROZEN, "worker", 2, lasts=True),
    Kind(FaultKind.WORKER_TERMINATED, "worker", 1, lasts=False),
    Kind(FaultKind.COORDINATOR_KILLED, "coordinator", 1, lasts=False),
    Kind(FaultKind.COORDINATOR_FROZEN, "coordinator", 1, lasts=True),
    Kind(FaultKind.COORDINATOR_TERMINATED, "coordinator", 0.5, lasts=False),
    Kind(FaultKind.CONNECTION_CUT, "proxy", 2, lasts=False),
    Kind(FaultKind.CONNECTION_PARTITIONED, "proxy", 2, lasts=True),
    Kind(FaultKind.CONNECTION_PARTITIONED_ONE_WAY, "proxy", 1, lasts=True),
    Kind(FaultKind.CONNECTION_DELAYED, "proxy", 1, lasts=True),
    Kind(FaultKind.CONNECTION_THROTTLED, "proxy", 1, lasts=True),
    Kind(FaultKind.LINK_DOWN, "link", 2, lasts=True),
    Kind(FaultKind.DISK_FULL, "disk", 1, lasts=True),
    Kind(FaultKind.DISK_READ_ONLY, "disk", 1, lasts=True),
)

KIND_OF = {kind.name: kind for kind in KINDS}


def schedule(seed: int, every: float, targets: dict[str, int]) -> Iterator[Fault]:
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
        yield Fault(at, kind.name, victim, seconds if kind.lasts else 0.0, amount)


def possible(targets: dict[str, int]) -> list[Kind]:
    """The kinds of faults for which there is a target."""
    return [kind for kind in KINDS if targets.get(kind.target)]


def kind_names(kinds: Collection[Kind] = KINDS) -> list[str]:
    """What they are called."""
    return [kind.name for kind in kinds]
