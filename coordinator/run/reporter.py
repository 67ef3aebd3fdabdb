"""Shows and records what happens in a run: each event and each step, with the time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from coordinator.core.events import SCHEMA, Event, Recorded, Started
from coordinator.core.state import CoordinatorState
from coordinator.run.console import Console
from coordinator.run.run_directory import RunDirectory


class Reporter:
    """Tells ``console`` and ``directory`` of the run that ``state`` leads.

    ``now`` is everywhere the time of the steady clock at which something was seen or decided.
    """

    def __init__(self, state: CoordinatorState, console: Console, directory: RunDirectory) -> None:
        self._state, self._console, self._directory = state, console, directory
        self._steady_to_system = time.time() - time.monotonic()  # one clock for all events
        self._bytes = (0, 0)  # sent and received before this step

    def begin(self, now: float) -> None:
        """An epoch begins."""
        state, steps = self._state, self._state.config.steps
        version, level = state.training.step, state.policy.events
        where = state.run, state.epoch, version, steps, level
        self.record(Started(SCHEMA, *where, state.training.next_document), now)

    def tell(self, event: Event, now: float) -> None:
        """Something has happened."""
        self._console.tell(event)
        self.record(event, now)

    def record(self, event: Event, now: float) -> None:
        """Something has happened that people see in another way."""
        step = self._state.training.step
        self._directory.event(Recorded(self._steady_to_system + now, step, event))

    def step(self, record: Mapping[str, Any], sent: int, received: int) -> None:
        """A step is done; so many bytes have been sent and received since the start."""
        before, self._bytes = self._bytes, (sent, received)
        counts = {"bytes_sent": sent - before[0], "bytes_received": received - before[1]}
        full = {**record, **counts}
        self._directory.step(full)
        self._console.step(full)
