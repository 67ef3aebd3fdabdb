"""The laws of a training, each with what it says, and how it is tried.

A law is tried by a function that gives "" if it is kept, or else one sentence with what was found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lab.checking import compressor_laws
from lab.checking.subject import Subject
from lab.simulation.arithmetic import STAND_IN, same_state
from lab.simulation.plan import make_plan
from lab.simulation.play import play
from microgpt.checkpoint.format import load, save
from microgpt.compression.base import CompressionError, Compressor
from microgpt.engine import make_engine
from microgpt.strategies import serial
from microgpt.strategies.base import Promise, StrategyError
from microgpt.support.user_class import OwnCodeError, blamed
from microgpt.training import TrainingState, from_checkpoint, initial_state, to_checkpoint

STEPS, BATCH = 6, 8
#: Learning: so many updates of so many documents, after which the mean loss of the last ten is at
#: most ``LEARNED``. Who guesses among the 27 tokens has 3.30 nats; ``sync`` comes to 2.29.
LEARNING_STEPS, LEARNING_BATCH, LEARNED = 120, 16, 3.0
CODEC_SHARE = 0.05  # of the schedules whose messages are really packed

Tell = Callable[[float, float], None]


class Law(NamedTuple):
    """``holds(subject, schedules, tell)`` gives "" or a sentence; ``tell`` hears how far it is."""

    says: str
    holds: Callable[[Subject, range, Tell], str]


def laws_for(subject: Subject) -> list[Law]:
    """The laws for such a thing, the quick ones first."""
    own = [_of_compressor(*law) for law in compressor_laws.LAWS] if subject.compressor else []
    promise = subject.strategy.promise
    resumed = {
        Promise.EXACT: "resumed from a checkpoint, a run has the same bits",
        Promise.REPLAYABLE: "resumed from a checkpoint, a run comes to its end",
    }
    kept = {
        Promise.EXACT: "exact: faults and any number of workers leave the bits as they are",
        Promise.REPLAYABLE: "replayable: whatever the faults, the record gives the same bits again",
    }
    return [
        *own,
        Law("deterministic: twice the same bits", _deterministic),
        Law(resumed[promise], _resumed),
        Law(f"learns: a loss of at most {LEARNED} after {LEARNING_STEPS} updates", _learns),
        Law(kept[promise], _schedules),
    ]


def _of_compressor(says: str, law: Callable[[Compressor], str]) -> Law:
    def holds(subject: Subject, schedules: range, tell: Tell) -> str:
        compressor = subject.compressor
        with blamed("compressor", compressor, "compress", CompressionError):
            return law(compressor) if compressor else ""

    return Law(says, holds)


def verdicts(
    subject: Subject, schedules: range, tell: Callable[[Law], Tell]
) -> Iterator[tuple[Law, str]]:
    """Each law with "" or what was found. ``tell(law)`` hears how far its trial is."""
    for law in laws_for(subject):
        try:
            yield law, law.holds(subject, schedules, tell(law))
        except (ArithmeticError, CompressionError, OwnCodeError, StrategyError) as error:
            yield law, str(error)


def _deterministic(subject: Subject, schedules: range, tell: Tell) -> str:
    one, other = (_states(subject, STEPS, BATCH) for _ in range(2))
    return _first_difference(one, other)


def _resumed(subject: Subject, schedules: range, tell: Tell) -> str:
    config, corpus = subject.training(STEPS, BATCH)
    whole = _states(subject, STEPS, BATCH)
    half = STEPS // 2
    with tempfile.TemporaryDirectory(prefix="microgpt-check-") as folder:
        path = Path(folder) / "checkpoint.msgpack"
        save(path, to_checkpoint(config, whole[half - 1], corpus.tokenizer, {}, "check"))
        state = from_checkpoint(load(path))
    engine = make_engine("tape", config.model)
    rest = list(serial.run(subject.strategy, config, corpus, state, engine))
    if subject.strategy.promise is Promise.REPLAYABLE:  # rounds that were open are begun again
        return "" if rest[-1].step == STEPS else f"it ends after step {rest[-1].step}"
    return _first_difference(whole[half:], rest, half)


def _learns(subject: Subject, schedules: range, tell: Tell) -> str:
    losses = []
    for state in _run(subject, LEARNING_STEPS, LEARNING_BATCH):
        losses.append(state.losses[-1])
        tell(state.step, LEARNING_STEPS)
    last = float(np.mean(losses[-10:]))
    if last <= LEARNED:
        return ""
    return f"the loss falls from {losses[0]:.2f} to {last:.2f} only"


def _schedules(subject: Subject, schedules: range, tell: Tell) -> str:
    for done, seed in enumerate(schedules):
        plan = make_plan(seed, None, CODEC_SHARE)
        plan = replace(plan, batch_size=max(plan.batch_size, subject.least))
        result = play(
            plan, STAND_IN,
            strategy=subject.strategy, distribution=subject.distribution,
        )  # fmt: skip
        if result.problem:
            return f"schedule {seed}: {result.problem}"
        tell(done + 1, len(schedules))
    return ""


def _run(subject: Subject, steps: int, batch: int) -> Iterator[TrainingState]:
    config, corpus = subject.training(steps, batch)
    engine = make_engine("tape", config.model)
    return serial.run(subject.strategy, config, corpus, initial_state(config, corpus), engine)


def _states(subject: Subject, steps: int, batch: int) -> list[TrainingState]:
    return list(_run(subject, steps, batch))


def _first_difference(one: list[TrainingState], other: list[TrainingState], after: int = 0) -> str:
    for step, (ours, theirs) in enumerate(zip(one, other, strict=True), after + 1):
        if not same_state(ours, theirs):
            return f"step {step} has other bits"
    return ""
