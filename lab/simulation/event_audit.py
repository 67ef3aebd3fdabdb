"""Whether the events of an epoch fit together: rounds, assignments, answers, steps."""

from __future__ import annotations

from coordinator.core.events import (
    Answered,
    Assigned,
    EventBase,
    Failed,
    NumbersFailed,
    RoundClosed,
    RoundOpened,
    ShardOfWorker,
    StepDone,
    WorkerPulse,
)

ROUNDING = 1e-6  # seconds


class EventAudit:
    """Follows the events of one epoch, in their order, after ``version`` updates."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._open: set[int] = set()  # rounds
        self._totals: dict[int, tuple[int, int, float, float]] = {}  # of each worker's last pulse
        self._assigned: set[tuple[int, int, int]] = set()  # worker, round, first document

    def take(self, event: EventBase) -> str:
        """The next event. Returns what is wrong with it; "" if nothing is."""
        if isinstance(event, ShardOfWorker):
            return self._take_of_shard(event)
        if isinstance(event, RoundOpened):
            self._open.add(event.round)
        elif isinstance(event, RoundClosed):
            if event.round not in self._open:
                return f"round {event.round} is closed and was not open"
            self._open.remove(event.round)
            if not 0 < event.results <= event.shards:
                return f"round {event.round} has {event.results} results of {event.shards} shards"
        elif isinstance(event, NumbersFailed):
            return event.reason
        elif isinstance(event, WorkerPulse):
            return self._take_pulse(event)
        elif isinstance(event, StepDone):
            if event.version != self._version + 1:
                return f"version {event.version} is told after version {self._version}"
            self._version = event.version
        return ""

    def _take_pulse(self, pulse: WorkerPulse) -> str:
        totals = pulse.documents, pulse.answers, pulse.computing, pulse.waited
        before = self._totals.get(pulse.worker, (0, 0, 0.0, 0.0))
        self._totals[pulse.worker] = totals
        if any(now < then for now, then in zip(totals, before, strict=True)):
            return f"totals of {pulse.name} have fallen from {before} to {totals}"
        if pulse.computing > pulse.waited + ROUNDING:
            return f"{pulse.name} has computed for longer than it had work: {pulse}"
        return ""

    def _take_of_shard(self, event: ShardOfWorker) -> str:
        key = event.worker, event.round, event.start
        if isinstance(event, Assigned):
            if event.round not in self._open:
                return f"a shard of round {event.round} is assigned, which is not open"
            self._assigned.add(key)
        elif isinstance(event, Answered | Failed) and key not in self._assigned:
            return f"{event.name} answers what it was not assigned: {event}"
        elif isinstance(event, Answered) and not (event.trial or event.round in self._open):
            return f"an answer is taken in for round {event.round}, which is not open"
        return ""
