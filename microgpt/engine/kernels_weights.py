"""The compiled code that adds up the gradients of the parameters, over uses and over documents.

A document's gradient is summed in registers over its uses and then added to those of the documents
before it, in the pairwise tree of ``microgpt.reduction``: no document's gradient is ever stored.
The tree is a binary counter: a partial sum over ``2**level`` documents waits in ``stack`` at its
level for its sibling.
"""

from __future__ import annotations

from typing import Any

from microgpt.jit import inner
from microgpt.simd import load, offset, splat, store

Pointer = Any

EIGHT = (0,) * 8


@inner
def wide_block(
    packed: Pointer,
    width: int,
    lengths: Pointer,
    count: int,
    uses: Pointer,
    num_uses: int,
    skip: Pointer,
    column: int,
    stack: Pointer,
) -> None:
    """Eight rows by eight columns from ``column``, over ``count`` documents; result in ``stack``.

    ``packed``: a row of ``width`` numbers per document; ``lengths``: positions of each document.
    """
    zero = splat(0.0, EIGHT)
    for d in range(count):
        row = offset(packed, d * width)
        x = offset(row, column)
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        for u in range(skip[lengths[d]], num_uses):
            xs = load(offset(x, uses[4 * u]), 0, EIGHT)
            f = offset(row, uses[4 * u + 1])
            a0 = a0 + splat(f[0], EIGHT) * xs
            a1 = a1 + splat(f[1], EIGHT) * xs
            a2 = a2 + splat(f[2], EIGHT) * xs
            a3 = a3 + splat(f[3], EIGHT) * xs
            a4 = a4 + splat(f[4], EIGHT) * xs
            a5 = a5 + splat(f[5], EIGHT) * xs
            a6 = a6 + splat(f[6], EIGHT) * xs
            a7 = a7 + splat(f[7], EIGHT) * xs
        s = stack
        carry = d
        while carry & 1:
            a0, a1 = load(s, 0, EIGHT) + a0, load(s, 1, EIGHT) + a1
            a2, a3 = load(s, 2, EIGHT) + a2, load(s, 3, EIGHT) + a3
            a4, a5 = load(s, 4, EIGHT) + a4, load(s, 5, EIGHT) + a5
            a6, a7 = load(s, 6, EIGHT) + a6, load(s, 7, EIGHT) + a7
            s = offset(s, 64)
            carry >>= 1
        store(s, 0, a0)
        store(s, 1, a1)
        store(s, 2, a2)
        store(s, 3, a3)
        store(s, 4, a4)
        store(s, 5, a5)
        store(s, 6, a6)
        store(s, 7, a7)
    finish_tree(stack, count, 8)


@inner
def single_row(
    packed: Pointer,
    width: int,
    lengths: Pointer,
    count: int,
    uses: Pointer,
    num_uses: int,
    skip: Pointer,
    column: int,
    tokens: Pointer,
    tokens_width: int,
    stack: Pointer,
) -> None:
    """One row by eight columns, whose uses may depend on tokens; result in ``stack``."""
    for d in range(count):
        row = offset(packed, d * width)
        a = splat(0.0, EIGHT)
        for u in range(skip[lengths[d]], num_uses):
            token = uses[4 * u + 2]
            if token < 0 or tokens[d * tokens_width + token] == uses[4 * u + 3]:
                x = load(offset(row, uses[4 * u] + column), 0, EIGHT)
                a = a + splat(row[uses[4 * u + 1]], EIGHT) * x
        level = 0
        while (d >> level) & 1:
            a = load(stack, level, EIGHT) + a
            level += 1
        store(stack, level, a)
    finish_tree(stack, count, 1)


@inner
def finish_tree(stack: Pointer, count: int, vectors: int) -> None:
    """Add what waits at the levels, smallest first, as the tree does with an odd last element."""
    level = 0
    while not (count >> level) & 1:
        level += 1
    total = offset(stack, level * vectors * 8)
    level += 1
    while count >> level:
        if (count >> level) & 1:
            waiting = offset(stack, level * vectors * 8)
            for i in range(vectors):
                store(waiting, i, load(waiting, i, EIGHT) + load(total, i, EIGHT))
            total = waiting
        level += 1
    for i in range(vectors):
        store(stack, i, load(total, i, EIGHT))


@inner
def weight_gradients(
    packed: Pointer,
    width: int,
    lengths: Pointer,
    count: int,
    tokens: Pointer,
    tokens_width: int,
    rows: Pointer,
    shape: Pointer,
    skip: Pointer,
    num_positions: int,
    uses: Pointer,
    num_blocks: int,
    num_wide: int,
    stack: Pointer,
    gradient: Pointer,
) -> None:
    """The tree sum over ``count`` documents of every parameter's gradient, into ``gradient``."""
    for block in range(num_blocks):
        columns, num_uses = shape[3 * block], shape[3 * block + 2]
        use = offset(uses, 4 * shape[3 * block + 1])
        lack = offset(skip, block * (num_positions + 1))
        for column in range(0, columns, 8):
            if block < num_wide:
                wide_block(packed, width, lengths, count, use, num_uses, lack, column, stack)
            else:
                single_row(
                    packed,
                    width,
                    lengths,
                    count,
                    use,
                    num_uses,
                    lack,
                    column,
                    tokens,
                    tokens_width,
                    stack,
                )
            for r in range(8):
                start = rows[8 * block + r]
                if start >= 0:
                    for i in range(min(8, columns - column)):
                        gradient[start + column + i] = stack[8 * r + i]
