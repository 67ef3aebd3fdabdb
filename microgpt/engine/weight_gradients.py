"""The compiled code that adds up the gradients of the parameters, over uses and over documents.

A document's gradient is summed in registers over its uses and then added to those of the documents
before it, in the pairwise tree of ``microgpt.optim.reduction``: no document's gradient is stored.
The tree is a binary counter: a partial sum over ``2**level`` documents waits in ``stack`` at its
level for its sibling.
"""

from __future__ import annotations

from typing import Any

from microgpt.engine.replay_state import LEVEL, TOGETHER, Field
from microgpt.numerics.jit import inner
from microgpt.numerics.simd import (
    highest_bit,
    integers_at,
    load,
    longs_at,
    lowest_bit,
    numbers_at,
    offset,
    splat,
    store,
)

Pointer = Any

EIGHT = (0,) * 8


@inner
def wide_block(
    state: Pointer,
    block: int,
    column: int,
    row: Pointer,
    length: int,
    number: int,
    stack: Pointer,
) -> None:
    """Eight rows by sixteen columns of document ``number``; its sum goes into ``stack``.

    ``row``: what is packed of the document; ``length``: its positions. Columns beyond the last are
    computed from whatever stands there, and not used.
    """
    shape = offset(integers_at(state[Field.SHAPE]), 3 * block)
    skip = offset(integers_at(state[Field.SKIP]), block * (state[Field.NUM_POSITIONS] + 1))
    first, num_uses = skip[length], shape[2]
    uses = offset(integers_at(state[Field.USES]), 4 * (shape[1] + first))
    # ``f`` and ``g`` are the same, but the compiler must not know: a product that takes its factor
    # from memory costs less than to keep the factor for two.
    nothing = state[Field.NOTHING]
    zero = splat(0.0, EIGHT)
    x = offset(row, column)
    a0, a1, a2, a3, a4, a5, a6, a7 = zero, zero, zero, zero, zero, zero, zero, zero
    b0, b1, b2, b3, b4, b5, b6, b7 = zero, zero, zero, zero, zero, zero, zero, zero
    for _ in range(first, num_uses):
        xa, xb = load(offset(x, uses[0]), 0, EIGHT), load(offset(x, uses[0]), 1, EIGHT)
        f = offset(row, uses[1])
        g = offset(f, nothing)
        uses = offset(uses, 4)
        a0, b0 = a0 + splat(f[0], EIGHT) * xa, b0 + splat(g[0], EIGHT) * xb
        a1, b1 = a1 + splat(f[1], EIGHT) * xa, b1 + splat(g[1], EIGHT) * xb
        a2, b2 = a2 + splat(f[2], EIGHT) * xa, b2 + splat(g[2], EIGHT) * xb
        a3, b3 = a3 + splat(f[3], EIGHT) * xa, b3 + splat(g[3], EIGHT) * xb
        a4, b4 = a4 + splat(f[4], EIGHT) * xa, b4 + splat(g[4], EIGHT) * xb
        a5, b5 = a5 + splat(f[5], EIGHT) * xa, b5 + splat(g[5], EIGHT) * xb
        a6, b6 = a6 + splat(f[6], EIGHT) * xa, b6 + splat(g[6], EIGHT) * xb
        a7, b7 = a7 + splat(f[7], EIGHT) * xa, b7 + splat(g[7], EIGHT) * xb
    s = stack
    carry = number
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
    chosen: int,
    uses: Pointer,
    num_uses: int,
    skip: Pointer,
    column: int,
    tokens: Pointer,
    starts: Pointer,
    stack: Pointer,
) -> None:
    """One row by sixteen columns, whose uses may depend on tokens; result in ``stack``.

    ``chosen``: bits of the documents that may use it; the others contribute zero, and adding zero
    changes no sum. What waits in ``stack`` does so for the sum of another part of the tree: two
    parts are added as soon as nothing else can come between, which the numbers of their documents
    tell.
    """
    waiting, last, gaps = 0, 0, 0
    while chosen:
        d = lowest_bit(chosen)
        chosen &= chosen - 1
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
        if used:
            # Sums that wait are joined below the height at which this document joins the last one.
            if waiting:
                height = highest_bit(d ^ last)
                while gaps & ((1 << height) - 1):
                    waiting = join(stack, waiting)
                    gaps &= gaps - 1
                gaps |= 1 << height
            put_pair(offset(stack, waiting * LEVEL), 0, a, b)
            waiting += 1
            last = d
    while waiting > 1:
        waiting = join(stack, waiting)
    if waiting == 0:
        put_pair(stack, 0, splat(0.0, EIGHT), splat(0.0, EIGHT))


