"""Ways of the learning rate, and of the batch, over a run: strategies of one's own for
``schedules.toml``. ``sync`` lets the rate fall linearly to zero; these are ``sync`` otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from microgpt.strategies.base import Result, Round, View
from microgpt.strategies.sync import Sync
from microgpt.strategies.update import combined, descended, mean_loss
from microgpt.training import TrainingState


@dataclass(frozen=True)
class Schedule(Sync):
    """The rate grows for ``warm`` steps, keeps its size up to a share of ``hold`` of the run, and
    then falls to zero, linearly or as a cosine. Raises ValueError for a share outside [0, 1).
    """

    warm: int = 0
    hold: float = 0.0
    cosine: bool = False

    def __post_init__(self) -> None:
        if self.warm < 0 or not 0.0 <= self.hold < 1.0:
            raise ValueError("warm must be at least 0 and hold a share below 1")

    def rate(self, step: int, steps: int) -> float:
        """The rate of a step, counted from 0, as a share of the whole one."""
        left = min(1.0, (1 - step / steps) / (1 - self.hold))
        if self.cosine:
            left = 0.5 - 0.5 * math.cos(math.pi * left)
        return left * min(1.0, (step + 1) / max(1, self.warm))

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState:
        """The optimizer's step, with this rate in place of the one that falls linearly."""
        made = combined(view, round, results)
        step, steps = view.state.step, view.config.steps
        damping = self.rate(step, steps) / (1 - step / steps)
        return descended(view, made.vector, mean_loss(results), made.slots, damping=damping)


@dataclass(frozen=True)
class GrowingBatch(Sync):
    """The batch grows from a share of ``first`` of its size to the whole at the end, by the same
    factor in each step. Raises ValueError for a share outside (0, 1].
    """

    first: float = 0.25

    def __post_init__(self) -> None:
        if not 0.0 < self.first <= 1.0:
            raise ValueError("first must be a share above 0 and at most 1")

    def open(self, view: View) -> Sequence[Round]:
        """The next batch, once the one before is done."""
        if view.open:
            return ()
        step, config = view.state.step, view.config
        count = max(1, round(config.batch_size * self.first ** (1 - step / config.steps)))
        return (Round(step, view.next_document, count),)

    def following(self, round: Round) -> Round | None:
        """Its size is known once its step is: nobody begins before."""
        return None
