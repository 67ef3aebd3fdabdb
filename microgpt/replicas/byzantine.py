"""What a replica sends that means harm: vectors that look like gradients and are none.

Pure. ``corrupt`` makes the lie from what the replica should have sent and, for those that conspire,
from what the honest ones send. In each formula x is the replica's own vector, mu the mean of the
honest ones' vectors and sigma their standard deviation, parameter by parameter.

| kind | lie | default |
| --- | --- | --- |
| ``sign-flip`` | -x: uphill, at full length | |
| ``noise`` | numbers of N(0, 200^2), whatever x is (Blanchard et al., arXiv 1703.02757) | |
| ``alie`` | mu - z * sigma, "a little is enough" (Baruch et al., arXiv 1902.06156) | z = 1.5 |
| ``ipm`` | -epsilon * mu, "inner product manipulation" (Xie et al., arXiv 1903.03936) | 0.1 |

``alie`` hides within the spread of the honest vectors and pulls the same way in every round; its
paper's formula allows 24 liars of 50 a z of 1.43. ``ipm`` is so small that no rule finds it far
off; a rule that takes it goes uphill.
"""

from __future__ import annotations

import hashlib
import random
from collections import deque
from collections.abc import Sequence

import numpy as np

from microgpt.aggregation.base import mean_of, stacked
from microgpt.numerics.vectors import Vector
from microgpt.replicas.lies import KINDS as KINDS

NOISE = 200.0  # the standard deviation
MEMORY = 8  # vectors from which a liar on its own tells what honest ones are like


def corrupt(
    kind: str,
    vector: Vector,
    seed: int,
    honest: Sequence[Vector],
    *,
    z: float = 1.5,
    epsilon: float = 0.1,
) -> Vector:
    """What is sent in place of ``vector``, (num_params,) float64, by a liar of this ``kind``.

    ``honest`` are the vectors of the honest replicas, which ``alie`` and ``ipm`` need; ``seed``
    decides the noise. Nothing given is changed. Raises ValueError for an unknown kind, and where
    honest vectors are needed and there are none.
    """
    if kind == "sign-flip":
        return -vector
    if kind == "noise":
        rng = random.Random(seed)
        return np.array([rng.gauss(0.0, NOISE) for _ in range(len(vector))])
    if kind == "alie":
        rows = stacked(honest, 1)
        mu = mean_of(rows)
        return mu - z * np.sqrt(mean_of((rows - mu) * (rows - mu)))
    if kind == "ipm":
        return -epsilon * mean_of(stacked(honest, 1))
    raise ValueError(f"there is no lie {kind!r}: there are {', '.join(KINDS)}")


class Knowledge:
    """What liars know of honest vectors: the last ``most`` that came up, each by the document.

    As a lie itself it changes nothing: an honest replica whose vectors the liars see.
    """

    def __init__(self, most: int = MEMORY) -> None:
        self._vectors: deque[Vector] = deque(maxlen=most)

    def __call__(self, vector: Vector, num_documents: int) -> Vector:
        """Take in a vector of so many documents; returns it as it is."""
        self._vectors.append((1 / num_documents) * vector)
        return vector

    def of(self, num_documents: int) -> list[Vector]:
        """What honest vectors of so many documents are like."""
        return [num_documents * vector for vector in self._vectors]


class Liar:
    """Lies about one vector after the other.

    What ``alie`` and ``ipm`` want to know of the honest vectors is in ``knowledge``, if liars have
    some that others give them. Else it is guessed from the last vectors that this liar should have
    sent itself, as if others computed alike.
    """

    def __init__(self, kind: str, seed: int, knowledge: Knowledge | None = None) -> None:
        self._kind, self._seed = kind, seed
        self._given, self._own = knowledge, Knowledge()
        self._told = 0

    def __call__(self, vector: Vector, num_documents: int) -> Vector:
        """What is sent in place of ``vector``, (num_params,) float64, of so many documents."""
        self._own(vector, num_documents)
        self._told += 1
        honest = self._given.of(num_documents) if self._given is not None else []
        honest = honest or self._own.of(num_documents)
        digest = hashlib.sha256(f"{self._seed} lie {self._told}".encode()).digest()
        return corrupt(self._kind, vector, int.from_bytes(digest[:8], "little"), honest)
