"""``sync``: synchronous data-parallel stochastic gradient descent, exact to the bit.

    w <- Adam(w, (1 / B) * sum of the gradients of the B documents of the batch)

One round at a time, with a whole batch in it; every worker computes with the same weights. The sum
is taken in one fixed order (``microgpt.optim.reduction``), so the bits are those of a single
process: the same for any number of workers, whoever was lost and whoever answered first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from microgpt.strategies.base import Promise, Result, Round, View, sum_of_results
from microgpt.training import TrainingState, advance


@dataclass(frozen=True)
class Sync:
    """Wait for the whole batch, then update."""

    promise: ClassVar[Promise] = Promise.EXACT

    def open(self, view: View) -> Sequence[Round]:
        """The next batch, once the one before is done."""
        if view.open:
            return ()
        return (Round(view.state.step, view.next_document, view.config.batch_size),)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """Every document has been answered."""
        return sum(result.shard.count for result in results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """Adam's step along the mean gradient."""
        total = sum_of_results(results)
        view.lap("tree sum")
        losses = np.concatenate([result.losses for result in results])
        return advance(view.config, view.state, total, losses)
