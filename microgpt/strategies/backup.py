"""``backup``: more work is handed out than is waited for, and the late is dropped.

Chen, Pan, Monga, Bengio, Jozefowicz 2016, "Revisiting Distributed Synchronous SGD"
(arXiv 1604.00981):

    launch N + b;  w <- w - eta * (1 / N) * sum of the first N gradients;  drop the b late ones

The paper's workers are replicas here, and N is the run's number of replicas (``--replicas``): of
N + b parts, each of the size of one of N equal parts of a batch, the first N to be answered make
the update. ``b`` = 1 is the least that helps; the paper finds 96 + 4 of 100 the best split. The
documents of late parts are used up, and a late replica is as it was before its part.

Which parts come first is up to timing: the bits are replayable. With ``b`` = 0 they are those of
``sync`` with as many replicas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.spread import gradient_spread
from microgpt.strategies.update import combined, descended, mean_loss
from microgpt.training import TrainingState


@dataclass(frozen=True)
class Backup:
    """``b``: parts of a round that are not waited for."""

    b: int = 1

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    early: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.b < 0:
            raise ValueError("b must be at least 0")

    def open(self, view: View) -> Sequence[Round]:
        """N + b parts, once the last update is done."""
        if view.open:
            return ()
        needed, launched = view.replicas, view.replicas + self.b
        count = view.config.batch_size * launched // needed
        where = view.state.step, view.next_document, count
        return (Round(*where, replicas=tuple(range(launched))),)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """N parts have been answered."""
        return len(results) >= len(round.replicas) - self.b

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The optimizer's step along the mean gradient of N parts: of more, the first in order."""
        first = results[: len(round.replicas) - self.b]
        taken = {result.replica for result in first}
        view.note("late", tuple(each for each in round.replicas if each not in taken))
        made = combined(view, round, first)
        view.lap("tree sum")
        return descended(view, made.vector, mean_loss(first), made.slots)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the gradients of those who were in time are apart."""
        return gradient_spread(round, results)