@inner
def join(stack: Pointer, waiting: int) -> int:
    """Add the last of those that wait to the one before it; how many wait then."""
    left = offset(stack, (waiting - 2) * LEVEL)
    right = offset(left, LEVEL)
    store(left, 0, load(left, 0, EIGHT) + load(right, 0, EIGHT))
    store(left, 1, load(left, 1, EIGHT) + load(right, 1, EIGHT))
    return waiting - 1


@inner
def finish_tree(stack: Pointer, count: int) -> None:
    """Add what waits at the levels, smallest first, as the tree does with an odd last element."""
    total = stack
    found = 0
    level = 0
    while count >> level:
        if (count >> level) & 1:
            waiting = offset(stack, level * LEVEL)
            if found:
                for i in range(16):
                    store(waiting, i, load(waiting, i, EIGHT) + load(total, i, EIGHT))
            total = waiting
            found = 1
        level += 1
    if count > 1:
        for i in range(16):
            store(stack, i, load(total, i, EIGHT))


@inner
def write_row(gradient: Pointer, row: int, columns: int, column: int, values: Pointer) -> None:
    """Write up to sixteen columns from ``column`` on of the row at ``row``, if there is one."""
    if row < 0:
        return
    own = offset(gradient, row + column)
    if column + 16 <= columns:
        store(own, 0, load(values, 0, EIGHT))
        store(own, 1, load(values, 1, EIGHT))
    else:
        for i in range(columns - column):
            own[i] = values[i]


@inner
def wide_gradients(state: Pointer, base: int, count: int, gradient: Pointer) -> None:
    """Blocks of eight rows, some at a time: their loops end together, which can be foreseen."""
    packed, width = numbers_at(state[Field.PACKED]), state[Field.WIDTH]
    lengths = offset(integers_at(state[Field.LENGTHS]), base)
    rows, shape = integers_at(state[Field.ROWS]), integers_at(state[Field.SHAPE])
    parts, stack = integers_at(state[Field.PARTS]), numbers_at(state[Field.STACK])
    size = LEVEL * state[Field.LEVELS]
    num_parts = state[Field.NUM_PARTS]
    for begin in range(0, num_parts, TOGETHER):
        end = min(begin + TOGETHER, num_parts)
        for d in range(count):
            row, length = offset(packed, d * width), lengths[d]
            for i in range(begin, end):
                own = offset(stack, (i - begin) * size)
                wide_block(state, parts[2 * i], parts[2 * i + 1], row, length, d, own)
        for i in range(begin, end):
            own = offset(stack, (i - begin) * size)
            finish_tree(own, count)
            block, column = parts[2 * i], parts[2 * i + 1]
            for r in range(8):
                values = offset(own, 16 * r)
                write_row(gradient, rows[8 * block + r], shape[3 * block], column, values)


@inner
def see_tokens(state: Pointer, base: int, count: int, tokens: Pointer) -> None:
    """Per token the bits of the documents that have it."""
    seen = longs_at(state[Field.SEEN])
    lengths = offset(integers_at(state[Field.LENGTHS]), base)
    starts = offset(integers_at(state[Field.STARTS]), base)
    for i in range(state[Field.NUM_CHOICES]):
        seen[i] = 0
    for d in range(count):
        token = offset(tokens, starts[d])
        for t in range(lengths[d] + 1):
            seen[token[t]] = seen[token[t]] | (1 << d)


@inner
def weight_gradients(
    state: Pointer, base: int, count: int, tokens: Pointer, gradient: Pointer
) -> None:
    """The tree sum over ``count`` documents of every parameter's gradient, into ``gradient``."""
    wide_gradients(state, base, count, gradient)
    see_tokens(state, base, count, tokens)
    packed, width = numbers_at(state[Field.PACKED]), state[Field.WIDTH]
    lengths = offset(integers_at(state[Field.LENGTHS]), base)
    starts = offset(integers_at(state[Field.STARTS]), base)
    rows, shape = integers_at(state[Field.ROWS]), integers_at(state[Field.SHAPE])
    skip, uses = integers_at(state[Field.SKIP]), integers_at(state[Field.USES])
    seen, single = longs_at(state[Field.SEEN]), integers_at(state[Field.SINGLE])
    stack = numbers_at(state[Field.STACK])
    everyone = (2 << (count - 1)) - 1
    for block in range(state[Field.NUM_WIDE], state[Field.NUM_BLOCKS]):
        columns, num_uses = shape[3 * block], shape[3 * block + 2]
        use = offset(uses, 4 * shape[3 * block + 1])
        lack = offset(skip, block * (state[Field.NUM_POSITIONS] + 1))
        chosen = everyone if single[block] < 0 else seen[single[block]]
        for column in range(0, columns, 16):
            single_row(
                packed, width, lengths, chosen, use, num_uses, lack, column, tokens, starts, stack
            )
            write_row(gradient, rows[8 * block], columns, column, stack)
