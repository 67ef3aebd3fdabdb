"""Asking a strategy, whose code may be a user's own: what it raises becomes one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import (
    Result,
    Round,
    Strategy,
    StrategyError,
    View,
    no_lap,
    no_note,
    no_vector,
)
from microgpt.support.user_class import OwnCodeError, line_in

T = TypeVar("T")
MOST_NUMBERS, LONGEST_NAME = 64, 60


@dataclass
class Look:
    """What is seen of one update by somebody who looks closer.

    ``along``: (num_params,) float64, the vector along which the optimizer has gone; None where the
    strategy tells of none. ``numbers``: what the strategy's own ``numbers`` says, and ``problem``
    why it says nothing, in one sentence.
    """

    along: Vector | None = None
    numbers: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    def take(self, vector: Vector) -> None:
        """See ``View.along``. What is no such vector is passed over."""
        if isinstance(vector, np.ndarray):
            self.along = vector


def called(strategy: Strategy) -> str:
    """What people call a strategy."""
    return f"strategy {type(strategy).__name__}"


def takes_by_arrival(strategy: Strategy) -> bool:
    """Whether a strategy takes results in the order in which they come, not in that of shards."""
    return bool(getattr(strategy, "by_arrival", False))


def ask(strategy: Strategy, method: str, call: Callable[[], T]) -> T:
    """A strategy's answer. Raises StrategyError for what its code raises, with the line."""
    try:
        return call()
    except (StrategyError, FloatingPointError):
        raise
    except OwnCodeError as error:  # of an aggregation rule, an optimizer or a compressor
        raise StrategyError(str(error)) from error
    except (Exception, SystemExit) as error:
        raise StrategyError(_blame(strategy, method, error)) from error


def look_closer(
    look: Look, strategy: Strategy, view: View, round: Round, results: Sequence[Result]
) -> None:
    """Ask for the numbers that a strategy has after an update, if it has any. Raises nothing.

    It can change nothing of the run: neither is it heard by the view, nor can it write into what it
    is shown.
    """
    own = getattr(strategy, "numbers", None)
    if not callable(own):
        return
    try:
        look.numbers = _checked(own(_sealed(view), round, _all_sealed(results)))
    except (Exception, SystemExit) as error:
        look.problem = _blame(strategy, "numbers", error)


def _sealed(view: View) -> View:
    state = view.state
    params, m, v = map(_read_only, (state.params, state.m, state.v))
    slots = {name: _read_only(slot) for name, slot in state.slots.items()}
    return replace(
        view,
        state=replace(state, params=params, m=m, v=v, slots=slots),
        sent=None if view.sent is None else _read_only(view.sent),
        gathered=tuple((round, _all_sealed(results)) for round, results in view.gathered),
        lap=no_lap, note=no_note, along=no_vector,
    )  # fmt: skip


def _all_sealed(results: Sequence[Result]) -> list[Result]:
    return [
        replace(each, losses=_read_only(each.losses), vector=_read_only(each.vector))
        for each in results
    ]


def _read_only(vector: Vector) -> Vector:
    sealed = vector.view()
    sealed.flags.writeable = False
    return sealed


def _blame(strategy: Strategy, method: str, error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}{line_in(strategy, method, error)}"
    return f"{called(strategy)}: {method} raises {text}"


def _checked(numbers: object) -> dict[str, float]:
    """Names with numbers, the first ``MOST_NUMBERS``. Raises TypeError for anything else."""
    if not isinstance(numbers, Mapping):
        raise TypeError(f"it gives no names with numbers, but {numbers!r:.60}")
    found: dict[str, float] = {}
    for name, number in [*numbers.items()][:MOST_NUMBERS]:
        if not isinstance(name, str) or not name.isidentifier() or len(name) > LONGEST_NAME:
            raise TypeError(f"a number has a name of one word, not {name!r:.60}")
        if not isinstance(number, int | float | np.integer):
            raise TypeError(f"{name} is no number: {number!r:.60}")
        found[name] = float(number)
    return found
