"""Strategies as users write them, to be driven by everything that drives a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from microgpt.strategies.base import (
    Promise,
    Result,
    Round,
    StrategyError,
    View,
    sum_of_results,
)
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, advance


@dataclass(frozen=True)
class EverySecond(Sync):
    """``sync``, but each ``every``-th batch is computed in vain: its results are dropped."""

    promise: ClassVar[Promise] = Promise.EXACT
    every: int = 2

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        if round.first // round.count % self.every == self.every - 1:
            return None
        return super().update(view, round, results)


@dataclass(frozen=True)
class OneEach:
    """A round for each idle worker; what is older than ``bound`` updates is dropped."""

    bound: int = 1
    promise: ClassVar[Promise] = Promise.REPLAYABLE

    def open(self, view: View) -> Sequence[Round]:
        size, first = view.config.batch_size, view.next_document
        return [Round(view.state.step, first + i * size, size) for i in range(view.idle)]

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        return sum(result.shard.count for result in results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        if view.state.step - round.version > self.bound:
            return None
        return Sync().update(view, round, results)


@dataclass(frozen=True)
class FirstHalf(Sync):
    """Does not wait for more than half of the documents: theirs count twice."""

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    early: ClassVar[bool] = True

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        return 2 * sum(result.shard.count for result in results) >= round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        total = sum_of_results(results)
        losses = [loss for result in results for loss in result.losses.tolist()]
        return advance(view.config, view.state, total + total, [*losses, *losses])


@dataclass(frozen=True)
class BreaksAt(Sync):
    """``sync``, but ``method`` raises ``error`` in step ``step`` (from 0) if a file says so.

    ``switch``: a path; nothing is raised once nothing stands there.
    """

    method: str = "update"
    step: int = 2
    error: str = "KeyError"
    switch: str = ""

    def open(self, view: View) -> Sequence[Round]:
        self._break("open", view.state.step)
        return super().open(view)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        self._break("enough", round.version)
        return super().enough(round, results)

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        self._break("update", round.version)
        return super().update(view, round, results)

    def _break(self, method: str, step: int) -> None:
        if method == self.method and step == self.step and Path(self.switch).exists():
            raise ERRORS[self.error]("on purpose")


ERRORS = {
    error.__name__: error
    for error in (KeyError, StrategyError, MemoryError, RecursionError, SystemExit)
}
