"""Pseudo-random numbers by their place: number ``i`` of a seed needs none of those before it.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"): state ``seed + (i + 1) * gamma``, of which a mixing function makes the output. All of
it is arithmetic on whole numbers modulo 2**64, so the bits are the same on every machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microgpt.numerics.vectors import Vector

GAMMA = 0x9E3779B97F4A7C15  # the golden ratio's fraction, made odd
_MASK = (1 << 64) - 1


def splitmix64(state: int, count: int) -> NDArray[np.uint64]:
    """(count,) uint64: the first outputs of SplitMix64 from ``state``, which is below 2**64."""
    places = np.arange(1, count + 1, dtype=np.uint64)
    z = places * np.uint64(GAMMA) + np.uint64(state)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(seed: int, count: int) -> NDArray[np.uint64]:
    """(count,) uint64, all different, that look random; any whole number from 0 is a seed.

    Near seeds give unrelated numbers. Raises ValueError for a negative seed.
    """
    if seed < 0:
        raise ValueError(f"a seed is at least 0, not {seed}")
    state = 0
    while True:  # 64 bits of the seed at a time
        state = int(splitmix64(state ^ (seed & _MASK), 1)[0])
        seed >>= 64
        if not seed:
            return splitmix64(state, count)


def uniforms(seed: int, count: int) -> Vector:
    """(count,) float64 in [0, 1), multiples of 2**-53; see ``words``."""
    return (words(seed, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53
