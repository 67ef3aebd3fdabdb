"""A run to be measured: started, waited for, struck and ended by the measures."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from coordinator.core.events import Expelled, Joined, Left, Lost, Silent, Started
from lab.event_reader import EventReader
from lab.faults.fleet import Fleet, Plan
from lab.faults.proxy import Observer
from lab.faults.watch import Watch
from microgpt.checkpoint.format import load

LOOK_SECONDS = 0.005
PATIENCE = 300.0  # for what a fleet must do: kernels may have to be compiled first
ENDLESS = 10**8


class ObservationError(Exception):
    """What was to be measured did not happen."""


@dataclass(frozen=True)
class Row:
    """A line of the table: what, how much, and what was hoped for."""

    what: str
    value: str
    goal: str
    good: bool | None = None


@dataclass(frozen=True)
class Setting:
    """Where the runs lie, how they are trained, and how much of everything (1: as reported)."""

    place: Path
    documents: Path
    engine: str
    scale: float = 1.0

    def plan(self, name: str, workers: int, *more: str, steps: int = ENDLESS) -> Plan:
        """A run in a directory of its own."""
        flags = ("--data", str(self.documents), "--steps", str(steps), "--quiet")
        return Plan(self.place / name, workers, (*flags, *more), ("--engine", self.engine))

    def times(self, number: int) -> int:
        """A number of repetitions, scaled."""
        return max(1, round(number * self.scale))


class Running:
    """A fleet that trains, and what can be waited for."""

    def __init__(
        self,
        plan: Plan,
        observers: Callable[[int], Observer] | None = None,
        *,
        direct: bool = False,
    ) -> None:
        self.fleet = Fleet(plan, observers=observers, direct=direct)
        self.watch = Watch(plan.run_dir)
        self._events = EventReader(plan.run_dir)
        self._members: set[str] = set()

    def __enter__(self) -> Running:
        self.fleet.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.fleet.close()
        self.watch.close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Look after the fleet until ``condition()`` is true.

        Raises ObservationError if that takes long.
        """
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise ObservationError("the run does not come to where it should")
            self.fleet.look_after()
            self.watch.look()
            time.sleep(LOOK_SECONDS)

    def rest(self, seconds: float) -> int:
        """Let it train for so long; returns the steps done."""
        done, end = self.watch.done, time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)
        return self.watch.done - done

    def first_step(self) -> float:
        """Seconds until a further step is done."""
        began = time.monotonic()
        self.watch.look()  # what was done before is none
        done = self.watch.done
        self.until(lambda: self.watch.done > done)
        return self.watch.last - began

    def reach(self, step: int) -> None:
        """Until so many steps are done."""
        self.until(lambda: self.watch.step >= step)

    def all_work(self) -> None:
        """Until every worker is a member again."""
        self.until(lambda: self._count_members() == len(self.fleet.workers))

    def _count_members(self) -> int:
        for event in (recorded.event for recorded in self._events.read()):
            if isinstance(event, Started):
                self._members.clear()
            elif isinstance(event, Joined):
                self._members.add(event.name)
            elif isinstance(event, Left | Lost | Silent | Expelled):
                self._members.discard(event.name)
        return len(self._members)

    def end(self) -> str:
        """Let the run end; returns its digest."""
        deadline = time.monotonic() + PATIENCE
        while not self.fleet.look_after():
            self.watch.look()
            if time.monotonic() > deadline:
                raise ObservationError("the run does not end")
            time.sleep(LOOK_SECONDS)
        self.fleet.finish()
        return load(self.fleet.plan.run_dir / "checkpoint.msgpack").state_sha256


def spread(seconds: list[float]) -> str:
    """Median and worst of some times."""
    if not seconds:
        return "not once measured"
    middle, worst = 1000 * statistics.median(seconds), 1000 * max(seconds)
    return f"median {middle:.0f} ms, worst {worst:.0f} ms of {len(seconds)}"


def freezer(pid: int) -> Callable[[], None]:
    """What stops a process."""
    return lambda: os.kill(pid, signal.SIGSTOP)
