"""``powersgd``: every matrix as the product of a tall and a wide one of a small rank.

    P <- M Q,    P^ <- orthogonalise(P),    Q <- M^T P^,    sent = P^ Q^T

One step of power iteration per round, which begins with the Q of the round before (warm start), so
that Q follows the leading singular vectors of M. Vogels, Karimireddy and Jaggi 2019, "PowerSGD:
Practical Low-Rank Gradient Compression for Distributed Optimization" (arXiv 1905.13727); it wants
error feedback.

``rank`` is 2, the paper's for its image classifier. In the paper P and Q are each averaged over the
workers, which takes two exchanges a step. Here answers go one way: every replica does the steps
above with its own M and Q, and the products are averaged. Where rank * (rows + columns) numbers
would be no fewer than the matrix has, it is sent as it is, as the paper does with biases.

Orthogonalise is Gram-Schmidt, column after column; a column of which less than 2**-26 of its length
is left is noise and becomes zero. A column of Q that is zero is drawn anew, from uniform numbers in
[-1, 1) (the paper's are normal; a logarithm has other bits on other machines), lest the rank be
lost for good. A matrix is divided by a power of two before, and Q multiplied by it after, so that
no product overflows or vanishes; numbers of Q beyond what a sum allows become that.

| bytes, for each matrix | what |
| --- | --- |
| 8 * rank * rows | P^, row after row, binary64 |
| 8 * rank * columns | Q, row after row, binary64 |
| or 8 * rows * columns | the matrix itself |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import CompressionError, Compressor, Slots, check_whole, checked
from microgpt.compression.wire import exactly, finite, from_float, matrices
from microgpt.numerics.reductions import LARGEST, norm, product
from microgpt.numerics.uniforms import uniforms
from microgpt.numerics.vectors import Vector, all_finite, tree_sum_of, vector_to_bytes
from microgpt.parameters import Shapes

Matrix: TypeAlias = NDArray[np.float64]

_NOISE = 2.0**-26  # the square root of what a number is rounded by
_SLOT = "q"


@dataclass(frozen=True)
class PowerSGD(Compressor):
    """Matrices as products of ``rank`` columns and ``rank`` rows.

    A replica remembers ``q``: the Q of its last round, one matrix after the other.
    """

    rank: int = 2

    def __post_init__(self) -> None:
        check_whole("rank", self.rank, 1, 2**15)

    def init(self, shapes: Shapes) -> dict[str, Vector]:
        """Random numbers, the same for every replica."""
        widths = enumerate(self._widths(shapes))
        firsts = [_first(place, columns, self.rank).reshape(-1) for place, columns in widths]
        return {_SLOT: np.concatenate([np.empty(0), *firsts])}

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The factors of every matrix."""
        parts: list[Vector] = []
        warm: list[Vector] = [np.empty(0)]
        starts = enumerate(self._remembered(slots, shapes))
        for matrix in matrices(checked(vector, shapes), shapes):
            if not self._factored(*matrix.shape):
                parts.append(matrix.reshape(-1))
                continue
            p, q = _factor(matrix, _renewed(*next(starts)))
            parts += [p.reshape(-1), q.reshape(-1)]
            warm.append(parts[-1])
        return vector_to_bytes(np.concatenate(parts)), {_SLOT: np.concatenate(warm)}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """The products of the factors."""
        numbers, sent, at = from_float(exactly(payload, self.size(shapes))), [], 0
        for rows, columns in shapes.values():
            if not self._factored(rows, columns):
                sent.append(numbers[at : at + rows * columns])
                at += rows * columns
                continue
            middle = at + rows * self.rank
            p = numbers[at:middle].reshape(rows, self.rank)
            at = middle + columns * self.rank
            q = numbers[middle:at].reshape(columns, self.rank)
            with np.errstate(over="ignore", invalid="ignore"):
                sent.append(product(p, q.T).reshape(-1))
        return finite(np.concatenate(sent))

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 8 * sum(
            self.rank * (rows + columns) if self._factored(rows, columns) else rows * columns
            for rows, columns in shapes.values()
        )

    def _factored(self, rows: int, columns: int) -> bool:
        return self.rank * (rows + columns) < rows * columns

    def _widths(self, shapes: Shapes) -> list[int]:
        """The columns of every matrix that is factored."""
        return [columns for rows, columns in shapes.values() if self._factored(rows, columns)]

    def _remembered(self, slots: Slots, shapes: Shapes) -> list[Matrix]:
        """The Q of the round before of every matrix that is factored, (columns, rank) each."""
        widths, q = self._widths(shapes), slots.get(_SLOT)
        if q is None or q.shape != (self.rank * sum(widths),) or not all_finite(q):
            raise CompressionError("what the replica remembers does not fit the model and the rank")
        parts, at = [], 0
        for columns in widths:
            parts.append(q[at : at + columns * self.rank].reshape(columns, self.rank))
            at += columns * self.rank
        return parts


def _first(place: int, columns: int, rank: int) -> Matrix:
    """The Q of the first round, (columns, rank), for the factored matrix at this place."""
    return (2.0 * uniforms(place, columns * rank) - 1.0).reshape(columns, rank)


def _renewed(place: int, q: Matrix) -> Matrix:
    """Q with fresh columns for those that are zero."""
    lost = (q == 0.0).all(axis=0)
    return np.where(lost, _first(place, *q.shape), q) if lost.any() else q


def _factor(matrix: Matrix, start: Matrix) -> tuple[Matrix, Matrix]:
    """P^ (rows, rank) and Q (columns, rank) of a matrix, from the Q of the round before."""
    exponent = _exponent(matrix)
    scaled = np.ldexp(matrix, -exponent)
    # A column's length has no influence on P^.
    start = np.ldexp(start, -np.frexp(np.abs(start).max(axis=0))[1])
    p = _orthogonalise(product(scaled, start))
    most = LARGEST / (2 * start.shape[1])  # so that sums in P^ Q^T are finite
    with np.errstate(over="ignore"):
        q = np.ldexp(product(scaled.T, p), exponent)
    return p, np.clip(q, -most, most)


def _exponent(numbers: Matrix) -> int:
    """The power of two just above all magnitudes."""
    return int(np.frexp(np.abs(numbers).max())[1])


def _orthogonalise(p: Matrix) -> Matrix:
    """The columns of P, orthogonal to each other and of length 1, or zero."""
    done: list[Vector] = []
    for column in p.T:
        before = norm(column)
        rest = column
        for other in done:
            rest = rest - tree_sum_of(other * rest) * other
        length = norm(rest)
        useful = length > _NOISE * before
        done.append(rest / length if useful else np.zeros_like(rest))
    return np.column_stack(done)
