"""Shapes, vectors and specifications that the tests of compressors share."""

from __future__ import annotations

import math
import random

import numpy as np
from hypothesis import strategies as st

from microgpt.compression.base import Compressor
from microgpt.compression.registry import load_compressor
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes, num_params

#: The default model: 4,192 parameters.
NAMES = parameter_shapes(GPTConfig(27))
#: 47 parameters, so that the last byte of bits is not full; "b" is too small to be factored.
SMALL: Shapes = {"a": (5, 7), "b": (2, 3), "c": (6, 1)}

#: Every compressor, with options that make another way of it.
SPECS = [
    "f32",
    "f16",
    "bf16",
    "int8",
    "int8:stochastic",
    "qsgd",
    "qsgd:levels=1,bucket=10",
    "qsgd:levels=200,bucket=16,norm=max",
    "sign",
    "sign:vote=true",
    "onebit",
    "onebit:column",
    "topk",
    "topk:0.3",
    "randomk",
    "randomk:density=0.3,unbiased=true",
    "powersgd",
    "powersgd:1",
]


def gradient(seed: int, shapes: Shapes = SMALL) -> Vector:
    """Numbers of both signs and of several magnitudes, some of them zero."""
    rng = random.Random(seed)
    return np.array(
        [
            rng.choice([0.0, 1.0, 1.0, 1.0]) * rng.gauss(0, 1) * 10.0 ** rng.randrange(-3, 1)
            for _ in range(num_params(shapes))
        ]
    )


def sent_by(
    spec: str | Compressor, vector: Vector, shapes: Shapes = SMALL, seed: int = 0
) -> Vector:
    """What a receiver takes the vector for in the first round."""
    compressor = load_compressor(spec) if isinstance(spec, str) else spec
    payload, _ = compressor.compress(vector, shapes, compressor.init(shapes), seed)
    return compressor.decompress(payload, shapes, seed)


def parts(vector: Vector, shapes: Shapes = SMALL) -> list[list[float]]:
    """The numbers of each matrix, row after row."""
    found, at = [], 0
    for rows, columns in shapes.values():
        found.append(vector[at : at + rows * columns].tolist())
        at += rows * columns
    return found


def same_bits(left: Vector, right: Vector) -> bool:
    return left.tobytes() == right.tobytes()


def near(got: float, expected: float) -> bool:
    """Equal but for the rounding of some sums."""
    return math.isclose(got, expected, rel_tol=1e-13, abs_tol=1e-300)


#: (47,) float64 of any finite numbers: denormals, -0.0 and the largest among them.
any_vector = st.lists(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        [0.0, -0.0, 5e-324, -5e-324, 1.7976931348623157e308, -1.7976931348623157e308]
    ),
    min_size=num_params(SMALL),
    max_size=num_params(SMALL),
).map(np.array)
