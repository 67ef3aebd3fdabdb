"""The compiled code of every operation, forward: ``n`` results in the slots from ``out``.

``a`` and ``b`` point to the slot numbers of the operands. What may have no finite result returns
how many results had none. ``tape.MEANINGS`` tells what each operation computes.
"""

# ruff: noqa: D103  # one kernel per operation, all alike

from __future__ import annotations

import math
from typing import Any

from microgpt.numerics.jit import inner
from microgpt.numerics.libm import TRUSTED, exp_or_undecided, power
from microgpt.numerics.simd import (
    as_integers,
    load,
    lowest_bit,
    not_finite,
    offset,
    splat,
    store,
    turn,
    where_greater,
)

Pointer = Any
Lanes = Any

EIGHT = (0,) * 8


@inner
def add_forward(mem: Pointer, n: int, out: int, a: Pointer, b: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        store(mem, out + i, load(mem, a[i], lanes) + load(mem, b[i], lanes))


@inner
def mul_forward(mem: Pointer, n: int, out: int, a: Pointer, b: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        store(mem, out + i, load(mem, a[i], lanes) * load(mem, b[i], lanes))


@inner
def exp_forward(mem: Pointer, n: int, out: int, a: Pointer, lanes: Lanes) -> int:
    """Some vectors first, and then their lanes that are left to the C library."""
    bad = 0
    for first in range(0, n, 8):
        last = min(first + 8, n)
        if TRUSTED and len(lanes) > 1:
            left, shift = 0, 0
            for i in range(first, last):
                left |= exp_or_undecided(mem, out + i, load(mem, a[i], lanes)) << shift
                shift += len(lanes)
        else:
            left = (1 << (last - first)) - 1
        while left:
            bit = lowest_bit(left)
            i = first + bit // len(lanes)
            lane = bit & (len(lanes) - 1)
            y = math.exp(mem[a[i] * len(lanes) + lane])
            mem[(out + i) * len(lanes) + lane] = y
            bad += not math.isfinite(y)
            left &= left - 1
    return bad


@inner
def log_forward(mem: Pointer, n: int, out: int, a: Pointer, lanes: Lanes) -> int:
    bad = 0
    for i in range(n):
        for lane in range(len(lanes)):
            x = mem[a[i] * len(lanes) + lane]
            y = math.log(x) if x > 0.0 else math.nan
            mem[(out + i) * len(lanes) + lane] = y
            bad += not math.isfinite(y)
    return bad


@inner
def relu_forward(mem: Pointer, n: int, out: int, a: Pointer, lanes: Lanes) -> None:
    zero = splat(0.0, lanes)
    for i in range(n):
        x = load(mem, a[i], lanes)
        store(mem, out + i, where_greater(x, zero, x, zero))


@inner
def pow_forward(mem: Pointer, n: int, out: int, a: Pointer, exponent: float, lanes: Lanes) -> int:
    bad = 0
    for i in range(n):
        power(mem, out + i, mem, a[i], exponent, lanes)
        bad += not_finite(load(mem, out + i, lanes))
    return bad


@inner
def ratio_forward(
    mem: Pointer,
    n: int,
    out: int,
    a: Pointer,
    b: Pointer,
    exponent: float,
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    bad = 0
    for i in range(n):
        if i == 0 or b[i] != b[i - 1]:  # neighbours mostly share their base
            power(scratch, 0, mem, b[i], exponent, lanes)
            bad += not_finite(load(scratch, 0, lanes))
        store(mem, out + i, load(mem, a[i], lanes) * load(scratch, 0, lanes))
    return bad


@inner
def max_forward(mem: Pointer, n: int, k: int, out: int, a: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        best = load(mem, a[i * k], lanes)
        for j in range(i * k + 1, i * k + k):
            x = load(mem, a[j], lanes)
            best = where_greater(x, best, x, best)
        store(mem, out + i, best)


@inner
def sum_forward(mem: Pointer, n: int, k: int, out: int, a: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        total = splat(0.0, lanes)
        for j in range(i * k, i * k + k):
            total = total + load(mem, a[j], lanes)
        store(mem, out + i, total)


@inner
def dot_forward(
    mem: Pointer, n: int, k: int, out: int, a: Pointer, b: Pointer, lanes: Lanes
) -> None:
    for i in range(n):
        total = splat(0.0, lanes)
        for j in range(i * k, i * k + k):
            total = total + load(mem, a[j], lanes) * load(mem, b[j], lanes)
        store(mem, out + i, total)


@inner
def pick_forward(
    mem: Pointer, n: int, k: int, out: int, a: Pointer, tokens: Pointer, lanes: Lanes
) -> None:
    for i in range(n):
        for lane in range(len(lanes)):
            slot = a[i * k + tokens[lane]]
            mem[(out + i) * len(lanes) + lane] = mem[slot * len(lanes) + lane]


@inner
def load_forward(mem: Pointer, n: int, out: int, a: Pointer, params: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        store(mem, out + i, splat(params[a[i]], lanes))


@inner
def gather_forward(
    mem: Pointer,
    n: int,
    out: int,
    a: Pointer,
    stride: int,
    adjacent: int,
    params: Pointer,
    tokens: Pointer,
    scratch: Pointer,
    lanes: Lanes,
) -> None:
    """Parameters that are ``adjacent``, one after the other, are taken eight at a time."""
    i = 0
    if len(lanes) == 8 and adjacent:
        starts = as_integers(offset(scratch, 32))  # of the rest nobody reads whole numbers
        while i + 8 <= n:
            for lane in range(8):
                starts[lane] = a[i] + stride * tokens[lane]
            turn(params, starts, offset(mem, (out + i) * 8))
            i += 8
    for k in range(i, n):
        for lane in range(len(lanes)):
            mem[(out + k) * len(lanes) + lane] = params[a[k] + stride * tokens[lane]]


@inner
def row_forward(
    mem: Pointer, n: int, k: int, out: int, x: Pointer, panel: Pointer, lanes: Lanes
) -> None:
    """Eight rows at a time, one accumulator each, over the columns in order."""
    zero = splat(0.0, lanes)
    for first in range(0, n, 8):
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        w = offset(panel, first * k)
        for j in range(k):
            xj = load(mem, x[j], lanes)
            a0 = a0 + splat(w[0], lanes) * xj
            a1 = a1 + splat(w[1], lanes) * xj
            a2 = a2 + splat(w[2], lanes) * xj
            a3 = a3 + splat(w[3], lanes) * xj
            a4 = a4 + splat(w[4], lanes) * xj
            a5 = a5 + splat(w[5], lanes) * xj
            a6 = a6 + splat(w[6], lanes) * xj
            a7 = a7 + splat(w[7], lanes) * xj
            w = offset(w, 8)
        o = out + first
        store(mem, o, a0)
        store(mem, o + 1, a1)
        store(mem, o + 2, a2)
        store(mem, o + 3, a3)
        store(mem, o + 4, a4)
        store(mem, o + 5, a5)
        store(mem, o + 6, a6)
        store(mem, o + 7, a7)


@inner
def row_forward_one(mem: Pointer, n: int, k: int, out: int, x: Pointer, panel: Pointer) -> None:
    """The same for one document: eight rows are the lanes."""
    for first in range(0, n, 8):
        w = offset(panel, first * k)
        total = splat(0.0, EIGHT)
        for j in range(k):
            total = total + load(w, j, EIGHT) * splat(mem[x[j]], EIGHT)
        store(offset(mem, out + first), 0, total)
