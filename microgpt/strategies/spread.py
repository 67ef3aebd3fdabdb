"""How far vectors are apart: what strategies with replicas tell of them.

    spread = sqrt((1 / n) * sum over i of |x_i - mean(x)|^2)

Of the replicas' weights this is the *consensus distance* (Kong, Lin, Koloskova, Jaggi, Stich 2021,
"Consensus Control for Decentralized Deep Learning", arXiv 2102.04828). Where all replicas have
begun with the same weights, it is that of their ways, too: theta - Delta_i differ as Delta_i do.
These numbers are for people. They decide nothing, so that the order of their sums is NumPy's own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import Gradient, Result, Round, View


def length(vector: Vector) -> float:
    """The Euclidean norm; infinite if the square is beyond the range of binary64."""
    return float(np.sqrt(np.add.reduce(vector * vector)))


def spread(vectors: Sequence[Vector]) -> float:
    """The root mean square distance of (n,) vectors from their mean. Raises ValueError for none."""
    if not vectors:
        raise ValueError("no vectors have no mean")
    mean = vectors[0] / len(vectors)
    for vector in vectors[1:]:
        mean += vector / len(vectors)
    return root_mean_square([length(vector - mean) for vector in vectors])


def root_mean_square(numbers: Sequence[float]) -> float:
    """The root of the mean of the squares; infinite if that is beyond the range of binary64."""
    return math.sqrt(math.fsum(number * number for number in numbers) / len(numbers))


def gradient_spread(round: Round, results: Sequence[Result]) -> dict[str, float]:
    """``gradient_spread``, that of the replicas' mean gradients; nothing without replicas."""
    if len(results) < 2 or not round.replicas or not isinstance(round.task, Gradient):
        return {}
    return {"gradient_spread": spread([each.vector / each.shard.count for each in results])}


def consensus_distance(
    rounds: Sequence[tuple[Round, Sequence[Result]]],
) -> dict[str, float]:
    """``consensus_distance`` of the replicas that have taken local steps in these rounds."""
    ways = [result.vector for _, results in rounds for result in results]
    return {"consensus_distance": spread(ways)}


def drift(view: View) -> dict[str, float]:
    """``drift``: how far the weights have gone since a round was given out, |w_t - w_(t - tau)|."""
    return {} if view.sent is None else {"drift": length(view.state.params - view.sent)}
