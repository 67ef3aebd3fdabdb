"""The seam between the replicas' vectors and the one that the update uses: what a rule is asked.

The vectors (gradients, or changes of weights) come in the order of the replicas, the same in every
round, and are finite; sums over replicas and over parameters are pairwise trees, so that their bits
are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from microgpt.numerics.reductions import tree_sum_rows
from microgpt.numerics.vectors import Vector, all_finite
from microgpt.optim.optimizer import Slots

#: (replicas, num_params) float64.
Matrix = NDArray[np.float64]


class Combined(NamedTuple):
    """What became of a round's vectors.

    ``vector``: (num_params,) float64. ``slots``: what is remembered for the next round.
    ``rejected``: the places of vectors that have no part in it at all, ascending; () for rules
    that look at each parameter, or at each vector, on its own.
    """

    vector: Vector
    slots: dict[str, Vector]
    rejected: tuple[int, ...] = ()


class Aggregation(Protocol):
    """A rule. All methods are pure: nothing given is changed in place.

    It is a frozen dataclass; its fields are its options, of type int or float, with defaults.
    """

    def least(self) -> int:
        """How many vectors it needs for what it promises."""
        ...

    def init(self, num_params: int) -> dict[str, Vector]:
        """What is remembered before the first round; {} for most."""
        ...

    def combine(self, vectors: Sequence[Vector], slots: Slots) -> Combined:
        """One vector for the replicas' vectors, (num_params,) float64 each.

        Raises ValueError for fewer than ``least()`` vectors, for different lengths, and for numbers
        that are not finite. What overflows becomes infinite.
        """
        ...


class AggregationError(Exception):
    """A rule that cannot be had; the message is one sentence."""


def stacked(vectors: Sequence[Vector], least: int) -> Matrix:
    """The vectors as rows. Raises ValueError as ``Aggregation.combine`` does."""
    if len(vectors) < least:
        raise ValueError(f"the rule needs at least {least} vectors, and gets {len(vectors)}")
    for place, vector in enumerate(vectors):
        if vector.ndim != 1 or vector.shape != vectors[0].shape:
            shapes = f"{vector.shape}, and of the first {vectors[0].shape}"
            raise ValueError(f"the shape of vector {place} is {shapes}")
        if not all_finite(vector):
            raise ValueError(f"vector {place} has numbers that are not finite")
    return np.array(vectors, np.float64)


def ascending(rows: Matrix) -> Matrix:
    """The rows with each column sorted. A zero loses its sign, as sorting may change the signs.

    So numbers that are equal have equal bits, and it makes no difference how NumPy sorts them.
    """
    return np.sort(rows + 0.0, axis=0)


def mean_of(rows: Matrix) -> Vector:
    """``(1 / n)`` times the pairwise tree sum of the n rows, as gradients of a batch are meant."""
    mean: Vector = (1 / len(rows)) * tree_sum_rows(rows)
    return mean
