"""The laws of a compressor alone: what it makes is read, what nobody has made is refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from random import Random

import numpy as np

from microgpt.compression import feedback
from microgpt.compression.base import CompressionError, Compressor
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params

#: The default model, and one whose parameters fill no byte of bits.
SHAPES: tuple[Shapes, ...] = (
    parameter_shapes(GPTConfig(27)), {"a": (5, 7), "b": (2, 3), "c": (6, 1)},
)  # fmt: skip
HOSTILE = 100  # payloads that nobody has made
ROUNDS = 8


def vectors(shapes: Shapes) -> Iterator[Vector]:
    """Zeros, ones, and numbers of both signs and of all magnitudes."""
    size = num_params(shapes)
    yield np.zeros(size)
    yield np.ones(size)
    for number, scale in enumerate((1.0, 1e-3, 1e-310, 1e150)):
        rng = Random(number)
        yield np.array([rng.choice((0.0, scale)) * rng.gauss(0, 1) for _ in range(size)])


def deterministic(compressor: Compressor) -> str:
    """The same vector and seed make the same payload."""
    for shapes in SHAPES:
        for vector in vectors(shapes):
            one, other = (
                compressor.compress(vector.copy(), shapes, compressor.init(shapes), 7)
                for _ in range(2)
            )
            if one[0] != other[0]:
                return "the same vector makes other bytes the second time"
    return ""


def is_read(compressor: Compressor) -> str:
    """Any finite vector makes a payload that is read, in at most as many bytes as ``size``."""
    for shapes in SHAPES:
        for seed, vector in enumerate(vectors(shapes)):
            try:
                feedback.compress(compressor, vector, shapes, None, compressor.init(shapes), seed)
            except CompressionError as error:
                return f"a vector of numbers up to {np.abs(vector).max():g}: {error}"
    return ""


def refuses(compressor: Compressor) -> str:
    """What nobody has made is a finite vector or a CompressionError, and nothing else."""
    shapes, rng = SHAPES[0], Random(1)
    vector = list(vectors(shapes))[2]
    payload, _ = compressor.compress(vector, shapes, compressor.init(shapes), 3)
    for number in range(HOSTILE):
        length = rng.choice((0, 1, len(payload) // 2, max(0, len(payload) - 1), len(payload)))
        hostile = rng.randbytes(length) if number % 2 else payload[:length]
        try:
            feedback.decompress(compressor, hostile, shapes, 3)
        except CompressionError:
            continue
    return ""


def loses_nothing(compressor: Compressor) -> str:
    """With error feedback, what was sent and the residual are the sum of the gradients."""
    shapes = SHAPES[1]
    size = num_params(shapes)
    residual, slots = np.zeros(size), compressor.init(shapes)
    parts: list[Vector] = []
    for number in range(ROUNDS):
        rng = Random(number)
        vector = np.array([rng.gauss(0, 1) for _ in range(size)])
        done = feedback.compress(compressor, vector, shapes, residual, slots, number)
        assert done.residual is not None  # noqa: S101  # as one was given
        parts += [vector, -done.sent]
        residual, slots = done.residual, done.slots
    largest = max(float(np.abs(part).max()) for part in (*parts, residual))
    for place in range(size):
        missing = math.fsum([*(float(part[place]) for part in parts), -float(residual[place])])
        if abs(missing) > 2 * ROUNDS * largest * 2.0**-53:
            return f"parameter {place}: {missing:g} is lost in {ROUNDS} rounds"
    return ""


LAWS: tuple[tuple[str, Callable[[Compressor], str]], ...] = (
    ("pure: the same vector makes the same payload", deterministic),
    ("any finite vector makes a payload that is read, of at most size() bytes", is_read),
    ("what nobody has made is refused or a finite vector", refuses),
    ("error feedback loses nothing but rounding", loses_nothing),
)
