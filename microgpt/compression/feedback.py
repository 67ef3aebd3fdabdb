"""Error feedback: what compression takes from one round is added to the next one.

    v_t = g_t + e_t,    payload = C(v_t),    e_{t+1} = v_t - sent_t,    e_0 = 0

Seide et al. 2014 (see ``onebit``); why it repairs what biased compressors break: Karimireddy et
al. 2019, "Error Feedback Fixes SignSGD and other Gradient Compression Schemes" (arXiv 1901.09847).
The residual e belongs to a replica. What was sent in all rounds and the residual add up to the sum
of the gradients; only the rounding of v and e, each half a unit in the last place, is lost.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from microgpt.compression.base import CompressionError, Compressor, Slots, checked
from microgpt.numerics.vectors import Vector, all_finite
from microgpt.parameters import Shapes
from microgpt.support.user_class import blamed


class Compressed(NamedTuple):
    """A vector on its way. ``sent``, (num_params,), is what the receiver takes it for.

    ``residual`` and ``slots`` are what the replica keeps for its next round; ``residual`` is None
    without error feedback.
    """

    payload: bytes
    sent: Vector
    residual: Vector | None
    slots: dict[str, Vector]


def first_residual(shapes: Shapes) -> Vector:
    """(num_params,) zeros: what is left over before the first round."""
    return np.zeros(sum(rows * columns for rows, columns in shapes.values()))


def compress(
    compressor: Compressor,
    vector: Vector,
    shapes: Shapes,
    residual: Vector | None,
    slots: Slots,
    seed: int,
) -> Compressed:
    """Compress a vector, with what was left over before it unless ``residual`` is None.

    ``seed`` is what the receiver decompresses with. Raises CompressionError if the vector, or its
    sum with the residual, does not fit the shapes or is not finite, and OwnCodeError for what else
    the compressor raises.
    """
    with np.errstate(over="ignore"):
        whole = vector if residual is None else checked(vector, shapes) + checked(residual, shapes)
    checked(whole, shapes)
    with blamed("compressor", compressor, "compress", CompressionError):
        payload, kept = compressor.compress(whole, shapes, slots, seed)
        if not isinstance(payload, bytes):
            raise TypeError(f"the payload is a {type(payload).__name__}, no bytes")
    sent = decompress(compressor, payload, shapes, seed)
    left = None if residual is None else checked(whole - sent, shapes)
    return Compressed(payload, sent, left, kept)


def decompress(compressor: Compressor, payload: bytes, shapes: Shapes, seed: int) -> Vector:
    """(num_params,) what a payload stands for, whoever wrote the compressor and the payload.

    Raises CompressionError for a payload that is too long or cannot be read, and for what is no
    vector of finite numbers of this length; OwnCodeError for whatever else the compressor raises.
    """
    most = size_of(compressor, shapes)
    if len(payload) > most:
        raise CompressionError(f"the payload has {len(payload)} bytes, more than {most}")
    with blamed("compressor", compressor, "decompress", CompressionError):
        sent = compressor.decompress(payload, shapes, seed)
    if not isinstance(sent, np.ndarray) or sent.dtype != np.float64:
        raise CompressionError("what was decompressed is no vector of float64")
    if not all_finite(sent):
        raise CompressionError("what was decompressed is not finite")
    return checked(sent, shapes)


def size_of(compressor: Compressor, shapes: Shapes) -> int:
    """The most bytes of a payload. Raises OwnCodeError for what is no number of bytes."""
    with blamed("compressor", compressor, "size"):
        return int(compressor.size(shapes))
