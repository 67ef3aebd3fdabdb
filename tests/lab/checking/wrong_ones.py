"""Strategies and compressors that break one law each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from microgpt.compression.base import Compressor
from microgpt.compression.f32 import F32
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes
from microgpt.strategies.base import Result, Round, View
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState

SEEN: Counter[str] = Counter()


def moved(state: TrainingState | None, by: float) -> TrainingState | None:
    return state and replace(state, params=state.params + by)


@dataclass(frozen=True)
class Counts(Sync):
    """Remembers beside its state how often it was asked: not deterministic."""

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        SEEN["updates"] += 1
        return moved(super().update(view, round, results), 1e-9 * SEEN["updates"])


@dataclass(frozen=True)
class Grows(Sync):
    """Takes part of its answer from a number that no checkpoint has."""

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        SEEN["step"] = 1 if view.state.step == 0 else SEEN["step"] + 1
        after = moved(super().update(view, round, results), 1e-9 * SEEN["step"])
        if view.state.step + 1 == view.config.steps:
            SEEN["step"] = 100
        return after


@dataclass(frozen=True)
class Looks(Sync):
    """Says that it is exact, and lets the number of workers decide."""

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        return moved(super().update(view, round, results), 1e-9 * view.workers)


@dataclass(frozen=True)
class Sleeps(Sync):
    """Leaves the weights as they are."""

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        after = super().update(view, round, results)
        return after and replace(after, params=view.state.params)


@dataclass(frozen=True)
class Raises(Sync):
    """Has a mistake in a line of its own."""

    def open(self, view: View) -> Sequence[Round]:
        return [*super().open(view), view.nothing]  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Stammers(Sync):
    """Has a mistake in what it says of itself."""

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> dict[str, float]:
        return {"share": 1.0 / view.state.step}


@dataclass(frozen=True)
class Longer(F32):
    """Says that its payloads are shorter than they are."""

    def size(self, shapes: Shapes) -> int:
        return super().size(shapes) - 1


@dataclass(frozen=True)
class Trusting(Compressor):
    """Reads whatever comes, and falls over it."""

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Any, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        return vector.tobytes(), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        return np.frombuffer(payload, "<f8").copy()

    def size(self, shapes: Shapes) -> int:
        return 8 * sum(rows * columns for rows, columns in shapes.values())


class Nothing:
    """No such thing."""
