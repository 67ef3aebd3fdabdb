"""``onebit``: one bit a number, and what the numbers of either sign are in the mean.

    q_i = [v_i < 0],    sent_i = mean of those v with the same q

1-bit SGD: Seide, Fu, Droppo, Li and Yu 2014, "1-Bit Stochastic Gradient Descent and its Application
to Data-Parallel Distributed Training of Speech DNNs" (Interspeech; not on arXiv). The threshold is
zero, and the two means are the values with the least squared error. It is the paper in which error
feedback begins: without it, training diverges.

The paper has two means for each column of a matrix of thousands of rows (``per=column``). Columns
of this model have 16 to 64 numbers, for which two means would be more bytes than the bits, so the
default is ``per=matrix``. A sum beyond binary64 counts as its largest finite number.

| bytes | what |
| --- | --- |
| 8 * columns, 8 * columns | per matrix: means of v >= 0, then of v < 0, binary64; 0 where none is |
| ceil(num_params / 8) | q, lowest bit first |

``columns`` is 1 with ``per=matrix``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import Compressor, Slots, check_choice, checked
from microgpt.compression.wire import from_float, matrices, pack_bits, split, unpack_bits
from microgpt.numerics.reductions import bounded_sum_rows
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class OneBit(Compressor):
    """Bits, and two means ``per`` ``matrix`` or ``column``."""

    per: str = "matrix"

    def __post_init__(self) -> None:
        check_choice("per", self.per, ("matrix", "column"))

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The means, and to which one each number belongs."""
        vector = checked(vector, shapes)
        means = [mean for m in matrices(vector, shapes) for mean in _means(self._columns(m))]
        return vector_to_bytes(np.concatenate(means)) + pack_bits(vector < 0.0), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Each number as the mean to which it belongs."""
        count = num_params(shapes)
        head, body = split(payload, 8 * self._num_means(shapes), (count + 7) // 8)
        means, bits = from_float(head), unpack_bits(body, count)
        sent, at, start = np.empty(count), 0, 0
        for rows, columns in shapes.values():
            width = self._width(columns)
            upper, lower = means[at : at + width], means[at + width : at + 2 * width]
            places = slice(start, start + rows * columns)
            negative = bits[places].reshape(-1, width)
            sent[places] = np.where(negative, lower, upper).reshape(-1)
            at, start = at + 2 * width, places.stop
        return sent

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 8 * self._num_means(shapes) + (num_params(shapes) + 7) // 8

    def _width(self, columns: int) -> int:
        return columns if self.per == "column" else 1

    def _columns(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """The matrix in columns that have means of their own."""
        return matrix.reshape(-1, self._width(matrix.shape[1]))

    def _num_means(self, shapes: Shapes) -> int:
        return sum(2 * self._width(columns) for _, columns in shapes.values())


def _means(columns: NDArray[np.float64]) -> tuple[Vector, Vector]:
    """(columns,) the mean of the numbers from 0 of each column, and of those below; 0 for none."""
    negative = columns < 0.0
    below = np.count_nonzero(negative, axis=0)
    upper = bounded_sum_rows(np.where(negative, 0.0, columns))
    lower = bounded_sum_rows(np.where(negative, columns, 0.0))
    return upper / np.maximum(len(columns) - below, 1), lower / np.maximum(below, 1)
