"""``int8``: whole numbers from -127 to 127 times one scale per matrix, an eighth of the bytes.

    q_i = round(127 v_i / M),    sent_i = M q_i / 127,    M = max |v| of the matrix

Uniform quantization by the largest magnitude. ``rounding=nearest`` (ties to even; the default) errs
by at most M / 254 a number and needs error feedback to lose nothing. ``rounding=stochastic``
rounds up with the probability of the distance to the lower neighbour, so that the mean over seeds
is v itself (Gupta et al. 2015, "Deep Learning with Limited Numerical Precision", arXiv 1502.02551);
it errs by up to M / 127.

| bytes | what |
| --- | --- |
| 8 * matrices | M of each matrix, binary64, finite and not negative |
| num_params | q, signed bytes; -128 does not occur |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.compression.base import CompressionError, Compressor, Slots, check_choice, checked
from microgpt.compression.wire import scales, sizes, split
from microgpt.numerics.uniforms import uniforms
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params

_MOST = 127.0


@dataclass(frozen=True)
class Int8(Compressor):
    """Numbers as signed bytes; ``rounding`` is ``nearest`` or ``stochastic``."""

    rounding: str = "nearest"

    def __post_init__(self) -> None:
        check_choice("rounding", self.rounding, ("nearest", "stochastic"))

    @property
    def feedback(self) -> bool:
        """What is rounded stochastically is right in the mean without."""
        return self.rounding == "nearest"

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The scales, and every number in units of them."""
        magnitudes, counts = np.abs(checked(vector, shapes)), sizes(shapes)
        largest = np.maximum.reduceat(magnitudes, np.cumsum([0, *counts[:-1]]))
        divisors = np.where(largest == 0.0, 1.0, largest)
        units = magnitudes / np.repeat(divisors, counts) * _MOST
        whole = np.rint(units) if self.rounding == "nearest" else _stochastic(units, seed)
        return vector_to_bytes(largest) + np.copysign(whole, vector).astype(np.int8).tobytes(), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Whole numbers times their scales."""
        head, body = split(payload, 8 * len(shapes), num_params(shapes))
        whole = np.frombuffer(body, np.int8)
        if len(whole) and int(whole.min()) < -_MOST:
            raise CompressionError("the payload has a byte -128, which is no quantized number")
        # Divided first, so that nothing is beyond M.
        return whole / _MOST * np.repeat(scales(head), sizes(shapes))

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        return 8 * len(shapes) + num_params(shapes)


def _stochastic(units: Vector, seed: int) -> Vector:
    """Rounded up with the probability of the fraction, else down."""
    lower = np.floor(units)
    return lower + (uniforms(seed, len(units)) < units - lower)
