"""One run of an experiment with real processes: ``microgpt train``, and what it has recorded."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

from coordinator.core.event_json import EventError
from coordinator.core.events import Outcome, Recorded
from lab.event_reader import EventReader
from lab.experiments import kept_weights
from lab.experiments.checks import LETTERS, located, prepare
from lab.experiments.expansion import Trial
from lab.experiments.measurement import DONE, FAILED, Measurement, measured
from lab.experiments.settings import CONDITIONS
from lab.replay.run_files import METRICS
from lab.report.ending import WORDS, read_ending
from lab.report.reading import RunError, read_steps
from microgpt.checkpoint.container import CheckpointError
from microgpt.checkpoint.format import load
from microgpt.checkpoint.newest import load_newest, step_path, stored_steps
from microgpt.cluster import KEPT, PROGRAM, flags_of
from microgpt.numerics.vectors import Vector, vector_from_bytes
from microgpt.support.environment import PREFIX
from microgpt.support.isolation import isolated

RUN = "run"
#: As events are written; there are many others.
KINDS = tuple(
    f'{{"kind": "{kind}"'.encode() for kind in ("started", "ready", "round_opened", "round_closed")
)


def command(trial: Trial, place: Path, folder: Path) -> list[str]:
    """What starts a run in ``place``; the user's own files are in ``folder``."""
    settings = trial.case.settings
    config = prepare(settings, trial.seed, LETTERS, folder).config
    conditions = [
        word for name in CONDITIONS for text in settings[name] for word in (f"--{name}", text)
    ]
    return isolated(
        PROGRAM, "train", *flags_of(config), *conditions,
        "--data", located(settings, folder)["data"],
        "--engine", settings["engine"], "--eval-every", str(settings["eval_every"]),
        "--workers", str(settings["workers"]), "--run-dir", str(place / RUN),
        "--verify-fraction", str(settings["verify_fraction"]), "--events", "rounds",
        "--checkpoint-every", str(settings["eval_every" if trial.weights else "checkpoint_every"]),
        "--snapshot-every", str(settings["snapshot_every"]),
        "--on-failure", settings["on_failure"],
        "--parent", str(os.getpid()), "--quiet",
    )  # fmt: skip


def environment() -> dict[str, str]:
    """Without the variables that are settings: all of them come from the file."""
    return {k: v for k, v in os.environ.items() if not k.startswith(PREFIX) or k in KEPT}


def collect(place: Path, said: str, wall: float, *, weights: bool = False) -> Measurement:
    """What a run has left that is over. ``said``: its last words, if it could not begin.

    ``weights``: those of evaluated steps are kept.
    """
    run = place / RUN
    ending = read_ending(run)
    done = ending.how == WORDS[Outcome.DONE]
    outcome = DONE if done else FAILED
    reason = "" if done else ending.reason or said or "the run has ended without a word"
    try:
        steps = read_steps(run / METRICS)
        validations, told = dict(steps.validations), _notes(run / METRICS)
        records: list[dict[str, Any]] = [
            {"step": step, "loss": loss, "documents": documents}
            | ({"validation_loss": validations[step]} if step in validations else {})
            | {"strategy": told.get(step, {})}
            for step, loss, documents in zip(
                steps.numbers, steps.losses, steps.documents, strict=True
            )
        ]
        moved = [*zip(accumulate(steps.sent), accumulate(steps.received), strict=True)]
        state = load_newest(run).state_sha256 if done else ""
        if weights and done:
            kept = [step for step in stored_steps(run) if step in validations]
            kept_weights.keeping(place)({step: _weights(run, step) for step in kept})
        return measured(
            records, moved, _events(run),
            outcome=outcome, reason=reason, wall=wall, state_sha256=state,
        )  # fmt: skip
    except (RunError, EventError, CheckpointError, OSError) as error:
        return Measurement(FAILED, reason or str(error), wall)


def _notes(metrics: Path) -> dict[int, dict[str, Any]]:
    """What the strategy has told of each step, in metrics that were read before."""
    with open(metrics, "rb") as file:
        plain = [json.loads(line) for line in file if line.endswith(b"\n")]
    return {line["step"]: line["strategy"] for line in plain if "strategy" in line}


def _weights(run: Path, step: int) -> Vector:
    """Those of a checkpoint. Raises CheckpointError."""
    return vector_from_bytes(load(step_path(run, step)).weights)


def _events(run: Path) -> Iterator[Recorded]:
    wanted = EventReader(run).one_by_one(lambda line: line.startswith(KINDS))
    return (recorded for _, recorded in wanted)
