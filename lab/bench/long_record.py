"""The record of a long run that was never trained: what a page has to open."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from coordinator.core.event_json import to_json
from coordinator.core.events import (
    SCHEMA,
    Answered,
    Assigned,
    Event,
    Finished,
    Joined,
    Level,
    Outcome,
    Purpose,
    Ready,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
    StepDone,
    WorkerPulse,
)
from microgpt.config import TrainingConfig
from microgpt.model import GPTConfig

BEGUN = 1_795_000_000.0
STEP = 0.0015  # seconds
WORKERS = ("worker-1", "worker-2")
PULSE = 300  # steps between two signs of life


def write_long_record(run_dir: Path, steps: int) -> None:
    """Write a run of so many steps by two workers, with all its events."""
    run_dir.mkdir()
    training = TrainingConfig(GPTConfig(27), steps=steps).to_dict()
    config = {"run": "long", "training": training, "promise": "exact", "settings": {},
              "data": {"name": "names", "sha256": ""}, "workers": {"number": 2}}  # fmt: skip
    (run_dir / "config.json").write_text(json.dumps(config))
    with open(run_dir / "metrics.jsonl", "w") as metrics:
        for step in range(1, steps + 1):
            line = {"step": step, "loss": 2.0 + 1.3 / step, "lr": 0.01, "documents": 32,
                    "tokens": 230, "seconds": STEP, "workers": 2, "shards": 2,
                    "bytes_sent": 70_000, "bytes_received": 68_000}  # fmt: skip
            metrics.write(json.dumps(line) + "\n")
    with open(run_dir / "events.jsonl", "w") as events:
        for recorded in _events(steps):
            events.write(to_json(recorded) + "\n")


def _events(steps: int) -> Iterator[Recorded]:
    started = Started(SCHEMA, "long", "epoch", 0, steps, Level.FULL, 0)
    yield Recorded(BEGUN, 0, started)
    for number, name in enumerate(WORKERS, 1):
        yield Recorded(BEGUN, 0, Joined(number, name, "tape"))
        yield Recorded(BEGUN, 0, Ready(number, name))
    for step in range(1, steps + 1):
        for after, event in _step(step):
            yield Recorded(BEGUN + step * STEP + after, step, event)
    yield Recorded(BEGUN + (steps + 2) * STEP, steps, Finished(Outcome.DONE, "all steps are done"))


def _step(step: int) -> Iterator[tuple[float, Event]]:
    before = step - 1
    yield 0.0, RoundOpened(before, before, False, 32 * before, 32)
    workers = [*enumerate(WORKERS, 1)]
    for number, name in workers:
        shard = before, before, 16 * (number - 1), 16, False
        yield 0.0001, Assigned(*shard, number, name, Purpose.WORK)
    for number, name in workers:
        shard = before, before, 16 * (number - 1), 16, False
        yield 0.001, Answered(*shard, number, name, False, 0.0004, 0.0009)
    yield 0.0012, RoundClosed(before, before, False, 2, 2, RoundOutcome.APPLIED, (16, 16), (), 2)
    yield 0.0012, StepDone(step, 2.0 + 1.3 / step, STEP, 2)
    if step % PULSE == 0:
        for number, name in workers:
            totals = 16 * step, step, 35_000 * step, 34_000 * step, 0.0004 * step, 0.0009 * step
            yield 0.0013, WorkerPulse(number, name, 1, *totals, 0.0003, 0.01)
