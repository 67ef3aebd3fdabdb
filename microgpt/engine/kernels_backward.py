"""The compiled code of every operation, backward: from the results' gradients to the operands'.

Results are taken in reverse and operands in the order of ``rewrite.backward_order``: a gradient is
a sum, and the scalar engine's order decides its bits. ``first_a`` and ``first_b`` tell that nothing
has contributed to the operands' gradients before, so that these need not have been cleared.

Longer than 300 lines because it is a list of kernels, one or two for each operation.
"""

# ruff: noqa: D103  # one kernel per operation, all alike

from __future__ import annotations

from typing import Any

from microgpt.numerics.jit import inner
from microgpt.numerics.libm import power
from microgpt.numerics.simd import (
    gather,
    load,
    not_finite,
    offset,
    scatter,
    splat,
    store,
    where_greater,
)

Pointer = Any
Lanes = Any

EIGHT = (0,) * 8


@inner
def contribute(grad: Pointer, slot: int, amount: Any, first: int, lanes: Lanes) -> None:
    """Add to a gradient; the first contribution is simply written, so nothing must be cleared."""
    if first:
        store(grad, slot, amount)
    else:
        store(grad, slot, load(grad, slot, lanes) + amount)


@inner
def add_backward(
    grad: Pointer,
    n: int,
    out: int,
    a: Pointer,
    b: Pointer,
    needs_b: int,
    first_a: int,
    first_b: int,
    lanes: Lanes,
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)
        if needs_b:
            contribute(grad, b[i], g, first_b, lanes)


@inner
def mul_backward(
    mem: Pointer,
    grad: Pointer,
    n: int,
    out: int,
    a: Pointer,
    b: Pointer,
    needs_b: int,
    first_a: int,
    first_b: int,
    apart: int,
    lanes: Lanes,
) -> None:
    if needs_b and apart and not first_b:
        mul_backward_apart(mem, grad, n, out, a, b, first_a, lanes)
        return
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], load(mem, b[i], lanes) * g, first_a, lanes)
        if needs_b:
            contribute(grad, b[i], load(mem, a[i], lanes) * g, first_b, lanes)


@inner
def mul_backward_apart(
    mem: Pointer,
    grad: Pointer,
    n: int,
    out: int,
    a: Pointer,
    b: Pointer,
    first_a: int,
    lanes: Lanes,
) -> None:
    """The gradient of neighbours' common operand stays in a register."""
    last = b[n - 1]
    total, y = load(grad, last, lanes), load(mem, last, lanes)
    for i in range(n - 1, -1, -1):
        if b[i] != last:
            store(grad, last, total)
            last = b[i]
            total, y = load(grad, last, lanes), load(mem, last, lanes)
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], y * g, first_a, lanes)
        total = total + load(mem, a[i], lanes) * g
    store(grad, last, total)


@inner
def exp_backward(
    mem: Pointer, grad: Pointer, n: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(mem, out + i, lanes) * load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)


@inner
def log_backward(
    mem: Pointer, grad: Pointer, n: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    one = splat(1.0, lanes)
    for i in range(n - 1, -1, -1):
        g = one / load(mem, a[i], lanes) * load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)


@inner
def relu_backward(
    mem: Pointer, grad: Pointer, n: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    zero, one = splat(0.0, lanes), splat(1.0, lanes)
    for i in range(n - 1, -1, -1):
        slope = where_greater(load(mem, a[i], lanes), zero, one, zero)
        g = slope * load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)


@inner
def pow_backward(
    mem: Pointer,
    grad: Pointer,
    n: int,
    out: int,
    a: Pointer,
    exponent: float,
    lower: float,
    first_a: int,
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    bad = 0
    for i in range(n - 1, -1, -1):
        power(scratch, 0, mem, a[i], lower, lanes)
        slope = splat(exponent, lanes) * load(scratch, 0, lanes)
        bad += not_finite(slope)
        contribute(grad, a[i], slope * load(grad, out + i, lanes), first_a, lanes)
    return bad


@inner
def ratio_backward(
    mem: Pointer,
    grad: Pointer,
    n: int,
    out: int,
    a: Pointer,
    b: Pointer,
    exponent: float,
    lower: float,
    first_a: int,
    first_b: int,
    apart: int,
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    bad = 0
    apart = int(apart and not first_b)
    last = b[n - 1]
    total = load(grad, last, lanes)
    for i in range(n - 1, -1, -1):
        if i == n - 1 or b[i] != b[i + 1]:
            power(scratch, 0, mem, b[i], exponent, lanes)
            power(scratch, 1, mem, b[i], lower, lanes)
            slope = splat(exponent, lanes) * load(scratch, 1, lanes)
            bad += not_finite(slope)
            store(scratch, 1, slope)
            if apart and i != n - 1:
                store(grad, last, total)
                last = b[i]
                total = load(grad, last, lanes)
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], load(scratch, 0, lanes) * g, first_a, lanes)
        g = load(scratch, 1, lanes) * (load(mem, a[i], lanes) * g)
        if apart:  # the gradient of neighbours' common base stays in a register
            total = total + g
        else:
            contribute(grad, b[i], g, first_b, lanes)
    if apart:
        store(grad, last, total)
    return bad


