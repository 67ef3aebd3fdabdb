"""``noise-scale``: ``sync``, measuring from which batch size on a larger batch is worth little.

    B_simple = tr(Sigma) / |G|^2

Sigma is the covariance of the documents' gradients, G their mean (McCandlish, Kaplan, Amodei et al.
2018, "An Empirical Model of Large-Batch Training", arXiv 1812.06162, equation 2.9). The mean
gradient of n documents has E|g_n|^2 = |G|^2 + tr(Sigma) / n, so that norms at two sizes give both
numbers without bias (appendix A.1). Here the sizes are those of a batch and of its shards; with
sums s_j of n_j documents, J shards, B documents in all and S = s_1 + ... + s_J:

    tr(Sigma) ~ (sum_j |s_j|^2 / n_j - |S|^2 / B) / (J - 1)
    |G|^2     ~ |S|^2 / B^2 - tr(Sigma) / B

For shards of one size these are the paper's; for others the first is the mean square between groups
of an analysis of variance, and both are still right in the mean. One batch tells little, and the
ratio of two uncertain numbers is biased: each is averaged over updates before, as the paper does.
The averages are part of the state, so that they survive whatever the weights do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from microgpt.numerics.vectors import Vector, tree_sum_of
from microgpt.strategies.base import Result, Round, StrategyError, View, sum_of_results
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState

#: How much of an average is kept at each update: it is that of the last 50, about.
DECAY = 0.98
#: Under which name a state keeps the averages: (3,) of the variance, the square, and of ones, which
#: tells how much of the average there is yet.
SLOT = "noise_scale"


class Estimate(NamedTuple):
    """``variance``: tr(Sigma), the sum of the variances of a document's gradient over all
    parameters. ``square``: |G|^2, which may come out negative where the noise is large.
    """

    variance: float
    square: float


@dataclass(frozen=True)
class NoiseScale(Sync):
    """``shards``: into how many a batch is cut at least; with replicas, theirs are the parts."""

    shards: int = 8

    def __post_init__(self) -> None:
        if self.shards < 2:
            raise ValueError("shards must be at least 2: the gradient of one tells of no noise")

    def open(self, view: View) -> Sequence[Round]:
        """The next batch, cut in the same way whoever is there."""
        if view.config.distribution.compress:
            raise StrategyError("noise-scale is about gradients, and not what compression makes")
        return [replace(round, shard_size=self._size(round)) for round in super().open(view)]

    def following(self, round: Round) -> Round | None:
        """The batch after this one."""
        told = super().following(round)
        return None if told is None else replace(told, shard_size=self._size(told))

    def _size(self, round: Round) -> int | None:
        """The largest power of two that gives enough shards."""
        if round.replicas:
            return None
        return 1 << (max(1, round.count // self.shards).bit_length() - 1)

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """That of ``sync``, with another estimate in the averages."""
        after = super().update(view, round, results)
        if after is None:
            return None
        return replace(after, slots={**after.slots, **averaged(view, results)})


def estimated(results: Sequence[Result]) -> Estimate | None:
    """Of one batch, from the sums of its shards' gradients; None if there is only one shard."""
    if len(results) < 2:
        return None
    counts = [result.shard.count for result in results]
    squares = [_square(result.vector) for result in results]
    total = sum(counts)
    shares = np.array([square / n for square, n in zip(squares, counts, strict=True)])
    whole = _square(sum_of_results(results)) / total
    variance = (tree_sum_of(shares) - whole) / (len(results) - 1)
    return Estimate(variance, (whole - variance) / total)


def averaged(view: View, results: Sequence[Result]) -> Mapping[str, Vector]:
    """The slot of the state after an update with these results; people are told what it says."""
    estimate = estimated(results)
    if estimate is None:
        return {}
    before = view.state.slots.get(SLOT, np.zeros(3))
    after = DECAY * before + (1 - DECAY) * np.array([*estimate, 1.0])
    variance, square, weight = after.tolist()
    view.note("gradient_variance", variance / weight)
    view.note("gradient_square", square / weight)
    if square > 0.0:
        view.note("noise_scale", variance / square)
    return {SLOT: after}


def _square(vector: Vector) -> float:
    """|x|^2, in an order of its own that is the same on every machine."""
    return tree_sum_of(vector * vector)
