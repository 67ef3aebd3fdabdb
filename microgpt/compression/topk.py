"""``topk``: the k numbers of the largest magnitude, and where they are.

    sent_i = v_i  if |v_i| is among the k largest, else 0;    k = max(1, round(density * n))

Aji and Heafield 2017, "Sparse Communication for Distributed Gradient Descent" (arXiv 1704.05021);
that it converges with error feedback: Stich et al. 2018, "Sparsified SGD with Memory" (arXiv
1809.07599). ``density`` is 0.01: the paper drops 99 % of the numbers. They are chosen from all
matrices together; of equal magnitudes, those that come first are sent. Numbers travel as they
are, so a density of 1 changes nothing.

| bytes | what |
| --- | --- |
| 2 * k, or 4 * k with more than 65,536 parameters | places, unsigned, strictly ascending |
| 8 * k | numbers, binary64 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import CompressionError, Compressor, Slots, check_density, checked
from microgpt.compression.wire import from_float, split
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class TopK(Compressor):
    """The share ``density`` of the numbers, the largest ones."""

    density: float = 0.01

    def __post_init__(self) -> None:
        check_density(self.density)

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The places of the largest numbers, and the numbers."""
        vector = checked(vector, shapes)
        places = largest_places(np.abs(vector), how_many(self.density, len(vector)))
        return places.astype(_index_type(shapes)).tobytes() + vector_to_bytes(vector[places]), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """The numbers in their places, zeros elsewhere."""
        count, kind = num_params(shapes), _index_type(shapes)
        k = how_many(self.density, count)
        head, body = split(payload, kind.itemsize * k, 8 * k)
        places = np.frombuffer(head, kind).astype(np.int64)
        if int(places[-1]) >= count:
            raise CompressionError(f"the payload has a place beyond {count} parameters")
        if (places[1:] <= places[:-1]).any():
            raise CompressionError("the payload's places do not ascend")
        sent = np.zeros(count)
        sent[places] = from_float(body)
        return sent

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return how_many(self.density, num_params(shapes)) * (_index_type(shapes).itemsize + 8)


def how_many(density: float, count: int) -> int:
    """K, from 1 to ``count``."""
    return max(1, round(density * count))


def largest_places(magnitudes: Vector, k: int) -> NDArray[np.int64]:
    """(k,) the places of the k largest, ascending; of equal ones the first."""
    if k == len(magnitudes):
        return np.arange(k)
    # What partition returns at one place does not depend on how it gets there.
    least = np.partition(magnitudes, len(magnitudes) - k)[len(magnitudes) - k]
    chosen = magnitudes > least
    equal = np.flatnonzero(magnitudes == least)
    chosen[equal[: k - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _index_type(shapes: Shapes) -> np.dtype[np.unsignedinteger]:
    return np.dtype("<u2" if num_params(shapes) <= 1 << 16 else "<u4")
