"""``f16``: numbers as IEEE-754 binary16, a quarter of the bytes.

    sent_i = round(v_i) to the nearest number with 11 significant bits, ties to even

Half precision for gradients: Micikevicius et al. 2017, "Mixed Precision Training" (arXiv
1710.03740), who multiply the loss so that small gradients stay in its narrow range. Here nothing is
multiplied: numbers beyond 65,504 become that, below 6.1e-5 they lose bits, and below 3e-8 all.
Gradients of this model that are worth sending lie well inside; error feedback keeps the rest. No
options.

| bytes | what |
| --- | --- |
| 2 * num_params | numbers, binary16 |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.compression.base import Compressor, Slots, checked
from microgpt.compression.wire import exactly, from_float, to_float
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params

_TYPE = np.dtype("<f2")


@dataclass(frozen=True)
class F16(Compressor):
    """Numbers as binary16."""

    @property
    def feedback(self) -> bool:
        """Rounding takes a relative 5e-4, far less than gradients differ between batches."""
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
        return 2 * num_params(shapes)
