"""What must hold for the state that a strategy's update gives."""

from __future__ import annotations

from math import isfinite

import numpy as np

from microgpt.numerics.vectors import all_finite
from microgpt.strategies.base import StrategyError
from microgpt.training import TrainingState


def check_update(name: str, before: TrainingState, after: object) -> TrainingState:
    """The state ``after`` an update by the strategy ``name``, if it can be one.

    Raises StrategyError if it is not that of the next step, ArithmeticError if a number in it is
    not finite.
    """
    if not isinstance(after, TrainingState) or after.step != before.step + 1:
        raise StrategyError(f"{name}: update does not give the state after one step")
    for ours, theirs in (
        (before.params, after.params), (before.m, after.m), (before.v, after.v)
    ):  # fmt: skip
        if not isinstance(theirs, np.ndarray) or theirs.shape != ours.shape:
            raise StrategyError(f"{name}: update gives vectors of another shape")
    kept = after.slots.values()
    finite = all(all_finite(numbers) for numbers in (after.params, after.m, after.v, *kept))
    if not (finite and all(map(isfinite, after.losses[-1:]))):
        raise ArithmeticError(f"step {after.step} makes a weight or the loss infinite")
    return after
