"""What a page shows of a run, made of its records as they come. Pure: no files, no clocks.

``take`` and ``add_step`` take in records; ``news`` tells what has changed since it was asked last,
as messages of a name and plain values, and ``snapshot`` tells all. They are described in
``docs/page-stream.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from coordinator.core.event_json import kind_of
from coordinator.core.event_text import describe
from coordinator.core.events import (
    Answered,
    Assigned,
    CheckpointSaved,
    Closing,
    Dropped,
    Evaluated,
    Event,
    Failed,
    Level,
    Ready,
    Recorded,
    Started,
    Status,
    StrategyNumbers,
    TensorNorms,
)
from lab.page.courses import Courses
from lab.page.metric_lines import StepLine
from lab.page.roster import Roster
from lab.page.series import Row, Series, columns
from lab.page.standing import Standing
from lab.page.step_times import StepTimes
from lab.report.spans import Span, Tracker

MOST_SPANS = 2000  # of a snapshot
MOST_NEW_SPANS = 400  # of one message: the newest ones, so that none is missing between them
MOST_MARKS = 500
MOST_FREQUENT = 100  # marks of kinds that there may be thousands of
MOST_NEW_FREQUENT = 4  # of those, in one message
MOST_VALIDATIONS = 2000
MOST_SAMPLES = 12
APART = 0.5  # seconds between two messages of state, and of workers
MANY = (Answered, Assigned)
FREQUENT = (CheckpointSaved, Dropped, Failed)
UNMARKED = (Ready, Status, Evaluated, Closing)  # seen elsewhere

Message: TypeAlias = tuple[str, Any]


class Board:
    """One run, of which nothing is known yet."""

    def __init__(self) -> None:
        self.run: dict[str, Any] = {}
        self.standing = Standing()
        self.roster = Roster()
        self.series = Series()
        self.rounds_recorded = False
        self.anew = False  # what viewers have does not hold any more: they need a snapshot
        self._tracker = Tracker()
        self._times = StepTimes()
        self._total = Row(0, 0.0, None, 0.0, 0, 0, 0)
        self._spans: deque[Span] = deque(maxlen=MOST_SPANS)
        self._marks: deque[dict[str, Any]] = deque(maxlen=MOST_MARKS)
        self._frequent: deque[dict[str, Any]] = deque(maxlen=MOST_FREQUENT)
        self._validations: list[list[float | None]] = []  # step, loss, time
        self._samples: deque[dict[str, Any]] = deque(maxlen=MOST_SAMPLES)
        self._courses = Courses()
        self._new: dict[str, list[Any]] = {}
        self._told: dict[str, Any] = {}  # the last message of state, and of workers
        self._told_at: dict[str, float] = {}

    def begin(self, run: Mapping[str, Any], parameters: int, compressed: bool) -> None:
        """What ran; see ``run`` in ``docs/page-stream.md``."""
        if run != self.run:
            self.anew = True  # no other message tells it
            self.run = dict(run)
        self.standing.steps = self.standing.steps or int(run.get("steps", 0))
        self.standing.parameters, self.standing.compressed = parameters, compressed

    # --- records ---------------------------------------------------------------------------------

    def take(self, recorded: Recorded) -> None:
        """An event, in the order of the record."""
        time, step, event = recorded
        self._times.note(step, time)
        for thing in self._tracker.take(recorded):
            if isinstance(thing, Span):
                self._spans.append(thing)
                self.roster.add(thing)
                self._note("spans", thing)
        if isinstance(event, MANY):  # of which there may be thousands a second
            self.standing.step, self.standing.time = step, time
        else:
            self._take_news(time, step, event)

    def _take_news(self, time: float, step: int, event: Event) -> None:
        """An event that says more than that a shard was given out or answered."""
        self.standing.take(time, step, event, kind_of(event))
        self.roster.take(time, event)
        if isinstance(event, Started):
            self.rounds_recorded = event.level is not Level.SUMMARY
        elif isinstance(event, TensorNorms):
            self._new["tensors"] = [self._courses.take_norms(event)]
        elif isinstance(event, StrategyNumbers):
            self._new.setdefault("numbers", []).append(self._courses.take_numbers(event))
        if isinstance(event, FREQUENT) or (
            event.recorded_at is Level.SUMMARY and not isinstance(event, UNMARKED)
        ):
            self._mark(time, step, event)

    def note_time(self, step: int, time: float) -> None:
        """So many steps were done at that time, as an event says that is not taken in."""
        self._times.note(step, time)

    def add_step(self, line: StepLine) -> None:
        """A line of the metrics. One of a step that is known already changes nothing."""
        step, before = line.step, self._total
        if step <= before.step:
            return
        seconds = before.seconds + line.seconds
        row = self._total = Row(
            step,
            line.loss,
            self._times.time_of(step, before.seconds, seconds),
            seconds,
            before.documents + line.documents,
            before.sent + line.sent,
            before.received + line.received,
        )
        self.series.add(row)
        self.standing.add(row, line.shards, line.learning_rate)
        if line.validation is not None:
            found = [step, line.validation, row.time]
            self._validations.append(found)
            if len(self._validations) > MOST_VALIDATIONS:
                del self._validations[1::2]
            self._note("validations", found)

    def forget_steps(self) -> None:
        """The metrics begin anew: they were cut back to a checkpoint."""
        self.anew = self.anew or self.series.last is not None
        self.series = Series()
        self._total = Row(0, 0.0, None, 0.0, 0, 0, 0)
        self._validations.clear()
        self.standing.step = 0

    def add_sample(self, step: int, texts: Sequence[str]) -> None:
        """What the model of a checkpoint invents."""
        sample = {"step": step, "texts": [*texts]}
        self._samples.append(sample)
        self._note("samples", sample)

    def _mark(self, time: float, step: int, event: Event) -> None:
        mark = {
            "time": time, "step": step, "kind": kind_of(event),
            "worker": getattr(event, "worker", 0), "name": getattr(event, "name", ""),
            "text": describe(event), "warning": event.warning,
        }  # fmt: skip
        frequent = isinstance(event, FREQUENT)
        (self._frequent if frequent else self._marks).append(mark)
        self._note("frequent" if frequent else "marks", mark)

    def _note(self, name: str, thing: object) -> None:
        new = self._new.setdefault(name, [])
        new.append(thing)
        if len(new) > 2 * MOST_SPANS:  # nobody asks
            del new[:MOST_SPANS]

    @property
    def last_validation(self) -> float | None:
        """The newest loss of the held-out documents."""
        return self._validations[-1][1] if self._validations else None

    # --- messages --------------------------------------------------------------------------------

    def news(self, now: float, *, last: bool = False) -> list[Message]:
        """What has changed since the last time. ``now``: seconds since 1970.

        State and workers are told of now and then, at once where the phase has changed, and if
        this is the ``last`` time.
        """
        new, self._new = self._new, {}
        found: list[Message] = []
        marks = [*new.get("marks", []), *new.get("frequent", [])[-MOST_NEW_FREQUENT:]]
        if marks:
            found.append(("marks", sorted(marks[-MOST_MARKS:], key=lambda mark: mark["time"])))
        if rows := self.series.take_new():
            found.append(("steps", columns(rows)))
        if "validations" in new:
            found.append(("validations", new["validations"]))
        if spans := new.get("spans"):
            found.append(("spans", [plain_span(span) for span in spans[-MOST_NEW_SPANS:]]))
        found += [("numbers", numbers) for numbers in new.get("numbers", [])[-4:]]
        found += [("tensors", tensors) for tensors in new.get("tensors", [])]
        if "samples" in new:
            found.append(("samples", new["samples"][-MOST_SAMPLES:]))
        state, workers = self._state(now), self._workers(now)
        phase = state["phase"] != self._told.get("state", {}).get("phase")
        for name, value, at_once in (("state", state, phase), ("workers", workers, phase)):
            due = last or at_once or now - self._told_at.get(name, 0.0) >= APART
            if due and self._told.get(name) != value:
                self._told[name], self._told_at[name] = value, now
                found.append((name, value))
        return found

    def snapshot(self, now: float) -> dict[str, Any]:
        """All that a page needs to begin with, but ``boot``."""
        marks = sorted([*self._marks, *self._frequent], key=lambda mark: mark["time"])
        return {
            "run": self.run,
            "state": self._state(now),
            "steps": columns(self.series.thinned()),
            "validations": self._validations,
            "workers": self._workers(now),
            "spans": [plain_span(span) for span in self._spans],
            "marks": marks[-MOST_MARKS:],
            "samples": [*self._samples],
            **self._courses.snapshot(),
            "rounds_recorded": self.rounds_recorded,
            "problem": self.standing.problem,
        }

    def _state(self, now: float) -> dict[str, Any]:
        return self.standing.state(now, self.roster.ready)

    def _workers(self, now: float) -> list[dict[str, Any]]:
        return self.roster.table(now)


def plain_span(span: Span) -> list[Any]:
    """Epoch, worker, begin, computing, end, outcome, kind, round, start, count, version."""
    shard = span.shard
    return [
        span.lane.epoch, span.lane.number, span.begin, span.computing, span.end, span.outcome,
        span.kind, shard.round, shard.start, shard.count, shard.version,
    ]  # fmt: skip
