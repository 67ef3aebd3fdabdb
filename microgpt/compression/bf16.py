"""``bf16``: numbers as bfloat16, the upper half of binary32: a quarter of the bytes.

    sent_i = round(v_i) to the nearest number with 8 significant bits, ties to even

Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep Learning Training" (arXiv 1905.12322): fewer
bits than ``f16`` and the range of binary32, so that small gradients survive. Numbers beyond 3.39e38
become the largest finite one, and below 4.6e-41 they become zero. No options.

| bytes | what |
| --- | --- |
| 2 * num_params | the upper 16 bits of numbers in binary32 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microgpt.compression.base import Compressor, Slots, checked
from microgpt.compression.wire import exactly, from_float
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params

#: The largest finite bfloat16.
LARGEST = (2.0 - 2.0**-7) * 2.0**127


@dataclass(frozen=True)
class BF16(Compressor):
    """Numbers as bfloat16."""

    @property
    def feedback(self) -> bool:
        """Rounding takes a relative 4e-3, less than gradients differ between batches."""
        return False

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """Every number rounded."""
        bits = _round_to_odd(np.clip(checked(vector, shapes), -LARGEST, LARGEST))
        # Half a unit of the upper half, less the smallest bit if that would be a tie to odd.
        upper = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> 16
        return upper.astype("<u2").tobytes(), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Every number as it was rounded."""
        part = exactly(payload, self.size(shapes))
        bits = np.frombuffer(part, "<u2").astype("<u4") << np.uint32(16)
        return from_float(bits.tobytes(), "<f4")

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 2 * num_params(shapes)


def _round_to_odd(vector: Vector) -> NDArray[np.uint32]:
    """The bits of numbers in binary32, cut off, with the last bit set if that lost anything.

    Rounding those again gives what rounding the numbers once would: rounding to the nearest
    twice might not (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
    """
    nearest = vector.astype(np.float32)
    rounded = nearest.astype(np.float64)
    too_large = (np.abs(rounded) > np.abs(vector)).astype(np.uint32)
    bits: NDArray[np.uint32] = nearest.view(np.uint32) - too_large
    bits |= (rounded != vector).astype(np.uint32)
    return bits
