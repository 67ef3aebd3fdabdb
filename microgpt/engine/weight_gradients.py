"""The compiled code that adds up the gradients of the parameters, over uses and over documents.

A document's gradient is summed in registers over its uses and then added to those of the documents
before it, in the pairwise tree of ``microgpt.optim.reduction``: no document's gradient is stored.
The tree is a binary counter: a partial sum over ``2**level`` documents waits in ``stack`` at its
level for its sibling.
"""

from __future__ import annotations

from typing import Any

from microgpt.engine.replay_state import Field
from microgpt.numerics.jit import inner
from microgpt.numerics.simd import integers_at, load, numbers_at, offset, splat, store

Pointer = Any

EIGHT = (0,) * 8
#: Numbers of one level of the stack: eight rows by sixteen columns.
LEVEL = 128


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
    """Eight rows by sixteen columns from ``column``, over ``count`` documents, into ``stack``.

    ``packed``: a row of ``width`` numbers per document; ``lengths``: positions of each document.
    Columns beyond the last are computed from whatever stands there, and not used.
    """
    zero = splat(0.0, EIGHT)
    for d in range(count):
        row = offset(packed, d * width)
        x = offset(row, column)
        a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
        b0, b1, b2, b3, b4, b5, b6, b7 = zero, zero, zero, zero, zero, zero, zero, zero
        for u in range(skip[lengths[d]], num_uses):
            xa, xb = load(offset(x, uses[4 * u]), 0, EIGHT), load(offset(x, uses[4 * u]), 1, EIGHT)
            f = offset(row, uses[4 * u + 1])
            a0, b0 = a0 + splat(f[0], EIGHT) * xa, b0 + splat(f[0], EIGHT) * xb
            a1, b1 = a1 + splat(f[1], EIGHT) * xa, b1 + splat(f[1], EIGHT) * xb
            a2, b2 = a2 + splat(f[2], EIGHT) * xa, b2 + splat(f[2], EIGHT) * xb
            a3, b3 = a3 + splat(f[3], EIGHT) * xa, b3 + splat(f[3], EIGHT) * xb
            a4, b4 = a4 + splat(f[4], EIGHT) * xa, b4 + splat(f[4], EIGHT) * xb
            a5, b5 = a5 + splat(f[5], EIGHT) * xa, b5 + splat(f[5], EIGHT) * xb
            a6, b6 = a6 + splat(f[6], EIGHT) * xa, b6 + splat(f[6], EIGHT) * xb
            a7, b7 = a7 + splat(f[7], EIGHT) * xa, b7 + splat(f[7], EIGHT) * xb
        s = stack
        carry = d
        while carry & 1:
            a0, b0 = load(s, 0, EIGHT) + a0, load(s, 1, EIGHT) + b0
            a1, b1 = load(s, 2, EIGHT) + a1, load(s, 3, EIGHT) + b1
            a2, b2 = load(s, 4, EIGHT) + a2, load(s, 5, EIGHT) + b2
            a3, b3 = load(s, 6, EIGHT) + a3, load(s, 7, EIGHT) + b3
            a4, b4 = load(s, 8, EIGHT) + a4, load(s, 9, EIGHT) + b4
            a5, b5 = load(s, 10, EIGHT) + a5, load(s, 11, EIGHT) + b5
            a6, b6 = load(s, 12, EIGHT) + a6, load(s, 13, EIGHT) + b6
            a7, b7 = load(s, 14, EIGHT) + a7, load(s, 15, EIGHT) + b7
            s = offset(s, LEVEL)
            carry >>= 1
        put_pair(s, 0, a0, b0)
        put_pair(s, 1, a1, b1)
        put_pair(s, 2, a2, b2)
        put_pair(s, 3, a3, b3)
        put_pair(s, 4, a4, b4)
        put_pair(s, 5, a5, b5)
        put_pair(s, 6, a6, b6)
        put_pair(s, 7, a7, b7)
    finish_tree(stack, count, count, 16)


@inner
def put_pair(base: Pointer, row: int, a: Any, b: Any) -> None:
    """Write sixteen columns of one row."""
    store(base, 2 * row, a)
    store(base, 2 * row + 1, b)


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
    starts: Pointer,
    stack: Pointer,
) -> None:
    """One row by sixteen columns, whose uses may depend on tokens; result in ``stack``.

    Most documents use few such rows: only sums that exist are added. The others are zero, and
    adding zero changes no sum.
    """
    present = 0
    for d in range(count):
        row = offset(packed, d * width)
        token = offset(tokens, starts[d])
        a, b = splat(0.0, EIGHT), splat(0.0, EIGHT)
        used = 0
        for u in range(skip[lengths[d]], num_uses):
            which = uses[4 * u + 2]
            if which < 0 or token[which] == uses[4 * u + 3]:
                x = offset(row, uses[4 * u] + column)
                factor = splat(row[uses[4 * u + 1]], EIGHT)
                a, b = a + factor * load(x, 0, EIGHT), b + factor * load(x, 1, EIGHT)
                used = 1
        level = 0
        while (d >> level) & 1:
            if (present >> level) & 1:
                waiting = offset(stack, level * LEVEL)
                a, b = load(waiting, 0, EIGHT) + a, load(waiting, 1, EIGHT) + b
                used = 1
                present ^= 1 << level
            level += 1
        if used:
            put_pair(offset(stack, level * LEVEL), 0, a, b)
            present |= 1 << level
    finish_tree(stack, present, count, 2)


@inner
def finish_tree(stack: Pointer, present: int, count: int, vectors: int) -> None:
    """Add what waits at the levels, smallest first, as the tree does with an odd last element.

    ``present``: bits of the levels at which something waits; the others are zero.
    """
    total = stack
    found = 0
    level = 0
    while count >> level:
        if (present >> level) & 1:
            waiting = offset(stack, level * LEVEL)
            if found:
                for i in range(vectors):
                    store(waiting, i, load(waiting, i, EIGHT) + load(total, i, EIGHT))
            total = waiting
            found = 1
        level += 1
    for i in range(vectors):
        store(stack, i, load(total, i, EIGHT) if found else splat(0.0, EIGHT))


@inner
def weight_gradients(
    state: Pointer, base: int, count: int, tokens: Pointer, gradient: Pointer
) -> None:
    """The tree sum over ``count`` documents of every parameter's gradient, into ``gradient``."""
    packed, width = numbers_at(state[Field.PACKED]), state[Field.WIDTH]
    lengths = offset(integers_at(state[Field.LENGTHS]), base)
    starts = offset(integers_at(state[Field.STARTS]), base)
    rows, shape = integers_at(state[Field.ROWS]), integers_at(state[Field.SHAPE])
    skip, uses = integers_at(state[Field.SKIP]), integers_at(state[Field.USES])
    stack = numbers_at(state[Field.STACK])
    num_positions, num_wide = state[Field.NUM_POSITIONS], state[Field.NUM_WIDE]
    for block in range(state[Field.NUM_BLOCKS]):
        columns, num_uses = shape[3 * block], shape[3 * block + 2]
        use = offset(uses, 4 * shape[3 * block + 1])
        lack = offset(skip, block * (num_positions + 1))
        for column in range(0, columns, 16):
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
                    starts,
                    stack,
                )
            for r in range(8):
                start = rows[8 * block + r]
                if start >= 0:
                    for i in range(min(16, columns - column)):
                        gradient[start + column + i] = stack[16 * r + i]
