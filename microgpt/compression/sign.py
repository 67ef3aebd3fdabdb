"""``sign``: one bit a number, and one scale per matrix; or nothing but bits, and a majority vote.

    sent = (||v||_1 / d) * sgn(v)            per matrix of d numbers
    vote=true:  sent = sgn(v);  all replicas' together: sgn(sum of sgn(v))

The scaled sign is the compressor of Karimireddy et al. 2019, "Error Feedback Fixes SignSGD and
other Gradient Compression Schemes" (arXiv 1901.09847), and wants error feedback. The vote is
signSGD with majority vote of Bernstein et al. 2018, "signSGD with Majority Vote is Communication
Efficient And Fault Tolerant" (arXiv 1810.05291): fewer than half of the replicas cannot turn a
coordinate around, whatever they send; a tie gives 0. Its step has the same length along every
coordinate, so it fits an outer rule that divides by nothing (``sgd``, ``momentum``), and without
error feedback, as in the paper.

A bit cannot say that a number is zero. Its sign is then drawn by the seed, so that weights without
a gradient do not drift. A sum of magnitudes beyond binary64 counts as the largest finite number.

| bytes | what |
| --- | --- |
| 8 * matrices | scale of each matrix, binary64, finite and not negative; absent with vote=true |
| ceil(num_params / 8) | 1 for negative, lowest bit first |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import Compressor, Slots, checked
from microgpt.compression.wire import matrices, pack_bits, scales, sizes, split, unpack_bits
from microgpt.numerics.reductions import bounded_sum_rows
from microgpt.numerics.uniforms import words
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class Sign(Compressor):
    """The signs; with ``vote``, the majority of them decides."""

    vote: bool = False

    @property
    def feedback(self) -> bool:
        """A vote has no scale that the error could be measured in."""
        return not self.vote

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The scales, and every sign."""
        vector = checked(vector, shapes)
        head = b"" if self.vote else vector_to_bytes(_mean_magnitudes(vector, shapes))
        return head + pack_bits(_negative(vector, seed)), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Signs times scales; with ``vote``, 1 and -1."""
        count = num_params(shapes)
        head, body = split(payload, self._head(shapes), (count + 7) // 8)
        signs = np.where(unpack_bits(body, count), -1.0, 1.0)
        return signs if self.vote else signs * np.repeat(scales(head), sizes(shapes))

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return self._head(shapes) + (num_params(shapes) + 7) // 8

    def combine(self, vectors: Sequence[Vector]) -> Vector | None:
        """With ``vote``, the sign that more of the vectors have along each coordinate, or 0."""
        if not self.vote or not vectors:
            return None
        votes = np.zeros(len(vectors[0]), np.int64)
        for vector in vectors:
            votes += (vector > 0.0).astype(np.int64) - (vector < 0.0)
        return np.sign(votes).astype(np.float64)

    def _head(self, shapes: Shapes) -> int:
        return 0 if self.vote else 8 * len(shapes)


def _mean_magnitudes(vector: Vector, shapes: Shapes) -> Vector:
    """(matrices,) the mean of |v| over each matrix."""
    sums = [bounded_sum_rows(matrix.reshape(-1)) for matrix in matrices(np.abs(vector), shapes)]
    means: Vector = np.array(sums) / np.array(sizes(shapes))
    return means


def _negative(vector: Vector, seed: int) -> NDArray[np.bool_]:
    """Which signs are negative; of zeros, those that the seed says."""
    drawn = (words(seed, len(vector)) & np.uint64(1)).astype(np.bool_)
    return np.where(vector == 0.0, drawn, vector < 0.0)
