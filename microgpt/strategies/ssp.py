"""``ssp``: stale synchronous parallel: asynchronous, but no replica runs away from the slowest.

Ho et al. 2013, "More Effective Distributed ML via a Stale Synchronous Parallel Parameter Server":
replica i counts its updates on a clock c_i and may begin another one only while

    c_i - min over j of c_j <= s

Then whatever it reads contains all updates up to clock c_i - s - 1 of all replicas. Here it reads
the newest weights, so all that was made before is in them. Each update is a step of the run's
optimizer along the gradient of one batch. ``s`` = 3, a few updates, bears hiccups and keeps
staleness small; 0 is lock step with an update for each replica. Clocks count answers: a lost
worker's replica goes on where it was with another worker. Timing decides: the bits are replayable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.single import free_replicas, rounds_of
from microgpt.strategies.spread import drift
from microgpt.strategies.update import combined, descended, mean_loss, num_documents
from microgpt.training import TrainingState

CLOCKS = "clocks"  # of the replicas, under this name in the state


@dataclass(frozen=True)
class SSP:
    """``s``: how many updates a replica may be ahead of the slowest one when it begins."""

    s: int = 3

    promise: ClassVar[Promise] = Promise.REPLAYABLE

    def __post_init__(self) -> None:
        if self.s < 0:
            raise ValueError("s must be at least 0")

    def open(self, view: View) -> Sequence[Round]:
        """A batch for each replica that has nothing to do and is not too far ahead."""
        clocks = _clocks(view).tolist()
        slowest = min(clocks)
        may = [each for each in free_replicas(view) if clocks[each] - slowest <= self.s]
        return rounds_of(view, may, view.config.batch_size)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """The replica has answered."""
        return num_documents(results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The optimizer's step along the replica's gradient; its clock goes on."""
        clocks = _clocks(view).copy()
        clocks[round.replicas[0]] += 1.0
        view.note("staleness", view.state.step - round.version)
        view.note("clock_spread", max(clocks.tolist()) - min(clocks.tolist()))
        made = combined(view, round, results)
        slots = {**made.slots, CLOCKS: clocks}
        return descended(view, made.vector, mean_loss(results), slots)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the weights have gone while the gradient was computed."""
        return drift(view)


def _clocks(view: View) -> Vector:
    """(replicas,) how many updates each replica has made."""
    return view.state.slots.get(CLOCKS, np.zeros(view.replicas))
