"""``randomk``: k numbers at places that both ends draw from the seed, so that no place travels.

    sent_i = v_i  if i is among k places drawn without replacement, else 0
    unbiased=true:  sent_i = (n / k) v_i  there;    k = max(1, round(density * n))

Random-k of Stich et al. 2018, "Sparsified SGD with Memory" (arXiv 1809.07599), with error
feedback; ``unbiased`` is the form whose mean over seeds is v itself (Wangni et al. 2018, "Gradient
Sparsification for Communication-Efficient Distributed Optimization", arXiv 1710.09854, with equal
probabilities), and is meant to be used without: n / k times a number leaves more behind than there
was. ``density`` is 0.01 as for ``topk``, with which it is compared. A product beyond binary64
becomes its largest finite number. A density of 1 changes nothing.

| bytes | what |
| --- | --- |
| 8 * k | numbers in the order of their places, binary64 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import Compressor, Slots, check_density, checked
from microgpt.compression.topk import how_many
from microgpt.compression.wire import exactly, from_float
from microgpt.numerics.reductions import LARGEST
from microgpt.numerics.uniforms import words
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class RandomK(Compressor):
    """The share ``density`` of the numbers at random places; multiplied if ``unbiased``."""

    density: float = 0.01
    unbiased: bool = False

    def __post_init__(self) -> None:
        check_density(self.density)

    @property
    def feedback(self) -> bool:
        """The multiplied form is right in the mean without, and diverges with it."""
        return not self.unbiased

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The numbers at the places of this seed."""
        vector = checked(vector, shapes)
        k = how_many(self.density, len(vector))
        chosen = vector[random_places(seed, len(vector), k)]
        if self.unbiased:
            with np.errstate(over="ignore"):
                chosen = np.clip(chosen * (len(vector) / k), -LARGEST, LARGEST)
        return vector_to_bytes(chosen), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """The numbers in the places of this seed, zeros elsewhere."""
        count = num_params(shapes)
        numbers = from_float(exactly(payload, self.size(shapes)))
        sent = np.zeros(count)
        sent[random_places(seed, count, len(numbers))] = numbers
        return sent

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 8 * how_many(self.density, num_params(shapes))


def random_places(seed: int, count: int, k: int) -> NDArray[np.int64]:
    """(k,) places below ``count``, ascending; every choice of k is as likely as any other.

    They are those with the smallest of ``count`` pseudo-random words, which are all different.
    """
    drawn = words(seed, count)
    return np.flatnonzero(drawn <= np.partition(drawn, k - 1)[k - 1])
