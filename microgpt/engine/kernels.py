"""The compiled code that runs a program: one pass over instructions forward, one backward.

``mem`` points to the slots, ``grad`` to their gradients; a slot is a vector with one lane per
document. Every operand of every instruction was validated when the program was made: nothing is
checked here. What each operation means, and in which order it adds to gradients, is told by
``tape.MEANINGS`` and ``fuse.backward_order``; the scalar engine is the reference.
"""

# ruff: noqa: D103  # one kernel per operation and direction, all alike

from __future__ import annotations

import math
from typing import Any

from microgpt.engine.tape import Op
from microgpt.jit import inner
from microgpt.libm import exponential, power
from microgpt.simd import gather, load, not_finite, offset, scatter, splat, store, where_greater

Pointer = Any
Lanes = Any

ADD, MUL, POW, EXP, LOG = int(Op.ADD), int(Op.MUL), int(Op.POW), int(Op.EXP), int(Op.LOG)
RELU, MAX, PICK, SUM, DOT = int(Op.RELU), int(Op.MAX), int(Op.PICK), int(Op.SUM), int(Op.DOT)
ROW, RATIO, LOAD, GATHER = int(Op.ROW), int(Op.RATIO), int(Op.LOAD), int(Op.GATHER)

#: Columns of the instruction table, and eight lanes for what runs over rows or columns.
WIDTH = 15
EIGHT = (0,) * 8


@inner
def contribute(grad: Pointer, slot: int, amount: Any, first: int, lanes: Lanes) -> None:
    """Add to a gradient; the first contribution is simply written, so nothing must be cleared."""
    if first:
        store(grad, slot, amount)
    else:
        store(grad, slot, load(grad, slot, lanes) + amount)


@inner
def add_forward(mem: Pointer, n: int, out: int, a: Pointer, b: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        store(mem, out + i, load(mem, a[i], lanes) + load(mem, b[i], lanes))


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
def mul_forward(mem: Pointer, n: int, out: int, a: Pointer, b: Pointer, lanes: Lanes) -> None:
    for i in range(n):
        store(mem, out + i, load(mem, a[i], lanes) * load(mem, b[i], lanes))


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
    lanes: Lanes,
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], load(mem, b[i], lanes) * g, first_a, lanes)
        if needs_b:
            contribute(grad, b[i], load(mem, a[i], lanes) * g, first_b, lanes)


@inner
def exp_forward(mem: Pointer, n: int, out: int, a: Pointer, lanes: Lanes) -> int:
    bad = 0
    for i in range(n):
        exponential(mem, out + i, mem, a[i], lanes)
        bad += not_finite(load(mem, out + i, lanes))
    return bad


