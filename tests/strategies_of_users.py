"""Strategies as users write them, to be driven by everything that drives a strategy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState


@dataclass(frozen=True)
class EverySecond(Sync):
    """``sync``, but each ``every``-th batch is computed in vain: its results are dropped."""

    promise: ClassVar[Promise] = Promise.EXACT
    every: int = 2

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        if round.first // round.count % self.every == self.every - 1:
            return None
        return super().update(view, round, results)
