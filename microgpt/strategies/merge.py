"""Merging what learners have found: by the weighted mean, or by radius and direction.

    mean:    sum w_i v_i / sum w_i
    radial:  (sum w_i |v_i| / sum w_i) * phi(sum w_i phi(v_i) / sum w_i),  phi(x) = x / |x|

The mean of vectors that point apart is shorter than they are; the radial merge (arXiv 2604.21428)
is as long as they are on average. It is taken matrix by matrix; of embeddings, the mean is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from microgpt.numerics.vectors import Vector, tree_sum_of
from microgpt.optim.reduction import tree_sum
from microgpt.parameters import Shapes

EMBEDDINGS = ("wte", "wpe")


def weighted_mean(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    """(n,) float64, of vectors of n numbers; the weights are above 0."""
    total: Vector = tree_sum([w * vector for w, vector in zip(weights, vectors, strict=True)])
    return total / tree_sum(weights)


def radial(vectors: Sequence[Vector], weights: Sequence[float], shapes: Shapes) -> Vector:
    """(num_params,) float64, of vectors that hold matrices of these shapes one after the other."""
    merged, start = weighted_mean(vectors, weights), 0
    for name, (rows, columns) in shapes.items():
        end = start + rows * columns
        if name not in EMBEDDINGS:
            merged[start:end] = _radial([vector[start:end] for vector in vectors], weights)
        start = end
    return merged


def _radial(vectors: Sequence[Vector], weights: Sequence[float]) -> Vector:
    lengths = [_length(vector) for vector in vectors]
    units = [v / length if length else v for v, length in zip(vectors, lengths, strict=True)]
    direction = weighted_mean(units, weights)
    length = _length(direction)
    if not length:  # they cancel each other, or are all zero
        return direction
    radius = tree_sum([w * x for w, x in zip(weights, lengths, strict=True)]) / tree_sum(weights)
    return (radius / length) * direction


def _length(vector: Vector) -> float:
    return float(np.sqrt(tree_sum_of(vector * vector)))