@inner
def sum_backward(
    grad: Pointer, n: int, k: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        for j in range(i * k + k - 1, i * k - 1, -1):
            contribute(grad, a[j], g, first_a, lanes)


@inner
def dot_backward(
    mem: Pointer,
    grad: Pointer,
    n: int,
    k: int,
    out: int,
    a: Pointer,
    b: Pointer,
    first_a: int,
    first_b: int,
    lanes: Lanes,
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        for j in range(i * k + k - 1, i * k - 1, -1):
            x, y = load(mem, a[j], lanes), load(mem, b[j], lanes)
            if a[j] == b[j] and not first_a:  # a square
                store(grad, a[j], load(grad, a[j], lanes) + y * g + x * g)
            else:
                contribute(grad, a[j], y * g, first_a, lanes)
                contribute(grad, b[j], x * g, first_b, lanes)


@inner
def dot_backward_shared(
    mem: Pointer,
    grad: Pointer,
    n: int,
    k: int,
    out: int,
    a: Pointer,
    b: Pointer,
    first_b: int,
    run: int,
    lanes: Lanes,
) -> None:
    """The same where ``run`` neighbours have the same first operands, and all others are distinct.

    The gradient of a first operand stays in a register for the run. It is not the first one that
    the operand receives: only what occurs once in an instruction may be that.
    """
    end = n
    while end > 0:
        for j in range(k - 1, -1, -1):
            slot = a[(end - 1) * k + j]
            x, total = load(mem, slot, lanes), load(grad, slot, lanes)
            for i in range(end - 1, end - 1 - run, -1):
                g, other = load(grad, out + i, lanes), b[i * k + j]
                total = total + load(mem, other, lanes) * g
                contribute(grad, other, x * g, first_b, lanes)
            store(grad, slot, total)
        end -= run


@inner
def pick_backward(
    grad: Pointer, n: int, k: int, out: int, a: Pointer, tokens: Pointer, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        for lane in range(len(lanes)):
            slot = a[i * k + tokens[lane]]
            grad[slot * len(lanes) + lane] += grad[(out + i) * len(lanes) + lane]


@inner
def row_backward(
    grad: Pointer, n: int, k: int, out: int, x: Pointer, panel: Pointer, first_a: int, lanes: Lanes
) -> None:
    """Eight columns at a time; each takes what the rows give it, the last row first."""
    zero = splat(0.0, lanes)
    for c in range(0, k, 8):
        s = offset(x, c)
        b0, b1, b2, b3, b4, b5, b6, b7 = zero, zero, zero, zero, zero, zero, zero, zero
        if not first_a:
            b0, b1 = load(grad, s[0], lanes), load(grad, s[1], lanes)
            b2, b3 = load(grad, s[2], lanes), load(grad, s[3], lanes)
            b4, b5 = load(grad, s[4], lanes), load(grad, s[5], lanes)
            b6, b7 = load(grad, s[6], lanes), load(grad, s[7], lanes)
        w = offset(panel, (c + 8) * n - 8)
        for i in range(n - 1, -1, -1):
            g = load(grad, out + i, lanes)
            b0 = b0 + splat(w[0], lanes) * g
            b1 = b1 + splat(w[1], lanes) * g
            b2 = b2 + splat(w[2], lanes) * g
            b3 = b3 + splat(w[3], lanes) * g
            b4 = b4 + splat(w[4], lanes) * g
            b5 = b5 + splat(w[5], lanes) * g
            b6 = b6 + splat(w[6], lanes) * g
            b7 = b7 + splat(w[7], lanes) * g
            w = offset(w, -8)
        store(grad, s[0], b0)
        store(grad, s[1], b1)
        store(grad, s[2], b2)
        store(grad, s[3], b3)
        store(grad, s[4], b4)
        store(grad, s[5], b5)
        store(grad, s[6], b6)
        store(grad, s[7], b7)


@inner
def row_backward_one(
    grad: Pointer, n: int, k: int, out: int, x: Pointer, panel: Pointer, first_a: int
) -> None:
    """The same for one document: eight columns are the lanes."""
    for c in range(0, k, 8):
        w = offset(panel, c * n)
        s = offset(x, c)
        total = splat(0.0, EIGHT)
        if not first_a:
            total = gather(grad, s, EIGHT)
        for i in range(n - 1, -1, -1):
            total = total + load(w, i, EIGHT) * splat(grad[out + i], EIGHT)
        scatter(grad, s, total)
