"""The compiled code that runs a program: one pass over instructions forward, one backward.

``mem`` points to the slots, ``grad`` to their gradients; a slot is a vector with one lane per
document. Every operand of every instruction was validated when the program was made: nothing is
checked here.
"""

from __future__ import annotations

from typing import Any

from microgpt.engine.kernels_backward import (
    add_backward,
    dot_backward,
    dot_backward_shared,
    exp_backward,
    log_backward,
    mul_backward,
    pick_backward,
    pow_backward,
    ratio_backward,
    relu_backward,
    row_backward,
    row_backward_one,
    sum_backward,
)
from microgpt.engine.kernels_forward import (
    add_forward,
    dot_forward,
    exp_forward,
    gather_forward,
    load_forward,
    log_forward,
    max_forward,
    mul_forward,
    pick_forward,
    pow_forward,
    ratio_forward,
    relu_forward,
    row_forward,
    row_forward_one,
    sum_forward,
)
from microgpt.engine.tape import Op
from microgpt.numerics.jit import inner
from microgpt.numerics.simd import offset

Pointer = Any
Lanes = Any

ADD, MUL, POW, EXP, LOG = int(Op.ADD), int(Op.MUL), int(Op.POW), int(Op.EXP), int(Op.LOG)
RELU, MAX, PICK, SUM, DOT = int(Op.RELU), int(Op.MAX), int(Op.PICK), int(Op.SUM), int(Op.DOT)
ROW, RATIO, LOAD, GATHER = int(Op.ROW), int(Op.RATIO), int(Op.LOAD), int(Op.GATHER)

#: Columns of the instruction table. Where ``program.Instruction`` has ``forward`` (column 11),
#: instructions without packed weights have what ``replay_state.marked`` found.
WIDTH = 15


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
            gather_forward(mem, n, out, a, r[8], r[11], params, token, scratch, lanes)
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
            mul_backward(mem, grad, n, out, a, b, needs_b, first_a, first_b, r[11], lanes)
        elif op == DOT:
            if r[11]:
                dot_backward_shared(mem, grad, n, k, out, a, b, first_b, r[11], lanes)
            else:
                dot_backward(mem, grad, n, k, out, a, b, first_a, first_b, lanes)
        elif op == EXP:
            exp_backward(mem, grad, n, out, a, first_a, lanes)
        elif op == RATIO:
            bad += ratio_backward(
                mem, grad, n, out, a, b, c[0], c[1], first_a, first_b, r[11], scratch, lanes
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
