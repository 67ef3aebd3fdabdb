"""The papers read once more, in plain Python with exact fractions and in their own words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

Exact = list[Fraction]


def exact(vectors: Sequence[Sequence[float]]) -> list[Exact]:
    return [[Fraction(float(number)) for number in vector] for vector in vectors]


def mean(vectors: list[Exact]) -> Exact:
    return [sum(column, Fraction(0)) / len(vectors) for column in zip(*vectors, strict=True)]


def median(vectors: list[Exact]) -> Exact:
    columns = [sorted(column) for column in zip(*vectors, strict=True)]
    low, high = (len(vectors) - 1) // 2, len(vectors) // 2
    return [(column[low] + column[high]) / 2 for column in columns]


def trimmed_mean(vectors: list[Exact], f: int) -> Exact:
    rest = []
    for column in zip(*vectors, strict=True):
        left = list(column)
        for _ in range(f):
            left.remove(max(left))
            left.remove(min(left))
        rest.append(sum(left, Fraction(0)) / len(left))
    return rest


def distance2(a: Exact, b: Exact) -> Fraction:
    return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), Fraction(0))


def krum_order(vectors: list[Exact], neighbours: int) -> list[int]:
    """Places from the best score to the worst, the lower place first where they are equal."""
    scored = []
    for i, vector in enumerate(vectors):
        others = sorted(distance2(vector, other) for j, other in enumerate(vectors) if j != i)
        scored.append((sum(others[:neighbours], Fraction(0)), i))
    return [place for _, place in sorted(scored)]


def multi_krum(vectors: list[Exact], f: int, m: int) -> tuple[Exact, tuple[int, ...]]:
    order = krum_order(vectors, len(vectors) - f - 2)
    return mean([vectors[place] for place in order[:m]]), tuple(sorted(order[m:]))


def bulyan(vectors: list[Exact], f: int) -> tuple[Exact, tuple[int, ...]]:
    received = list(range(len(vectors)))
    selected: list[Exact] = []
    theta = len(vectors) - 2 * f
    while len(selected) < theta:
        neighbours = max(len(received) - f - 2, 1)
        best = received[krum_order([vectors[place] for place in received], neighbours)[0]]
        received.remove(best)
        selected.append(vectors[best])
    result = []
    for column in zip(*selected, strict=True):
        # The number of the set with the least sum of distances to all of them; the lower of two.
        middle = min(column, key=lambda m: (sum(abs(z - m) for z in column), m))
        near = sorted(column, key=lambda z: (abs(z - middle), z))[: theta - 2 * f]
        result.append(sum(near, Fraction(0)) / len(near))
    return result, tuple(received)


def centered_clip(
    rounds: list[list[list[float]]], tau: float, iterations: int, beta: float
) -> list[list[float]]:
    """The center after each round; square roots and so all of it in floats."""
    size = len(rounds[0][0])
    center, momentum, centers = [0.0] * size, [list(x) for x in rounds[0]], []
    for number, vectors in enumerate(rounds):
        if number:
            momentum = [
                [beta * old + (1 - beta) * new for old, new in zip(m, x, strict=True)]
                for m, x in zip(momentum, vectors, strict=True)
            ]
        for _ in range(iterations):
            moves = [[a - b for a, b in zip(m, center, strict=True)] for m in momentum]
            factors = [min(1.0, tau / math.hypot(*move)) if any(move) else 1.0 for move in moves]
            center = [
                old
                + math.fsum(move[k] * c for move, c in zip(moves, factors, strict=True))
                / len(moves)
                for k, old in enumerate(center)
            ]
        centers.append(center)
    return centers
