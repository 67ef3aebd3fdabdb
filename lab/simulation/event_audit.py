"""Whether the events of an epoch fit together: rounds, assignments, answers, steps."""

from __future__ import annotations

from coordinator.core.events import (
    Answered,
    Assigned,
    EventBase,
    Failed,
    RoundClosed,
    RoundOpened,
    ShardOfWorker,
    StepDone,
)


class EventAudit:
    """Follows the events of one epoch, in their order, after ``version`` updates."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._open: set[int] = set()  # rounds
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
        elif isinstance(event, StepDone):
            if event.version != self._version + 1:
                return f"version {event.version} is told after version {self._version}"
            self._version = event.version
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
