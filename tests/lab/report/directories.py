"""Tiny run directories for the tests of what shows runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coordinator.core.event_json import to_json
from coordinator.core.events import SCHEMA, Event, Finished, Level, Outcome, Recorded, Started
from microgpt.checkpoint.format import Checkpoint, save
from microgpt.checkpoint.newest import CHECKPOINTS, NEWEST, step_path
from microgpt.config import TrainingConfig
from microgpt.model import GPTConfig
from tests.processes import TINY_MODEL

RUN = "0123456789abcdef"
BEGUN = 1_700_000_000.0
DONE: tuple[Event, ...] = (Finished(Outcome.DONE, "all steps are done"),)


def started(level: Level = Level.FULL) -> Started:
    return Started(SCHEMA, RUN, "fedcba9876543210", 0, 4, level)


def make_run(
    path: Path,
    losses: Sequence[float] = (3.0, 2.5, 2.0, 1.5),
    *,
    events: Sequence[Event | tuple[float, Event]] = DONE,
    conditions: Sequence[str] = (),
    validations: Mapping[int, float] | None = None,
    **training: Any,
) -> Path:
    """A run of four steps. Events are a second apart, or at the seconds that stand before them."""
    path.mkdir(parents=True)
    config = TrainingConfig(GPTConfig(27, **TINY_MODEL), steps=4, batch_size=2, **training)
    write_config(path, config.to_dict(), conditions)
    held_out = validations or {}
    lines = [
        {
            "step": step, "loss": loss, "documents": 2, "seconds": 0.5,
            "bytes_sent": 1000, "bytes_received": 500,
            **({"validation_loss": held_out[step]} if step in held_out else {}),
        }
        for step, loss in enumerate(losses, 1)
    ]  # fmt: skip
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    told = [event if isinstance(event, tuple) else (float(at), event)
            for at, event in enumerate((started(), *events))]  # fmt: skip
    write_events(path, told)
    return path


def write_events(path: Path, told: Sequence[tuple[float, Event]]) -> None:
    """``told``: seconds since the run has begun, and what happened."""
    texts = [to_json(Recorded(BEGUN + at, 0, event)) for at, event in told]
    (path / "events.jsonl").write_text("".join(f"{text}\n" for text in texts))


def write_config(path: Path, training: Any, conditions: Sequence[str] = ()) -> None:
    config = {
        "run": RUN,
        "training": training,
        "promise": "exact",
        "data": {"name": "embedded", "sha256": "ab" * 32, "documents": 9},
        "settings": {"eval_every": 2, "run_dir": str(path)},
        "workers": {"number": 2, "engine": "tape"},
        "conditions": list(conditions),
        "platform": {"libm_sha256": "cd" * 32},
    }
    (path / "config.json").write_text(json.dumps(config))


def add_checkpoints(path: Path, checkpoints: Sequence[Checkpoint]) -> None:
    """Those of a run; the last one is the newest."""
    (path / CHECKPOINTS).mkdir(exist_ok=True)
    for checkpoint in checkpoints:
        save(step_path(path, checkpoint.step), checkpoint)
    save(path / NEWEST, checkpoints[-1])
