"""What a run meets, in one vocabulary: in the simulation and among real processes alike.

Plain data; ``lab.simulation`` and ``lab.faults`` bring it about, each in its own way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

UP, DOWN = "up", "down"  # the directions of a connection: to the coordinator, from the coordinator
BOTH = frozenset((UP, DOWN))


@dataclass(frozen=True)
class Link:
    """The way between a worker and the coordinator.

    ``partitioned``: directions in which nothing gets through, while connections stay open.
    ``delay``: seconds that everything takes. ``rate``: bytes per second and direction, or None.
    """

    partitioned: frozenset[str] = frozenset()
    delay: float = 0.0
    rate: float | None = None


@dataclass(frozen=True)
class Machine:
    """Where a process runs. ``slowness``: how many times as long as usual computing takes."""

    slowness: float = 1.0


@dataclass(frozen=True)
class Disk:
    """Where checkpoints are written. ``full``: nothing can be. ``seconds``: what a file takes."""

    full: bool = False
    seconds: float = 0.0


class FaultKind(StrEnum):
    """What can go wrong; what is ``partitioned``, ``cut`` or ``frozen`` is so wherever it is."""

    WORKER_KILLED = "worker killed"
    WORKER_VANISHED = "worker vanished"  # with its machine: nobody ends its connection
    WORKER_FROZEN = "worker frozen"
    WORKER_TERMINATED = "worker terminated"
    WORKER_SLOW = "worker slow"
    WORKER_CLOCK_JUMPS = "worker's clock jumps"
    WORKER_JOINS = "worker joins"
    COORDINATOR_KILLED = "coordinator killed"
    COORDINATOR_KILLED_WRITING = "coordinator killed in a write"
    COORDINATOR_FROZEN = "coordinator frozen"
    COORDINATOR_TERMINATED = "coordinator terminated"
    COORDINATOR_CLOCK_JUMPS = "coordinator's clock jumps"
    CONNECTION_CUT = "connection cut"
    CONNECTION_PARTITIONED = "connection partitioned"
    CONNECTION_PARTITIONED_ONE_WAY = "connection partitioned one way"
    CONNECTION_DELAYED = "connection delayed"
    CONNECTION_THROTTLED = "connection throttled"
    CONNECTION_CORRUPT = "connection corrupt"
    ALL_PARTITIONED = "all connections partitioned"
    LINK_DOWN = "link down"
    DISK_FULL = "disk full"
    DISK_READ_ONLY = "disk read-only"
    DISK_SLOW = "disk slow"
    FILE_DAMAGED = "file damaged"


@dataclass(frozen=True)
class Fault:
    """``kind`` happens ``at`` seconds after the start, for ``seconds`` (0: over at once).

    ``victim`` counts what it can hit from 0; ``amount`` in [0, 1) says how bad it is.
    """

    at: float
    kind: FaultKind
    victim: int
    seconds: float
    amount: float
