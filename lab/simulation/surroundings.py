"""What a virtual process may use of the world around it; ``lab.simulation.world`` provides it.

Processes know these two protocols and not the world itself: the world starts them, so that they
would import each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any, Protocol

from coordinator.core.actions import Finish
from coordinator.core.events import EventBase
from coordinator.core.state import CoordinatorState
from lab.simulation.arithmetic import ReferenceRun
from lab.simulation.clock import Clock
from lab.simulation.disk import Disk
from lab.simulation.event_file import EventFile
from lab.simulation.network import Connection, CoordinatorEnd, Host, Network, WorkerEnd
from lab.simulation.plan import Plan
from microgpt.replicas.byzantine import Knowledge
from worker.state import Job, Leave


class Surroundings(Protocol):
    """The world: what all processes share, and whom they report to."""

    plan: Plan
    reference_run: ReferenceRun
    rng: Random
    clock: Clock
    network: Network
    disk: Disk
    knowledge: Knowledge | None  # of liars, about honest vectors
    events: EventFile

    def coordinator_gone(self, *, killed: bool, finish: Finish | None = None) -> None:
        """The coordinator process has ended, by itself with ``finish``."""

    def step_done(self, record: Mapping[str, Any], state: CoordinatorState) -> None:
        """A step has been applied; ``record`` is its line of metrics."""

    def judging(self) -> None:
        """A shard is about to be computed on the coordinator's host."""

    def told(self, event: EventBase) -> None:
        """The coordinator tells of something."""

    def check_told(self, event: EventBase) -> None:
        """Whoever gives out work tells of something that may not be."""

    def audit(self, state: CoordinatorState) -> None:
        """Check what must hold at any time."""

    def broken(self, what: str) -> None:
        """An invariant is violated. Raises InvariantViolationError."""


class Place(Protocol):
    """Where a worker process runs, one after the other."""

    name: str
    lie: str
    host: Host
    connections: list[Connection]

    @property
    def above(self) -> CoordinatorEnd | None:
        """Where a worker here connects to now: a coordinator, or an aggregator, if one runs."""

    def worker_gone(self, worker: WorkerEnd) -> None:
        """A worker process has ended."""

    def left(self, leave: Leave) -> None:
        """A worker ends by its own will."""

    def seconds_for(self, job: Job) -> float:
        """How many virtual seconds a job takes here."""
