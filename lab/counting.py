"""What a training in one process takes: vectors, documents, and processor time without evaluations.

Both classes here stand in for what they are given, and decide nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from microgpt.engine.base import Engine
from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import Result, Round, Strategy, View
from microgpt.training import TrainingState


class Counted:
    """A strategy, and how many vectors and documents its closed rounds have taken."""

    def __init__(self, strategy: Strategy, replicas: int) -> None:
        self._strategy, self.promise = strategy, strategy.promise
        self._replicas = replicas
        self.vectors = self.documents = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)

    def open(self, view: View) -> Sequence[Round]:
        """As the strategy does."""
        return self._strategy.open(view)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """As the strategy does."""
        return self._strategy.enough(round, results)

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """As the strategy does."""
        for each in (round, *(gathered for gathered, _ in view.gathered)):
            self.vectors += len(each.replicas) or self._replicas
            self.documents += each.count
        return self._strategy.update(view, round, results)


class Watched:
    """An engine, and the processor seconds that evaluations with it have taken."""

    def __init__(self, engine: Engine) -> None:
        self.gradients, self._engine, self.evaluating = engine.gradients, engine, 0.0

    def losses(self, params: Vector, documents: Sequence[Sequence[int]]) -> tuple[float, ...]:
        """As the engine does."""
        began = time.process_time()
        losses = self._engine.losses(params, documents)
        self.evaluating += time.process_time() - began
        return losses
