"""What is told of updates by those who look on: norms of tensors, and the strategy's own numbers.

Only where rounds are recorded, and only now and then: what it takes is nothing beside the updates.
Nothing here decides anything about the run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.events import NumbersFailed, StrategyNumbers, TensorNorms
from coordinator.core.replicas import Replicas
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes
from microgpt.strategies.asking import LONGEST_NAME, MOST_NUMBERS, Look
from microgpt.strategies.base import Note
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.spread import length, root_mean_square
from microgpt.training import TrainingState

NORMS_SECONDS, NUMBERS_SECONDS = 1.0, 0.5  # at least, from one event to the next
SMALL = 20_000  # weights; of a larger model, which takes longer to look at, it is so much seldomer
MOST_LABELS, OTHERS = 64, "others"  # of a histogram


class Telemetry:
    """Tells of the updates that ``driver`` makes; see ``look``, ``note`` and ``updated``."""

    def __init__(self, out: ActionBuffer, driver: RoundDriver, replicas: Replicas) -> None:
        self._out, self._driver, self._replicas = out, driver, replicas
        self._shapes = parameter_shapes(driver.config.model)
        self._norms_due = self._numbers_due = 0.0
        self._slowness = max(1.0, len(driver.state.params) / SMALL)
        self._numbers: dict[str, float] = {}
        self._counts: dict[str, Counter[str]] = {}
        self._failed = False

    def look(self, now: float) -> Look | None:
        """What the driver is to fill in at the update that is about to be made; None for nothing.

        The last update of the run is always looked at.
        """
        if not self._out.rounds:
            return None
        return Look() if self._is_last or now >= min(self._norms_due, self._numbers_due) else None

    @property
    def _is_last(self) -> bool:
        return self._driver.state.step + 1 >= self._driver.config.steps

    def note(self, notes: Mapping[str, Note]) -> None:
        """What the strategy has told of an update, or of results that it has dropped."""
        for name, note in notes.items() if self._out.rounds else ():
            values = note if isinstance(note, tuple) else (note,)
            counted = [value for value in values if isinstance(value, int)]
            if len(counted) == len(values):
                self._count(name, counted)
            elif isinstance(note, float):
                self._take({name: note})

    def _count(self, name: str, values: Iterable[int]) -> None:
        if name not in self._counts and not self._has_room_for(name):
            return
        counts = self._counts.setdefault(name, Counter())
        for value in values:
            label = str(value)
            counts[label if label in counts or len(counts) < MOST_LABELS else OTHERS] += 1

    def _take(self, numbers: Mapping[str, float]) -> None:
        for name, number in numbers.items():
            if np.isfinite(number) and (name in self._numbers or self._has_room_for(name)):
                self._numbers[name] = number

    def _has_room_for(self, name: str) -> bool:
        return len(name) <= LONGEST_NAME and len(self._numbers) + len(self._counts) < MOST_NUMBERS

    def updated(
        self, look: Look | None, before: TrainingState, after: TrainingState, now: float
    ) -> None:
        """An update has been made: tell what is due; all after the last one of the run."""
        if look is None:
            return
        last = after.step >= self._driver.config.steps
        if last or now >= self._norms_due:
            self._norms_due = now + NORMS_SECONDS * self._slowness
            self._tell_norms(look.along, before.params, after)
        if last or now >= self._numbers_due:
            self._numbers_due = now + NUMBERS_SECONDS * self._slowness
            self._tell_numbers(look, after.step)

    def _tell_norms(self, along: Vector | None, before: Vector, after: TrainingState) -> None:
        gradient: tuple[float, ...] = ()
        if along is not None and (along.shape, along.dtype) == (before.shape, before.dtype):
            gradient = tensor_norms(along, self._shapes)
        update = tensor_norms(after.params - before, self._shapes)
        self._out.tell(TensorNorms(after.step, tuple(self._shapes), gradient, update))

    def _tell_numbers(self, look: Look, version: int) -> None:
        if look.problem and not self._failed:
            self._failed = True
            self._out.tell(NumbersFailed(version, printable(look.problem, 500)))
        self._take(look.numbers)
        residuals = self._replicas.residuals()
        if residuals:
            self._take({"residual_norm": root_mean_square([length(each) for each in residuals])})
        if self._numbers or self._counts:
            counts = {name: _in_order(counter) for name, counter in self._counts.items()}
            self._out.tell(StrategyNumbers(version, dict(self._numbers), counts))
        self._numbers.clear()
        self._counts.clear()


def _in_order(counter: Counter[str]) -> dict[str, int]:
    """The counts by their labels, ascending; what was too much to be told apart comes last."""
    labels = sorted(counter, key=lambda label: (label == OTHERS, len(label), label))
    return {label: counter[label] for label in labels}


def tensor_norms(vector: Vector, shapes: Shapes) -> tuple[float, ...]:
    """The Euclidean norm of each matrix in a vector that holds them one after the other.

    Where a number is too large to be squared, those of a matrix are taken as shares of its largest;
    a norm beyond binary64 is its largest number.
    """
    sizes = [rows * columns for rows, columns in shapes.values()]
    starts = np.cumsum([0, *sizes[:-1]])
    with np.errstate(all="ignore"):
        norms = np.sqrt(np.add.reduceat(vector * vector, starts))
        if not np.isfinite(norms).all():
            largest = np.maximum.reduceat(np.abs(vector), starts)
            shares = vector / np.repeat(np.where(largest == 0.0, 1.0, largest), sizes)
            norms = largest * np.sqrt(np.add.reduceat(shares * shares, starts))
            norms = np.nan_to_num(norms)
    return tuple(norms.tolist())
