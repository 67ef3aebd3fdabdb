"""``sync``: synchronous data-parallel stochastic gradient descent, exact to the bit.

    w <- Adam(w, (1 / B) * sum of the gradients of the B documents of the batch)

One round at a time, with a whole batch in it; every worker computes with the same weights. The sum
is taken in one fixed order (``microgpt.optim.reduction``), so the bits are those of a single
process: the same for any number of workers, whoever was lost and whoever answered first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.spread import gradient_spread
from microgpt.strategies.update import (
    Combined,
    combined,
    descended,
    mean_loss,
    replicas_if_needed,
)
from microgpt.training import TrainingState


@dataclass(frozen=True)
class Sync:
    """Wait for the whole batch, then update."""

    promise: ClassVar[Promise] = Promise.EXACT

    def open(self, view: View) -> Sequence[Round]:
        """The next batch, once the one before is done."""
        if view.open:
            return ()
        where = view.state.step, view.next_document, view.config.batch_size
        return (Round(*where, replicas=replicas_if_needed(view)),)

    def following(self, round: Round) -> Round | None:
        """The batch after this one, which is known before its weights are."""
        if round.replicas:
            return None
        return Round(round.version + 1, round.first + round.count, round.count)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """Every document has been answered."""
        return sum(result.shard.count for result in results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The optimizer's step along the mean gradient."""
        made = self.mean(view, round, results)
        view.lap("tree sum")
        return descended(view, made.vector, mean_loss(results), made.slots)

    def mean(self, view: View, round: Round, results: Sequence[Result]) -> Combined:
        """The mean gradient, summed in the order of the batch's tree."""
        return combined(view, round, results)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the replicas' gradients are apart, if they are told apart."""
        return gradient_spread(round, results)
