"""What must hold for the state that a strategy's update gives."""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite

import numpy as np

from microgpt.checkpoint.replicas import MAX_NAME, MAX_PARTS
from microgpt.distribution import MAX_REPLICAS
from microgpt.numerics.vectors import Vector, all_finite
from microgpt.strategies.base import Note, Round, StrategyError
from microgpt.training import TrainingState

#: No training that goes well has as large a weight; the step after it would overflow, and by then
#: nobody would know who has brought it.
LARGEST_WEIGHT = 1e100
FEW = 8192


def note_of(name: object, value: object) -> tuple[str, Note]:
    """What a strategy tells of an update, in Python's own numbers. Raises TypeError."""
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeError(f"a note has a name of one word, not {name!r:.60}")
    numbers = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(number, int | float | np.integer) for number in numbers):
        raise TypeError(f"note {name!r:.60} is no number, nor a tuple of some: {value!r:.60}")
    told = tuple(n if isinstance(n, float) else int(n) for n in numbers)
    as_floats(told)
    return name, told if isinstance(value, tuple) else told[0]


def check_replicas(name: str, open: Iterable[Round], rounds: Iterable[Round]) -> None:
    """Raise StrategyError if the strategy ``name`` opens ``rounds``, beside those that are
    ``open``, in which a replica would have two tasks at once, or is not there.
    """
    busy = {replica for round in open for replica in round.replicas}
    for round in rounds:
        for replica in round.replicas:
            if replica in busy or replica >= MAX_REPLICAS:
                why = "is in an open round already" if replica in busy else "cannot be"
                raise StrategyError(f"{name}: replica {replica} {why}")
            busy.add(replica)


def as_floats(note: Note) -> Note:
    """The same in floats, as records have it. Raises OverflowError for what is too large."""
    return tuple(map(float, note)) if isinstance(note, tuple) else float(note)


def _check_kept(name: str, after: TrainingState) -> None:
    """Raise StrategyError for what a checkpoint could not hold."""
    for key, slot in after.slots.items():
        if not isinstance(key, str) or not key.isprintable() or len(key) > MAX_NAME:
            raise StrategyError(f"{name}: update names a slot {key!r:.60}")
        if not isinstance(slot, np.ndarray) or slot.ndim != 1 or slot.dtype != np.float64:
            raise StrategyError(f"{name}: slot {key!r:.60} is no vector of float64 numbers")
    if len(after.slots) > MAX_PARTS:
        raise StrategyError(f"{name}: update keeps more than {MAX_PARTS} slots")
    if not all(isinstance(loss, float) for loss in after.losses[-1:]):
        raise StrategyError(f"{name}: update gives a loss that is no float")


def _is_credible(params: Vector) -> bool:
    return all_finite(params) and float(np.abs(params).max(initial=0.0)) <= LARGEST_WEIGHT


def _small(numbers: Vector) -> bool:
    """Whether none of a few numbers is beyond ``LARGEST_WEIGHT``, as far as one look tells.

    Half of the time of any other way. Longer vectors would be multiplied by several threads.
    """
    if len(numbers) > FEW:
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # that is what is asked
        return float(numbers.dot(numbers)) <= LARGEST_WEIGHT**2


def check_update(name: str, before: TrainingState, after: object) -> TrainingState:
    """The state ``after`` an update by the strategy ``name``, if it can be one.

    Raises StrategyError if it is not that of the next step, ArithmeticError if a number in it is
    not finite, or a weight beyond ``LARGEST_WEIGHT``.
    """
    if not isinstance(after, TrainingState) or after.step != before.step + 1:
        raise StrategyError(f"{name}: update does not give the state after one step")
    for ours, theirs in (
        (before.params, after.params), (before.m, after.m), (before.v, after.v)
    ):  # fmt: skip
        if not isinstance(theirs, np.ndarray) or theirs.shape != ours.shape:
            raise StrategyError(f"{name}: update gives vectors of another shape")
        if theirs.dtype != np.float64:
            raise StrategyError(f"{name}: update gives vectors of {theirs.dtype}, not of float64")
    _check_kept(name, after)
    kept = after.slots.values()
    credible = _small(after.params) or _is_credible(after.params)
    finite = credible and all(_small(x) or all_finite(x) for x in (after.m, after.v, *kept))
    if not (finite and all(map(isfinite, after.losses[-1:]))):
        raise ArithmeticError(f"step {after.step} makes a weight or the loss infinite")
    return after
