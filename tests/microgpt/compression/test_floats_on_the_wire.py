from __future__ import annotations

import math
import random
import struct
from fractions import Fraction

import numpy as np
import pytest

from microgpt.compression.registry import load_compressor
from microgpt.parameters import Shapes
from tests.microgpt.compression.inputs import same_bits, sent_by

#: Significant bits, the smallest exponent of a normal number, and the largest finite number.
TYPES = {
    "f32": (24, -126, (2 - 2.0**-23) * 2.0**127),
    "f16": (11, -14, 65504.0),
    "bf16": (8, -126, (2 - 2.0**-7) * 2.0**127),
}


def nearest(x: float, bits: int, smallest: int, largest: float) -> float:
    """The nearest number of a type, ties to even, by exact arithmetic."""
    if x == 0.0:
        return x
    exponent = max(math.frexp(x)[1] - 1, smallest)
    unit = Fraction(2) ** (exponent - bits + 1)
    rounded = float(round(Fraction(x) / unit) * unit)  # Python rounds fractions to even
    return math.copysign(min(abs(rounded), largest), x)


def awkward_numbers(bits: int, smallest: int, largest: float) -> list[float]:
    """Ties and their neighbours at all magnitudes, below and beyond the range of the type."""
    rng = random.Random(bits)
    numbers = [0.0, -0.0, 5e-324, 1.7e308, largest, math.nextafter(largest, math.inf)]
    for exponent in range(smallest - bits - 3, min(-smallest + 3, 1023)):
        whole = rng.randrange(2 ** (bits - 1), 2**bits)
        tie = (whole + 0.5) * 2.0 ** (exponent - bits + 1)
        numbers += [tie, math.nextafter(tie, 0.0), math.nextafter(tie, math.inf)]
        numbers += [-2 * tie, rng.gauss(0, 1) * 2.0**exponent]
    return numbers


@pytest.mark.parametrize("name", TYPES)
def test_numbers_are_rounded_once_to_the_nearest_and_end_at_the_largest(name: str) -> None:
    numbers = awkward_numbers(*TYPES[name])
    shapes = {"a": (1, len(numbers))}
    expected = np.array([nearest(x, *TYPES[name]) for x in numbers])
    assert same_bits(sent_by(name, np.array(numbers), shapes), expected)


@pytest.mark.parametrize(("name", "letter"), [("f32", "f"), ("f16", "e")])
def test_the_bytes_are_those_of_the_standard_library(name: str, letter: str) -> None:
    numbers = [1.5, -0.1, 3.14159, 1e-7, -0.0, 2049.0]
    payload, _ = load_compressor(name).compress(np.array(numbers), {"a": (2, 3)}, {}, 0)
    assert payload == struct.pack(f"<6{letter}", *numbers)


def test_bfloat16_is_the_upper_half_of_binary32() -> None:
    shapes: Shapes = {"a": (1, 3)}
    payload, _ = load_compressor("bf16").compress(np.array([1.0, -2.5, 0.1]), shapes, {}, 0)
    assert payload == bytes.fromhex("803f 20c0 cd3d")
