"""Made records of runs: whatever a page may have to read, without a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from coordinator.core.event_json import to_json
from coordinator.core.events import (
    SCHEMA,
    Answered,
    Assigned,
    Dropped,
    DropReason,
    Event,
    Finished,
    Joined,
    Level,
    Lost,
    Outcome,
    Purpose,
    Ready,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
    StepDone,
)

BEGIN = 1_795_000_000.0  # when the first epoch begins
STEP = 0.01  # seconds of a step
BATCH = 24  # documents of a round, which worker 1 and 2 share: 16 and 8
NAMES = ("ada", "bob")


def epoch(
    first: int, last: int, begin: float, *, end: Outcome | None = None, steps: int = 1000
) -> Iterator[Recorded]:
    """Events of steps ``first`` to ``last``, the first of which is done after ``begin``.

    In each tenth round worker 2 gets worker 1's shard, too, and its answer is not needed.
    """

    def at(seconds: float, step: int, event: Event) -> Recorded:
        return Recorded(begin + seconds, step, event)

    done = first - 1
    yield at(
        0.0, done, Started(SCHEMA, "run", "epoch", done, steps, Level.FULL, BATCH * done)
    )  # fmt: skip
    for number, name in enumerate(NAMES, 1):
        yield at(0.001, done, Joined(number, name, "tape"))
        yield at(0.002, done, Ready(number, name))
    for step in range(first, last + 1):
        for recorded in step_events(step, step - first):
            yield at((step - first + 1) * STEP + recorded.time, recorded.step, recorded.event)
    if end is not None:
        yield at((last - first + 2) * STEP, last, Finished(end, "that is all"))


def step_events(step: int, number: int) -> Iterator[Recorded]:
    """Those of one step, which is round ``number``; times count from its begin."""
    shards = ((number, step - 1, 0, 16, False), (number, step - 1, 16, 8, False))
    before = step - 1
    yield Recorded(0.0, before, RoundOpened(number, before, False, BATCH * before, BATCH))
    for worker, shard in enumerate(shards, 1):
        yield Recorded(
            0.001, before, Assigned(*shard, worker, NAMES[worker - 1], Purpose.WORK)
        )  # fmt: skip
    helped = number % 10 == 9
    yield Recorded(0.004, before, Answered(*shards[1], 2, "bob", False, 0.002, 0.003))
    if helped:
        yield Recorded(0.0045, before, Assigned(*shards[0], 2, "bob", Purpose.BACKUP))
    yield Recorded(0.006, step, Answered(*shards[0], 1, "ada", False, 0.004, 0.005))
    closed = RoundClosed(number, before, False, 2, 2, RoundOutcome.APPLIED, (16, 8), (), 2)
    yield Recorded(0.006, step, closed)
    yield Recorded(0.006, step, StepDone(step, 3.0, 0.006, 2))
    if helped:
        yield Recorded(0.008, step, Dropped(*shards[0], 2, "bob", DropReason.LATE))


def lost(worker: int, step: int, time: float) -> Recorded:
    """A worker goes."""
    return Recorded(time, step, Lost(worker, NAMES[worker - 1], 0))


def lines(events: Iterable[Recorded]) -> str:
    """As they are written down."""
    return "".join(to_json(recorded) + "\n" for recorded in events)


def metrics(first: int, last: int) -> str:
    """Lines of these steps."""
    return "".join(json.dumps(metric(step)) + "\n" for step in range(first, last + 1))


def metric(step: int) -> dict[str, object]:
    """A line: the loss falls from 4 to 2; ten bytes to and twenty from the workers."""
    line: dict[str, object] = {
        "step": step, "loss": 2.0 + 2.0 / step, "lr": 0.01, "documents": BATCH, "tokens": 99,
        "seconds": 0.006, "workers": 2, "shards": 2,
    }  # fmt: skip
    if step % 50 == 0:
        line |= {"validation_loss": 2.5, "validation_seconds": 0.1}
    return {**line, "bytes_sent": 10, "bytes_received": 20}


def config(steps: int = 1000, **distribution: object) -> str:
    """``config.json``."""
    from microgpt.config import TrainingConfig
    from microgpt.model import GPTConfig

    training = TrainingConfig(GPTConfig(5, 1, 2, 2, 2), steps=steps).to_dict()
    training["distribution"] |= distribution
    plain = {"run": "run", "training": training, "promise": "exact", "settings": {},
             "data": {"name": "names", "sha256": "ab" * 32}, "workers": {"number": 2}}  # fmt: skip
    return json.dumps(plain)


def write(path: Path, *parts: Iterable[Recorded], steps: int = 0, **more: object) -> Path:
    """A run directory with these events, and the metrics of so many steps."""
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(config(**more))  # type: ignore[arg-type]  # of a test
    (path / "events.jsonl").write_text("".join(map(lines, parts)))
    (path / "metrics.jsonl").write_text(metrics(1, steps))
    return path
