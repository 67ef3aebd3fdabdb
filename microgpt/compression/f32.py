"""``f32``: numbers as IEEE-754 binary32, half of the bytes.

    sent_i = round(v_i) to the nearest number with 24 significant bits, ties to even

No paper and no options: it is the precision in which most training is done. Numbers beyond
3.4e38 become the largest finite one; below 1.2e-38 they lose bits, and below 7e-46 all. Error
feedback would keep what rounding takes (a relative 6e-8), which is too little to matter.

| bytes | what |
| --- | --- |
| 4 * num_params | numbers, binary32 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.compression.base import Compressor, Slots, checked
from microgpt.compression.wire import exactly, from_float, to_float
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params

_TYPE = np.dtype("<f4")


@dataclass(frozen=True)
class F32(Compressor):
    """Numbers as binary32."""

    @property
    def feedback(self) -> bool:
        """Rounding takes too little to be remembered."""
        return False

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """Every number rounded."""
        return to_float(checked(vector, shapes), _TYPE), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Every number as it was rounded."""
        return from_float(exactly(payload, self.size(shapes)), _TYPE)

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 4 * num_params(shapes)
