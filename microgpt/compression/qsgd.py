"""``qsgd``: the norm of some numbers, and each of them on a ladder of s levels below it.

    Q_s(v_i) = ||v|| * sgn(v_i) * xi_i,    xi_i = (l + 1) / s with probability s |v_i| / ||v|| - l,
                                           else l / s,    where l = floor(s |v_i| / ||v||)

Alistarh et al. 2017, "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding"
(arXiv 1610.02132). The mean over seeds is v itself; the mean squared error is at most
min(n / s^2, sqrt(n) / s) ||v||^2 for a bucket of n numbers. That is more than ||v||^2 for few
levels, so that the error of one round can be larger than what was to be sent: error feedback might
amplify it and is off by default.

``levels`` (s) is 7, so that a number with its sign fits 4 bits; ``bucket`` is 512, with which the
paper's experiments use 4 bits. Buckets are consecutive numbers of the flat vector, the last one
may be shorter. ``norm`` is ``l2`` as in the formula; ``max`` takes the largest magnitude instead,
a variant without the bound that errs less in practice (QSGDinf in Ramezani-Kebrya et al. 2021,
"NUQSGD", arXiv 1908.06077).

The paper writes levels in Elias' code, whose length varies; here they have a fixed width, so that a
receiver knows how long a payload is. A norm beyond binary64 is sent as the largest finite number,
which leaves the mean what it is.

| bytes | what |
| --- | --- |
| 8 * buckets | norm of each bucket, binary64, finite and not negative |
| ceil(num_params * w / 8) | s + sgn * level in w bits each, lowest bit first; w = bits of 2 s |
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from microgpt.compression.base import (
    CompressionError,
    Compressor,
    Slots,
    check_choice,
    check_whole,
    checked,
)
from microgpt.compression.wire import codes_size, pack_codes, scales, split, unpack_codes
from microgpt.numerics.reductions import norms
from microgpt.numerics.uniforms import uniforms
from microgpt.numerics.vectors import Vector, vector_to_bytes
from microgpt.parameters import Shapes, num_params


@dataclass(frozen=True)
class QSGD(Compressor):
    """Numbers on ``levels`` levels of either sign, by the ``norm`` of ``bucket`` numbers."""

    levels: int = 7
    bucket: int = 512
    norm: str = "l2"

    def __post_init__(self) -> None:
        check_whole("levels", self.levels, 1, 2**15 - 1)
        check_whole("bucket", self.bucket, 1, 2**20)
        check_choice("norm", self.norm, ("l2", "max"))

    @property
    def feedback(self) -> bool:
        """It is right in the mean without, and might not settle with it."""
        return False

    def compress(
        self, vector: Vector, shapes: Shapes, slots: Slots, seed: int
    ) -> tuple[bytes, dict[str, Vector]]:
        """The norms, and the level of every number."""
        vector = checked(vector, shapes)
        norm_of = self._norms(vector)
        divisors = np.where(norm_of == 0.0, 1.0, norm_of)
        # Divided first, so that it is in [0, 1], and then in [0, s].
        units = np.abs(vector) / self._spread(divisors, len(vector)) * self.levels
        lower = np.floor(units)
        level = lower + (uniforms(seed, len(vector)) < units - lower)
        codes = (self.levels + np.copysign(level, vector)).astype(np.uint16)
        return vector_to_bytes(norm_of) + pack_codes(codes, self._width), {}

    def decompress(self, payload: bytes, shapes: Shapes, seed: int) -> Vector:
        """Levels times norms."""
        count = num_params(shapes)
        head, body = split(payload, 8 * self._buckets(count), codes_size(count, self._width))
        codes = unpack_codes(body, count, self._width)
        if len(codes) and int(codes.max()) > 2 * self.levels:
            raise CompressionError(f"the payload has a level beyond {self.levels}")
        return (codes - float(self.levels)) / self.levels * self._spread(scales(head), count)

    def size(self, shapes: Shapes) -> int:
        """Exactly."""
        count = num_params(shapes)
        return 8 * self._buckets(count) + codes_size(count, self._width)

    @property
    def _width(self) -> int:
        return (2 * self.levels).bit_length()

    def _buckets(self, count: int) -> int:
        return -(-count // self.bucket)

    def _norms(self, vector: Vector) -> Vector:
        """(buckets,) the norm of each bucket; zeros that fill the last one change none."""
        missing = -len(vector) % self.bucket
        rows = np.concatenate([vector, np.zeros(missing)]).reshape(-1, self.bucket)
        return np.abs(rows).max(axis=1) if self.norm == "max" else norms(rows)

    def _spread(self, norm_of: Vector, count: int) -> Vector:
        """(count,) the norm of the bucket in which each number is."""
        return np.repeat(norm_of, self.bucket)[:count]
