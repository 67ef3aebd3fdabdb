"""What workers did and when, from the events of a run: who had which shard, and what came of it.

An answer tells how long the engine took. It is taken to have been at work right before the answer
came: how the rest of the time is divided between the way there, the way back and waiting for the
worker's earlier shards is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from coordinator.core.event_text import describe
from coordinator.core.events import (
    Answered,
    Assigned,
    Dropped,
    Event,
    Failed,
    Finished,
    Gone,
    Joined,
    Level,
    Purpose,
    Recorded,
    ShardOfWorker,
    Started,
)


class Lane(NamedTuple):
    """A worker in one epoch of the coordinator: ``number`` is its number there."""

    epoch: int
    number: int


class Span(NamedTuple):
    """A shard that a worker had from ``begin`` to ``end``, in seconds since 1970.

    ``computing``: since when its engine was at work; None if no answer tells. ``outcome``:
    answered, dropped, failed, lost (with the worker), or open (when the epoch ended).
    """

    lane: Lane
    begin: float
    end: float
    computing: float | None
    outcome: str
    shard: Assigned

    @property
    def kind(self) -> str:
        """Why it was computed: work, backup, trial, or evaluation."""
        usual = self.shard.purpose is Purpose.WORK
        return "evaluation" if usual and self.shard.evaluation else str(self.shard.purpose)


class Mark(NamedTuple):
    """Something that happened at a moment; ``lane`` is None if it is about the whole run."""

    lane: Lane | None
    time: float
    event: Event

    @property
    def text(self) -> str:
        """One sentence."""
        return describe(self.event)


class Tracker:
    """Makes spans and marks of events. ``names``: name and engine of each worker so far.

    ``epoch``: the number of the epoch in which the events begin; 0: with the first ``started``.
    """

    def __init__(self, epoch: int = 0) -> None:
        self.names: dict[Lane, tuple[str, str]] = {}
        self._epoch = epoch
        self._open: dict[tuple[int, int, int, bool], tuple[float, Assigned]] = {}
        self._last: dict[int, float] = {}  # when each worker's last answer came
        self._time = 0.0  # of the event before

    def follow(self, events: Iterable[Recorded]) -> Iterator[Span | Mark]:
        """What the events come to, as it ends; shards that nobody has answered at the end."""
        for recorded in events:
            yield from self.take(recorded)
        yield from self._give_up(self._time, "open")

    def take(self, recorded: Recorded) -> Iterator[Span | Mark]:
        """What has ended with one more event. To be read to its end."""
        time, _, event = recorded
        yield from self._take(time, event)
        self._time = time

    def _take(self, time: float, event: Event) -> Iterator[Span | Mark]:
        if isinstance(event, Started):
            yield from self._give_up(self._time, "open")
            self._epoch += 1
            self._last.clear()
        elif isinstance(event, Joined):
            self.names[Lane(self._epoch, event.worker)] = (event.name, event.engine)
        elif isinstance(event, ShardOfWorker):
            yield from self._shard(time, event)
        elif isinstance(event, Gone):
            yield from self._give_up(time, "lost", event.worker)
        elif isinstance(event, Finished):
            yield from self._give_up(time, "open")
        if event.recorded_at is Level.SUMMARY:
            worker = getattr(event, "worker", 0)
            lane = Lane(self._epoch, worker)
            yield Mark(lane if lane in self.names else None, time, event)

    def _shard(self, time: float, event: ShardOfWorker) -> Iterator[Span]:
        key = event.worker, event.round, event.start, event.evaluation
        if isinstance(event, Assigned):
            self._open[key] = (time, event)
            return
        begin, shard = self._open.pop(key, (0.0, None))
        if shard is None:
            return
        computing, outcome = None, "failed" if isinstance(event, Failed) else "dropped"
        if isinstance(event, Answered):
            earliest = max(begin, self._last.get(event.worker, begin))
            computing, outcome = min(max(time - event.seconds, earliest), time), "answered"
        if isinstance(event, Answered | Dropped):
            self._last[event.worker] = time
        yield Span(Lane(self._epoch, event.worker), begin, time, computing, outcome, shard)

    def _give_up(self, time: float, outcome: str, worker: int | None = None) -> Iterator[Span]:
        for key, (begin, shard) in [*self._open.items()]:
            if worker in (None, key[0]):
                del self._open[key]
                lane = Lane(self._epoch, key[0])
                yield Span(lane, begin, max(time, begin), None, outcome, shard)
