"""What a run meets, in one vocabulary: in the simulation and among real processes alike.

Plain data; ``lab.simulation``, ``lab.faults`` and ``lab.launch`` bring it about, each in its own
way. ``lab.condition_texts`` reads it from flags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

UP, DOWN = "up", "down"  # the directions of a connection: to the coordinator, from the coordinator
BOTH = frozenset((UP, DOWN))

SEGMENT = 1448  # bytes that TCP puts into a packet of Ethernet
LEAST_TIMEOUT, LONGEST_TIMEOUT = 0.2, 120.0  # seconds until a lost segment is sent again (Linux)


@dataclass(frozen=True)
class Link:
    """The way between a worker and the coordinator.

    ``partitioned``: directions in which nothing gets through, while connections stay open.
    ``delay``: seconds that everything takes in one direction, give or take up to ``jitter``.
    ``rate``: bytes per second and direction, or None. ``loss``: the share of segments that is lost,
    and sent again by TCP.
    """

    partitioned: frozenset[str] = frozenset()
    delay: float = 0.0
    rate: float | None = None
    jitter: float = 0.0
    loss: float = 0.0

    def seconds_for(self, num_bytes: int, rng: Random) -> float:
        """How long so many bytes are under way, apart from what ``rate`` makes them wait.

        Where TCP carries them nothing is lost for good: the sender hears of no acknowledgement, and
        sends a lost segment again after its timeout, twice as long each further time. Everything
        behind it waits, as the receiver's order is kept. ``rng`` is only used where it matters.
        """
        seconds = self.delay
        if self.jitter:
            seconds += 2.0 * self.jitter * rng.random() - self.jitter
        if self.loss:
            segments = max(1, -(-num_bytes // SEGMENT))
            chance, timeout = 1.0 - (1.0 - self.loss) ** segments, self.retransmission_timeout
            while rng.random() < chance:
                seconds += timeout
                chance, timeout = self.loss, min(2 * timeout, LONGEST_TIMEOUT)
        return seconds if seconds > 0.0 else 0.0

    @property
    def retransmission_timeout(self) -> float:
        """Seconds after which a sender repeats what was lost: Linux' least, or a round trip."""
        return max(LEAST_TIMEOUT, 2 * self.delay)


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


@dataclass(frozen=True)
class Failures:
    """A worker is killed again and again, and comes back.

    ``mtbf``: mean seconds of work before it is killed, exponentially distributed: whenever one
    looks, the next failure is as far off as ever. ``mttr``: seconds until it is started again.
    """

    mtbf: float
    mttr: float


class OnFailure(StrEnum):
    """What is done when a process has failed.

    ``REPLACE``: it is started again, and the others go on. ``RESTART``: all others are stopped, and
    once the one that has failed is back all start again from the last checkpoint. ``ELASTIC``: the
    same, but the others start again at once, and the one that has failed joins them later.
    """

    REPLACE = "replace"
    RESTART = "restart"
    ELASTIC = "elastic"


@dataclass(frozen=True)
class WorkerConditions:
    """What one worker meets. ``lie``: what it sends in place of its vectors, "" for the truth."""

    link: Link = Link()
    machine: Machine = Machine()
    failures: Failures | None = None
    lie: str = ""


@dataclass(frozen=True)
class Conditions:
    """What the workers of a run meet. ``texts``: the flags that say so, for its record.

    ``of_all``: what each worker meets, but for those numbered (from 1) in ``of_some``.
    ``on_failure``: what is done about those that fail.
    """

    texts: tuple[str, ...] = ()
    of_all: WorkerConditions = WorkerConditions()
    of_some: Mapping[int, WorkerConditions] = field(default_factory=dict)
    on_failure: OnFailure = OnFailure.REPLACE

    def of(self, worker: int) -> WorkerConditions:
        """What worker ``worker`` (from 1) meets."""
        return self.of_some.get(worker, self.of_all)

    @property
    def all(self) -> tuple[WorkerConditions, ...]:
        """All that any worker may meet."""
        return (self.of_all, *self.of_some.values())

    @property
    def have_links(self) -> bool:
        """Whether there is anything on the way between a worker and the coordinator."""
        return any(one.link != Link() for one in self.all)

    @property
    def have_lies(self) -> bool:
        """Whether a worker does not tell the truth."""
        return any(one.lie for one in self.all)
