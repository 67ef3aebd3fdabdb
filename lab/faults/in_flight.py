"""What each worker has in flight, and how soon others get it, by the events of a run.

The run must record them at level ``full``. They come a moment late, and say exactly when what was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from coordinator.core.events import (
    Answered,
    Assigned,
    Dropped,
    Expelled,
    Failed,
    Joined,
    Left,
    Lost,
    Recorded,
    RoundClosed,
    Silent,
    Started,
)
from lab.event_reader import EventReader

#: Number of a round, and first document of a shard.
Work: TypeAlias = tuple[int, int]
#: Waits until a condition is true, and looks after the run meanwhile.
Until: TypeAlias = Callable[[Callable[[], bool]], None]


class InFlight:
    """Follows the events of ``run_dir``; workers go by their names."""

    def __init__(self, run_dir: Path) -> None:
        self._events = EventReader(run_dir)
        self._busy: set[str] = set()
        self._harmed: dict[str, float] = {}
        self._in_flight: dict[str, set[Work]] = {}
        self._gone: dict[str, float] = {}  # when each was struck off last

    def harmed(self, name: str) -> None:
        """The worker has been harmed: it is not at work until it answers again."""
        self._harmed[name] = time.time()
        self._busy.discard(name)

    def at_work(self, workers: int) -> bool:
        """Whether so many workers have answered since they last joined or were harmed."""
        for recorded in self._events.read():
            self._take(recorded)
        return len(self._busy) == workers

    def strike(self, name: str, blow: Callable[[], None], until: Until) -> float | None:
        """Call ``blow``, which makes a worker fall silent.

        Returns the seconds until another worker has been given what the worker had in flight; None
        if it had nothing that was still needed.
        """
        began = time.time()
        blow()
        handed: list[float] = []

        def settled() -> bool:
            for recorded in self._events.read():
                if not handed and self._is_handed_over(recorded, name, began):
                    handed.append(recorded.time)
                self._take(recorded)
            gone = self._gone.get(name, 0.0) >= began
            return bool(handed) or (gone and not self._in_flight.get(name))

        until(settled)
        return handed[0] - began if handed else None

    def _is_handed_over(self, recorded: Recorded, name: str, began: float) -> bool:
        event = recorded.event
        return (
            isinstance(event, Assigned)
            and event.name != name
            and (event.round, event.start) in self._in_flight.get(name, ())
            and recorded.time >= began
        )

    def _take(self, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, Assigned):
            self._in_flight.setdefault(event.name, set()).add((event.round, event.start))
        elif isinstance(event, Answered | Dropped | Failed):
            self._in_flight.get(event.name, set()).discard((event.round, event.start))
            if isinstance(event, Answered) and recorded.time > self._harmed.get(event.name, 0.0):
                self._busy.add(event.name)
        elif isinstance(event, RoundClosed):
            for works in self._in_flight.values():
                works.difference_update([work for work in works if work[0] == event.round])
        elif isinstance(event, Joined):
            self._in_flight.pop(event.name, None)
            self._busy.discard(event.name)
        elif isinstance(event, Left | Lost | Silent | Expelled):
            self._gone[event.name] = recorded.time
        elif isinstance(event, Started):
            self._in_flight.clear()
            self._busy.clear()
