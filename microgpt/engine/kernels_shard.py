"""The compiled code that replays a program over the documents of a shard.

Documents are taken in chunks: aligned parts of the batch's tree. Within a chunk they are sorted by
length, so that the lanes of a block end together; the tree is over their original order.
"""

from __future__ import annotations

import math
from typing import Any

from microgpt.engine.kernels import run_backward, run_forward
from microgpt.engine.replay_state import TILE, Field
from microgpt.engine.weight_gradients import weight_gradients
from microgpt.numerics.jit import entry, inner
from microgpt.numerics.simd import (
    integers_at,
    load,
    longs_at,
    not_finite,
    numbers_at,
    offset,
    splat,
    store,
    transpose,
    turn,
)

Pointer = Any
Lanes = Any

ONE = (0,) * 1
EIGHT = (0,) * 8

#: What ``replay_shard`` returns for documents that cannot be; nothing was done then.
WRONG_TOKEN, TOO_SHORT, WRONG_SIZE = -1, -2, -3


@inner
def take_documents(state: Pointer, num_tokens: int, count: int) -> int:
    """Where documents begin and how many positions they have; 0, or what is wrong with them."""
    starts, lengths = integers_at(state[Field.STARTS]), integers_at(state[Field.LENGTHS])
    tokens, sizes = integers_at(state[Field.TOKENS]), integers_at(state[Field.SIZES])
    most, num_choices = state[Field.NUM_POSITIONS], state[Field.NUM_CHOICES]
    total = 0
    for d in range(count):
        if sizes[d] < 2:
            return TOO_SHORT
        starts[d] = total
        lengths[d] = min(sizes[d] - 1, most)
        total += sizes[d]
    if total != num_tokens:
        return WRONG_SIZE
    outside = 0
    for i in range(num_tokens):
        outside |= (tokens[i] < 0) | (tokens[i] >= num_choices)
    return WRONG_TOKEN if outside else 0


@inner
def fill_lanes(
    state: Pointer, base: int, begin: int, count: int, num_rows: int, lanes: Lanes
) -> int:
    """Give each lane a document of the order from ``begin`` on; returns the positions of the first.

    Lanes without a document repeat it, and write what they would contribute where nobody reads.
    """
    size = len(lanes)
    order = offset(longs_at(state[Field.ORDER]), begin)
    starts, lengths = integers_at(state[Field.STARTS]), integers_at(state[Field.LENGTHS])
    tokens, lane_tokens = integers_at(state[Field.TOKENS]), integers_at(state[Field.LANE_TOKENS])
    lane_length, lane_row = longs_at(state[Field.LANE_LENGTHS]), longs_at(state[Field.LANE_ROWS])
    longest: int = lengths[order[0]]
    for lane in range(size):
        document = order[lane if lane < count else 0]
        length = lengths[document]
        lane_length[lane] = length if lane < count else 0
        lane_row[lane] = state[Field.WIDTH] * (document - base if lane < count else num_rows)
        own = offset(tokens, starts[document])
        for t in range(length + 1):
            lane_tokens[t * size + lane] = own[t]
        for t in range(length + 1, longest + 1):  # after its end a lane goes on with some token
            lane_tokens[t * size + lane] = 0
    return longest


@inner
def replay_block(
    state: Pointer,
    base: int,
    begin: int,
    count: int,
    num_rows: int,
    only_losses: int,
    lanes: Lanes,
) -> int:
    """Forward, backward and packing of ``count`` documents, a lane each.

    With ``only_losses`` forward is all. Lanes without a document receive no seed.
    """
    size = len(lanes)
    code, table = integers_at(state[Field.INSTRUCTIONS]), integers_at(state[Field.INDICES])
    exponents, first = numbers_at(state[Field.NUMBERS]), integers_at(state[Field.FIRST])
    constants, loss_slots = numbers_at(state[Field.CONSTANTS]), integers_at(state[Field.LOSSES])
    mem, scratch = numbers_at(state[Field.MEM]), numbers_at(state[Field.SCRATCH])
    grad = offset(mem, state[Field.NUM_SLOTS] * size)
    params, losses = numbers_at(state[Field.PARAMS]), numbers_at(state[Field.RESULTS])
    panel, shares = numbers_at(state[Field.PANEL]), numbers_at(state[Field.SHARES])
    lane_tokens = integers_at(state[Field.LANE_TOKENS])
    lane_length = longs_at(state[Field.LANE_LENGTHS])
    order = offset(longs_at(state[Field.ORDER]), begin)
    longest = fill_lanes(state, base, begin, count, num_rows, lanes)
    for i in range(state[Field.NUM_CONSTANTS]):
        store(mem, i, splat(constants[i], lanes))
    bad = 0
    for p in range(longest):
        bad += run_forward(
            code,
            first[p],
            first[p + 1],
            table,
            exponents,
            mem,
            params,
            panel,
            lane_tokens,
            scratch,
            lanes,
        )
    for lane in range(count):  # what ``model.document_loss`` does with the position losses
        n = lane_length[lane]
        total = 0.0
        for p in range(n):
            total += mem[loss_slots[p] * size + lane]
        losses[order[lane]] = shares[n] * total
    if only_losses:
        return bad
    clear, num_clear = integers_at(state[Field.CLEAR]), integers_at(state[Field.CLEAR_FIRST])
    for i in range(num_clear[longest]):
        store(grad, clear[i], splat(0.0, lanes))
    for lane in range(count):
        n = lane_length[lane]
        for p in range(n):
            grad[loss_slots[p] * size + lane] = shares[n]
    for p in range(longest - 1, -1, -1):
        bad += run_backward(
            code,
            first[p],
            first[p + 1],
            table,
            exponents,
            mem,
            grad,
            panel,
            lane_tokens,
            scratch,
            lanes,
        )
    pack_block(state, longest, lanes)
    return bad


