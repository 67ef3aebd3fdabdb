"""``arrival-order``: ``sync`` with ordinary summation, for comparison.

    total <- 0;  as each shard is answered: total <- total + its sum;  w <- Adam(w, total / B)

This is what a parameter server does that adds up gradients as they come (Li et al. 2014, "Scaling
Distributed Machine Learning with the Parameter Server"). Addition of floating-point numbers is not
associative (Goldberg 1991, "What every computer scientist should know about floating-point
arithmetic"), so that the last bits depend on who was quicker, and on how many workers share the
batch. With one shard, or two, they are those of ``sync``: a + b is b + a.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.sync import Sync
from microgpt.strategies.update import Combined, combined


@dataclass(frozen=True)
class ArrivalOrder(Sync):
    """Wait for the whole batch, and add up what was answered in the order in which it came."""

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    by_arrival: ClassVar[bool] = True

    def mean(self, view: View, round: Round, results: Sequence[Result]) -> Combined:
        """The mean gradient."""
        return combined(view, round, results, running_sum)


def running_sum(results: Sequence[Result]) -> Vector:
    """(num_params,) the sums of shards, added one after the other. Raises IndexError for none."""
    total = results[0].vector
    for result in results[1:]:
        total = total + result.vector
    return total
