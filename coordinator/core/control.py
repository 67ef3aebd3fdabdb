"""What somebody who looks on may ask of a run: a pause, a checkpoint, another learning rate.

A pause changes no bits: no work is given out, what is under way is taken in, and rounds that are
complete are closed. A checkpoint changes none either. A learning rate does: it holds from the next
update on, is recorded with it, and is part of the state from there.
"""

from __future__ import annotations

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.ending import Ending
from coordinator.core.events import (
    Controlled,
    ControlRefused,
    ControlVerb,
    LearningRateChanged,
    Paused,
    Resumed,
)
from coordinator.core.inputs import Asked, Wish
from microgpt.optim.adam import AdamConfig
from microgpt.strategies.base import StrategyError
from microgpt.strategies.driver import RoundDriver
from microgpt.training import TrainingState, base_rate

OF_LOCAL_STEPS = (
    "the learning rate of local steps cannot be changed while a run goes on: workers have been "
    "told it when they joined"
)


class Control:
    """``paused``: whether no work is to be given out."""

    def __init__(self, out: ActionBuffer, driver: RoundDriver, ending: Ending) -> None:
        self._out, self._driver, self._ending = out, driver, ending
        self._paused_at: float | None = None
        self._by = ""  # who has asked for the learning rate that is to come

    @property
    def paused(self) -> bool:
        """Whether no work is to be given out."""
        return self._paused_at is not None

    def take(self, asked: Asked, now: float) -> None:
        """Do what is asked for, unless the run is ending, or say why not."""
        if self._ending.closing is not None:
            return
        version = self._driver.state.step
        if asked.wish is Wish.PAUSE and self._paused_at is None:
            self._paused_at = now
            self._out.tell(Paused(asked.by, version))
        elif asked.wish is Wish.RESUME and self._paused_at is not None:
            self._out.tell(Resumed(asked.by, version, now - self._paused_at))
            self._paused_at = None
        elif asked.wish is Wish.SAVE:
            self._out.tell(Controlled(asked.by, ControlVerb.SAVE, "", 1.0))
            self._ending.save()
        elif asked.wish is Wish.LEARNING_RATE:
            self._change_rate(asked)

    def _change_rate(self, asked: Asked) -> None:
        try:
            rate = AdamConfig(learning_rate=asked.value).learning_rate
            refusal = OF_LOCAL_STEPS if self._driver.works_locally else ""
        except (ValueError, StrategyError) as error:
            refusal = str(error)
        if refusal:
            self._out.tell(ControlRefused(asked.by, Wish.LEARNING_RATE.value, refusal))
            return
        self._by = asked.by
        self._driver.change_rate(rate)

    def tell_rate(self, before: TrainingState, after: TrainingState) -> None:
        """Say so if the update from ``before`` to ``after`` is the first with another rate."""
        if after.learning_rate is not None and after.learning_rate != before.learning_rate:
            was = base_rate(before, self._driver.config.adam.learning_rate)
            told = LearningRateChanged(self._by, before.step, after.learning_rate, was)
            self._out.tell(told)
