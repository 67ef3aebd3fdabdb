"""How long runs will take, roughly: by rule of thumb, then by those that are over. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.conditions import Conditions
from lab.experiments.expansion import Trial

START = 0.4  # seconds until a process is at work
START_REAL = 1.5  # and a coordinator with its workers
HELD_OUT = 5_000  # documents of which a share is held out
DOCUMENT = 8e-6  # seconds that the tape engine takes at width 16
SCALAR = 10_000  # times as long takes the scalar engine
MESSAGE = 1.0e-4  # seconds for packing and unpacking at width 16
STEP = 1.0e-3  # seconds of a real step beside its documents


def guess(trial: Trial, local_steps: int, conditions: Conditions) -> float:
    """Seconds that a run takes, by rule of thumb. ``local_steps``: of its strategy, 1 for none."""
    settings = trial.case.settings
    steps, size = settings["steps"], settings["n_layer"] * (settings["n_embd"] / 16) ** 1.5
    documents = steps * settings["batch_size"] * local_steps
    evaluations = steps // settings["eval_every"] + 1
    documents += 0.5 * evaluations * HELD_OUT * settings["validation_fraction"]
    computing = documents * DOCUMENT * size * (SCALAR if settings["engine"] == "scalar" else 1)
    if trial.simulation is not None:
        messages = steps * 3 * max(settings["workers"], settings["replicas"])
        return float(START + computing + messages * MESSAGE * max(1.0, size))
    slowest = max(one.machine.slowness for one in conditions.all)
    away = max(2 * one.link.delay for one in conditions.all)
    return float(START_REAL + computing * slowest + steps * (STEP + away))


def calibrated(guesses: Sequence[float], took: Sequence[float]) -> float:
    """By what to multiply guesses, as runs that are over tell. 1.0 if there are none."""
    return sum(took) / sum(guesses) if sum(guesses) > 0 else 1.0


def total(trials: Iterable[tuple[Trial, float]], jobs: int, *, alone: bool) -> float:
    """Seconds for all of them, with so many at once where that is allowed."""
    virtual, others = list[float](), list[float]()
    for trial, seconds in trials:
        (others if trial.simulation is None else virtual).append(seconds)
    return _side_by_side(virtual, jobs) + _side_by_side(others, 1 if alone else jobs)


def _side_by_side(seconds: Sequence[float], jobs: int) -> float:
    return max(sum(seconds) / jobs, max(seconds, default=0.0))
