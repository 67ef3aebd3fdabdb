"""What kernels may be written in, and that it computes what Python computes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from microgpt.numerics.jit import entry, inner
from microgpt.numerics.simd import highest_bit, load, lowest_bit, pointer, splat, store, turn
from microgpt.numerics.values import KernelError

SIX, FOUR = (0,) * 6, (0,) * 4
FLAG = False


def both(function: Callable[..., Any], *args: Any) -> None:
    """Compiled it returns what it returns in Python."""
    compiled, expected = entry(function)(*args), function(*args)
    assert compiled == expected
    assert math.copysign(1.0, compiled) == math.copysign(1.0, expected)


def loops(n: int) -> int:
    total: int = 0
    for i in range(n):
        if i == 7:
            continue
        if i > 20:
            break
        for j in range(i, 0, -2):
            total += j * (i - 3)
    while (total > -100 and total < 100) or total == 100:
        total = 3 * total + 1
    return total


def choices(n: int) -> int:
    values = 5 if n > 3 else -n
    if n < 0:
        return -1
    elif n == 2 and not values > 0:
        values = values << 3 | 1
    else:
        values ^= ~n
    return min(values, 40) + max(n, 3) + n // 4 + (n >> 1) - int(n <= 2)


@pytest.mark.parametrize("n", range(-3, 30, 3))
def test_whole_numbers(n: int) -> None:
    both(loops, n)
    both(choices, n)


def sums(x: float, n: int) -> float:
    total = 0.0
    for i in range(n):
        total += x * i - total / (i + 1)
    return -total if total > 1.5 else total**0.25 + math.exp(x) + math.log(x)


@pytest.mark.parametrize("x", [0.1, 1e-9, 0.7, 12.0])
def test_floats(x: float) -> None:
    both(sums, x, 9)


def finite(x: float) -> int:
    return 2 * math.isfinite(x) + (x == x)


@pytest.mark.parametrize("x", [1.0, math.inf, -math.inf, math.nan])
def test_what_is_no_number(x: float) -> None:
    both(finite, x)


def test_arrays_are_read_and_written() -> None:
    @entry
    def moved(numbers: Any, small: Any, large: Any) -> int:
        for i in range(len(numbers)):
            small[i] = large[i] - 1
            numbers[i] += small[i]
            large[i] = small[i] * 1000
        return len(large)

    numbers, small = np.full(3, 0.5), np.zeros(3, np.int32)
    large = np.array([-5, 0, 2**31])
    assert moved(numbers, small, large) == 3
    assert small.tolist() == [-6, -1, 2**31 - 1]
    assert large.tolist() == [-6000, -1000, 1000 * (2**31 - 1)]
    assert numbers.tolist() == [-5.5, -0.5, 2**31 - 0.5]


def test_what_is_not_chosen_is_not_read() -> None:
    @entry
    def guarded(numbers: Any, place: int) -> float:
        if place >= 0 and numbers[place] > 1.0:
            return 1.0
        return numbers[place] if place >= 0 else -1.0

    numbers = np.array([0.25, 2.0])
    assert [guarded(numbers, place) for place in (-(2**50), 0, 1)] == [-1.0, 0.25, 1.0]


@inner
def swapped(a: Any, b: Any) -> tuple[Any, Any]:
    return b, a


@inner
def halved(x: Any, lanes: Any) -> Any:
    if len(lanes) == 4:
        return x * splat(0.5, lanes)
    return x


def test_vectors_and_calls() -> None:
    @entry
    def vectors(out: Any, x: Any, y: Any) -> None:
        a, b = load(pointer(x), 0, FOUR), load(pointer(y), 0, FOUR)
        a, b = swapped(a, b)
        store(pointer(out), 0, halved(a - b / a, FOUR))
        store(pointer(out), 1, splat(3.0, FOUR))
        if FLAG:
            no_such_function()  # type: ignore[name-defined]  # noqa: F821  # is never looked at

    x, y, out = np.arange(4.0), np.arange(4.0) + 2, np.zeros(8)
    vectors(out, x, y)
    assert out.tolist() == [*((y - x / y) * 0.5).tolist(), 3.0, 3.0, 3.0, 3.0]


def test_products_are_rounded_before_they_are_added() -> None:
    @entry
    def multiply_add(out: Any, x: Any) -> None:
        p = pointer(x)
        a = load(p, 0, FOUR)
        store(pointer(out), 0, a * a + splat(-1.0, FOUR))
        out[4] = p[0] * p[0] - 1.0

    x, out = np.full(4, 1 + 2.0**-30), np.zeros(5)
    multiply_add(out, x)
    assert out.tolist() == [2.0**-29] * 5, "fused it would be 2**-29 + 2**-60"


def test_places_of_bits() -> None:
    @entry
    def places(bits: int) -> int:
        return 100 * highest_bit(bits) + lowest_bit(bits)  # type: ignore[no-any-return]

    for low, high in ((0, 0), (3, 3), (1, 40), (0, 62)):
        assert places(1 << low | 1 << high) == 100 * high + low
    assert places(-(1 << 63)) == 6363


def test_rows_are_turned() -> None:
    @entry
    def turned(out: Any, x: Any, starts: Any) -> None:
        turn(pointer(x), pointer(starts), pointer(out))

    x, out = np.arange(100.0), np.zeros(64)
    starts = np.array([5, 0, 92, 8, 16, 40, 50, 33], np.int32)
    turned(out, x, starts)
    assert out.reshape(8, 8).T.tolist() == [x[s : s + 8].tolist() for s in starts]


def test_another_type_than_at_first() -> None:
    @entry
    def twice(x: Any) -> Any:
        return x + x

    assert twice(2) == 4
    for wrong in (2.5, np.zeros(3)):
        with pytest.raises(TypeError, match="is compiled for"):
            twice(wrong)
    with pytest.raises(TypeError, match="contiguous arrays that may be written to"):
        twice(np.arange(6.0)[::2])
    with pytest.raises(TypeError, match="cannot be given str"):
        entry(halved_in_python)("a")


def halved_in_python(x: Any) -> Any:
    return x / 2


def named(x: float) -> float:
    return round(number=x)


def unknown(x: float) -> float:
    return x + nowhere  # type: ignore[name-defined,no-any-return]  # noqa: F821


def changing(x: float) -> float:
    n = 1
    n = x  # type: ignore[assignment]
    return n


def listing(x: float) -> float:
    return [x][0]


def trying(x: float) -> float:
    try:
        return x
    finally:
        pass


def mixed(x: float) -> None:
    splat(x, FOUR) + splat(x, SIX)


def dividing(x: float) -> int:
    return 7 // int(x > 2)


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (named, "named: line 2: no arguments by name"),
        (unknown, "unknown: nowhere has no value"),
        (changing, "changing: double is no whole number"),
        (listing, "listing: line 2: no List"),
        (trying, "trying: line 2: no Try"),
        (mixed, "mixed: <4 x double> and <6 x double> do not go together"),
        (dividing, "dividing: // takes a power of two that is known beforehand"),
    ],
)
def test_what_kernels_cannot_do_is_told(function: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(KernelError) as told:
        entry(function)(1.0)
    assert str(told.value) == complaint