@inner
def exp_backward(
    mem: Pointer, grad: Pointer, n: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(mem, out + i, lanes) * load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)


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
def log_backward(
    mem: Pointer, grad: Pointer, n: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    one = splat(1.0, lanes)
    for i in range(n - 1, -1, -1):
        g = one / load(mem, a[i], lanes) * load(grad, out + i, lanes)
        contribute(grad, a[i], g, first_a, lanes)


@inner
def relu_forward(mem: Pointer, n: int, out: int, a: Pointer, lanes: Lanes) -> None:
    zero = splat(0.0, lanes)
    for i in range(n):
        x = load(mem, a[i], lanes)
        store(mem, out + i, where_greater(x, zero, x, zero))


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
def pow_forward(mem: Pointer, n: int, out: int, a: Pointer, exponent: float, lanes: Lanes) -> int:
    bad = 0
    for i in range(n):
        power(mem, out + i, mem, a[i], exponent, lanes)
        bad += not_finite(load(mem, out + i, lanes))
    return bad


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
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    bad = 0
    for i in range(n - 1, -1, -1):
        if i == n - 1 or b[i] != b[i + 1]:
            power(scratch, 0, mem, b[i], exponent, lanes)
            power(scratch, 1, mem, b[i], lower, lanes)
            slope = splat(exponent, lanes) * load(scratch, 1, lanes)
            bad += not_finite(slope)
            store(scratch, 1, slope)
        g = load(grad, out + i, lanes)
        contribute(grad, a[i], load(scratch, 0, lanes) * g, first_a, lanes)
        g = load(scratch, 1, lanes) * (load(mem, a[i], lanes) * g)
        contribute(grad, b[i], g, first_b, lanes)
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
def sum_backward(
    grad: Pointer, n: int, k: int, out: int, a: Pointer, first_a: int, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        g = load(grad, out + i, lanes)
        for j in range(i * k + k - 1, i * k - 1, -1):
            contribute(grad, a[j], g, first_a, lanes)


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
            contribute(grad, a[j], y * g, first_a, lanes)
            contribute(grad, b[j], x * g, first_b, lanes)


@inner
def pick_forward(
    mem: Pointer, n: int, k: int, out: int, a: Pointer, tokens: Pointer, lanes: Lanes
) -> None:
    for i in range(n):
        for lane in range(len(lanes)):
            slot = a[i * k + tokens[lane]]
            mem[(out + i) * len(lanes) + lane] = mem[slot * len(lanes) + lane]


@inner
def pick_backward(
    grad: Pointer, n: int, k: int, out: int, a: Pointer, tokens: Pointer, lanes: Lanes
) -> None:
    for i in range(n - 1, -1, -1):
        for lane in range(len(lanes)):
            slot = a[i * k + tokens[lane]]
            grad[slot * len(lanes) + lane] += grad[(out + i) * len(lanes) + lane]


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
    params: Pointer,
    tokens: Pointer,
    lanes: Lanes,
) -> None:
    for i in range(n):
        for lane in range(len(lanes)):
            mem[(out + i) * len(lanes) + lane] = params[a[i] + stride * tokens[lane]]


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


@inner
def run_forward(
    ins: Pointer,
    first: int,
    last: int,
    indices: Pointer,
    numbers: Pointer,
    mem: Pointer,
    params: Pointer,
    panel: Pointer,
    tokens: Pointer,
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    """Instructions ``first`` to ``last - 1``; returns how many results had no finite value."""
    bad = 0
    for i in range(first, last):
        r = offset(ins, i * WIDTH)
        op, n, k, out = r[0], r[1], r[2], r[3]
        a, b, c = offset(indices, r[4]), offset(indices, r[5]), offset(numbers, r[6])
        token = offset(tokens, r[7] * len(lanes))
        if op == ROW:
            if len(lanes) == 1:
                row_forward_one(mem, n, k, out, a, offset(panel, r[11]))
            else:
                row_forward(mem, n, k, out, a, offset(panel, r[11]), lanes)
        elif op == ADD:
            add_forward(mem, n, out, a, b, lanes)
        elif op == MUL:
            mul_forward(mem, n, out, a, b, lanes)
        elif op == DOT:
            dot_forward(mem, n, k, out, a, b, lanes)
        elif op == EXP:
            bad += exp_forward(mem, n, out, a, lanes)
        elif op == RATIO:
            bad += ratio_forward(mem, n, out, a, b, c[0], scratch, lanes)
        elif op == RELU:
            relu_forward(mem, n, out, a, lanes)
        elif op == POW:
            bad += pow_forward(mem, n, out, a, c[0], lanes)
        elif op == SUM:
            sum_forward(mem, n, k, out, a, lanes)
        elif op == MAX:
            max_forward(mem, n, k, out, a, lanes)
        elif op == LOG:
            bad += log_forward(mem, n, out, a, lanes)
        elif op == PICK:
            pick_forward(mem, n, k, out, a, token, lanes)
        elif op == LOAD:
            load_forward(mem, n, out, a, params, lanes)
        elif op == GATHER:
            gather_forward(mem, n, out, a, r[8], params, token, lanes)
    return bad


@inner
def run_backward(
    ins: Pointer,
    first: int,
    last: int,
    indices: Pointer,
    numbers: Pointer,
    mem: Pointer,
    grad: Pointer,
    panel: Pointer,
    tokens: Pointer,
    scratch: Pointer,
    lanes: Lanes,
) -> int:
    """Instructions ``last - 1`` down to ``first``; returns how many slopes were not finite."""
    bad = 0
    for i in range(last - 1, first - 1, -1):
        r = offset(ins, i * WIDTH)
        op, n, k, out = r[0], r[1], r[2], r[3]
        needs_b, first_a, first_b = r[10], r[13], r[14]
        if not r[9] and not needs_b:
            continue
        a, b, c = offset(indices, r[4]), offset(indices, r[5]), offset(numbers, r[6])
        token = offset(tokens, r[7] * len(lanes))
        if op == ROW:
            if len(lanes) == 1:
                row_backward_one(grad, n, k, out, a, offset(panel, r[12]), first_a)
            else:
                row_backward(grad, n, k, out, a, offset(panel, r[12]), first_a, lanes)
        elif op == ADD:
            add_backward(grad, n, out, a, b, needs_b, first_a, first_b, lanes)
        elif op == MUL:
            mul_backward(mem, grad, n, out, a, b, needs_b, first_a, first_b, lanes)
        elif op == DOT:
            dot_backward(mem, grad, n, k, out, a, b, first_a, first_b, lanes)
        elif op == EXP:
            exp_backward(mem, grad, n, out, a, first_a, lanes)
        elif op == RATIO:
            bad += ratio_backward(
                mem, grad, n, out, a, b, c[0], c[1], first_a, first_b, scratch, lanes
            )
        elif op == RELU:
            relu_backward(mem, grad, n, out, a, first_a, lanes)
        elif op == POW:
            bad += pow_backward(mem, grad, n, out, a, c[0], c[1], first_a, scratch, lanes)
        elif op == SUM:
            sum_backward(grad, n, k, out, a, first_a, lanes)
        elif op == LOG:
            log_backward(mem, grad, n, out, a, first_a, lanes)
        elif op == PICK:
            pick_backward(grad, n, k, out, a, token, lanes)
    return bad
