"""Workers that fail as ``--fail`` says, in virtual time, and what ``--on-failure`` does about it.

``lab.launch.supervisor`` does the same to real processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol

from lab.conditions import Conditions, Failures, OnFailure
from lab.simulation.clock import Clock
from lab.simulation.plan import Plan
from lab.simulation.processes import VirtualCoordinator, VirtualWorker


class FailingPlace(Protocol):
    """Where workers run that may fail."""

    worker: VirtualWorker | None

    def start(self) -> None:
        """Start a worker, unless one runs."""


class FailingWorld(Protocol):
    """The world that such places are in."""

    plan: Plan
    clock: Clock
    conditions: Conditions
    coordinator: VirtualCoordinator | None
    stopping: bool  # processes end now that whoever ends them will start again

    @property
    def slots(self) -> Sequence[FailingPlace]:
        """All places."""

    def start_coordinator(self) -> None:
        """Start a coordinator from the newest checkpoint, unless one runs."""


class Failing:
    """Kills the workers of ``place``, the ``number``-th from 1; without ``failures`` none."""

    def __init__(
        self, world: FailingWorld, place: FailingPlace, number: int, failures: Failures | None
    ) -> None:
        self._world, self._place, self._failures = world, place, failures
        self._rng = Random(f"{world.plan.seed} fail {number}")

    def begins(self, worker: VirtualWorker) -> None:
        """A worker begins: its end is drawn."""
        if self._failures is not None:
            seconds = self._rng.expovariate(1.0 / self._failures.mtbf)
            self._world.clock.after(seconds, self._fail, worker, self._failures.mttr)

    def _fail(self, worker: VirtualWorker, mttr: float) -> None:
        """Kill this worker, if it still runs, and see to it that all goes on."""
        world, place = self._world, self._place
        if place.worker is not worker or not worker.alive:
            return
        policy, starts = world.conditions.on_failure, world.plan.start_seconds
        world.stopping = True
        worker.kill()
        world.clock.after(mttr + starts, place.start)
        if policy is not OnFailure.REPLACE:
            seconds = starts + (mttr if policy is OnFailure.RESTART else 0.0)
            if world.coordinator is not None:
                world.coordinator.kill()
                world.clock.after(seconds, world.start_coordinator)
            for other in world.slots:
                if other.worker is not None:
                    other.worker.kill()
                    world.clock.after(seconds, other.start)
        world.stopping = False