@inner
def pack_block(state: Pointer, longest: int, lanes: Lanes) -> None:
    """Write what the parameters' gradients are made of as one row per document."""
    mem, packed = numbers_at(state[Field.MEM]), numbers_at(state[Field.PACKED])
    places, rows = integers_at(state[Field.PACK]), longs_at(state[Field.LANE_ROWS])
    last = integers_at(state[Field.PACK_FIRST])
    for at in range(0, last[longest], 8):
        transpose(mem, offset(places, at), offset(packed, at), rows, lanes)


@inner
def longest_first(state: Pointer, begin: int, end: int) -> None:
    """Put documents ``begin`` to ``end - 1`` in order by falling length."""
    order, lengths = longs_at(state[Field.ORDER]), integers_at(state[Field.LENGTHS])
    for d in range(begin, end):
        place = d - begin
        while place > 0 and lengths[order[max(place - 1, 0)]] < lengths[d]:
            order[place] = order[place - 1]
            place -= 1
        order[place] = d


@inner
def add_chunk(partial: Pointer, size: int, number: int) -> None:
    """Carry row 0 of ``partial``, the sum of chunk ``number``, into the levels: its other rows."""
    level = 1
    while number & 1:
        waiting = offset(partial, level * size)
        for i in range(size):
            partial[i] = waiting[i] + partial[i]
        number >>= 1
        level += 1
    target = offset(partial, level * size)
    for i in range(size):
        target[i] = partial[i]


@inner
def finish_chunks(partial: Pointer, size: int, count: int, gradient: Pointer) -> None:
    """Leave in ``gradient`` the sum of what ``count`` chunks left at the levels."""
    level, empty = 1, 1
    while count:
        waiting = offset(partial, level * size)
        if count & 1:
            if empty:
                for i in range(size):
                    gradient[i] = waiting[i]
            else:
                for i in range(size):
                    gradient[i] = waiting[i] + gradient[i]
            empty = 0
        count >>= 1
        level += 1


@inner
def fill_panel(state: Pointer) -> None:
    """The parameters in the orders in which the products of matrices take them."""
    panel, panel_of = numbers_at(state[Field.PANEL]), integers_at(state[Field.PANEL_OF])
    params, runs = numbers_at(state[Field.PARAMS]), integers_at(state[Field.PANEL_RUNS])
    i = 0
    while i < state[Field.NUM_PANEL_RUNS]:
        run = runs[i]
        if run >= 0:
            store(panel, i, load(offset(params, run), 0, EIGHT))
        elif run == TILE:
            turn(params, offset(panel_of, 8 * i), offset(panel, 8 * i))
            i += 7
        else:
            for j in range(8 * i, 8 * i + 8):
                panel[j] = params[panel_of[j]]
        i += 1


@inner
def count_not_finite(numbers: Pointer, size: int) -> int:
    """0 if all numbers are finite."""
    rest = splat(0.0, EIGHT)
    for i in range(size // 8):
        vector = load(numbers, i, EIGHT)
        rest = rest + (vector - vector)
    bad: int = not_finite(rest)
    for i in range(size & -8, size):
        bad += not math.isfinite(numbers[i])
    return bad


@inner
def replay_chunk(state: Pointer, base: int, rows: int, only_losses: int) -> int:
    """All blocks of a chunk of ``rows`` documents from ``base`` on."""
    longest_first(state, base, base + rows)
    bad, begin = 0, 0
    while begin < rows:
        count = min(8, rows - begin)
        if count == 1:
            bad += replay_block(state, base, begin, count, rows, only_losses, ONE)
        else:
            bad += replay_block(state, base, begin, count, rows, only_losses, EIGHT)
        begin += 8
    return bad


@entry
def replay_shard(state_address: int, num_tokens: int, num_documents: int, wanted: int) -> int:
    """Losses of all documents, and their gradients' tree sum if that is ``wanted``.

    ``state_address``: of ``ReplayState.fields``. Returns how many numbers were not finite, or
    ``WRONG_TOKEN`` and the like.
    """
    state = longs_at(state_address)
    wrong = take_documents(state, num_tokens, num_documents)
    if wrong:
        return wrong
    fill_panel(state)
    tokens, gradient = integers_at(state[Field.TOKENS]), numbers_at(state[Field.GRADIENT])
    partial, num_params = numbers_at(state[Field.PARTIAL]), state[Field.NUM_PARAMS]
    chunk = state[Field.CHUNK]
    bad, done, base = 0, 0, 0
    while base < num_documents:
        rows = min(chunk, num_documents - base)
        bad += replay_chunk(state, base, rows, 1 - wanted)
        if wanted and num_documents > chunk:
            weight_gradients(state, base, rows, tokens, partial)
            add_chunk(partial, num_params, done)
        elif wanted:
            weight_gradients(state, base, rows, tokens, gradient)
        done += 1
        base += chunk
    bad += count_not_finite(numbers_at(state[Field.RESULTS]), num_documents)
    if not wanted:
        return bad
    if num_documents > chunk:
        finish_chunks(partial, num_params, done, gradient)
    return bad + count_not_finite(gradient, num_params)
