"""The compiled code that replays a program over the documents of a shard.

Documents are taken in chunks: aligned parts of the batch's tree. Within a chunk they are sorted by
length, so that the lanes of a block end together; the tree is over their original order.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt.engine.kernels import run_backward, run_forward
from microgpt.engine.weight_gradients import weight_gradients
from microgpt.numerics.jit import entry, inner
from microgpt.numerics.simd import offset, pointer, splat, store, transpose

Pointer = Any
Lanes = Any
Array = Any

ONE = (0,) * 1
EIGHT = (0,) * 8


@inner
def replay_block(
    program: Any,
    params: Pointer,
    panel: Pointer,
    order: Array,
    begin: int,
    count: int,
    tokens: Array,
    starts: Array,
    lengths: Array,
    shares: Array,
    mem: Pointer,
    scratch: Pointer,
    packed: Pointer,
    width: int,
    losses: Array,
    base: int,
    only_losses: bool,
    lanes: Lanes,
) -> int:
    """Forward, backward and packing of documents ``order[begin:begin + count]``, a lane each.

    With ``only_losses`` forward is all. Lanes without a document repeat the first one and receive
    no seed.
    """
    (
        ins,
        indices,
        numbers,
        constants,
        first,
        loss_slots,
        pack,
        pack_first,
        clear,
        clear_first,
        num_slots,
    ) = program
    size = len(lanes)
    code, table, exponents = pointer(ins), pointer(indices), pointer(numbers)
    grad = offset(mem, num_slots * size)
    longest = lengths[order[begin]]
    lane_tokens = np.empty((longest + 1) * size, np.int32)
    lane_length = np.zeros(size, np.int64)
    lane_row = np.empty(size, np.int64)
    for lane in range(size):
        document = order[begin + (lane if lane < count else 0)]
        if lane < count:
            lane_length[lane] = lengths[document]
        lane_row[lane] = width * (document - base if lane < count else len(order))
        for t in range(longest + 1):
            inside = t <= lengths[document]  # after its end a lane goes on with some token
            lane_tokens[t * size + lane] = tokens[starts[document] + t] if inside else 0
    for i in range(len(constants)):
        store(mem, i, splat(constants[i], lanes))
    token = pointer(lane_tokens)
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
            token,
            scratch,
            lanes,
        )
    for lane in range(count):  # what ``model.document_loss`` does with the position losses
        n = lane_length[lane]
        total = 0.0
        for p in range(n):
            total += mem[loss_slots[p] * size + lane]
        losses[order[begin + lane]] = shares[n] * total
    if only_losses:
        return bad
    zero = splat(0.0, lanes)
    for i in range(clear_first[longest]):
        store(grad, clear[i], zero)
    for lane in range(count):
        n = lane_length[lane]
        for p in range(n):
            grad[loss_slots[p] * size + lane] = shares[n]
    for p in range(longest - 1, -1, -1):
        bad += run_backward(
            code, first[p], first[p + 1], table, exponents, mem, grad, panel, token, scratch, lanes
        )
    places, rows = pointer(pack), pointer(lane_row)
    for at in range(0, pack_first[longest], 8):
        transpose(mem, offset(places, at), offset(packed, at), rows, lanes)
    return bad


@inner
def longest_first(lengths: Array, begin: int, end: int) -> Array:
    """Documents ``begin`` to ``end - 1`` by falling length."""
    order = np.empty(end - begin, np.int64)
    longest, at = 0, 0
    for d in range(begin, end):
        longest = max(longest, lengths[d])
    for n in range(longest, 0, -1):
        for d in range(begin, end):
            if lengths[d] == n:
                order[at] = d
                at += 1
    return order


@inner
def add_chunk(partial: Array, number: int) -> None:
    """Carry ``partial[0]``, the sum of chunk ``number``, into the levels ``partial[1:]``."""
    level = 1
    while number & 1:
        for i in range(partial.shape[1]):
            partial[0, i] = partial[level, i] + partial[0, i]
        number >>= 1
        level += 1
    for i in range(partial.shape[1]):
        partial[level, i] = partial[0, i]


@inner
def finish_chunks(partial: Array, count: int) -> None:
    """Leave in ``partial[0]`` the sum of what ``count`` chunks left at the levels."""
    level, empty = 1, True
    while count:
        if count & 1:
            for i in range(partial.shape[1]):
                partial[0, i] = partial[level, i] if empty else partial[level, i] + partial[0, i]
            empty = False
        count >>= 1
        level += 1


@entry
def replay_shard(
    program: Any,
    weights: Any,
    panel_of: Array,
    params: Array,
    panel: Array,
    tokens: Array,
    starts: Array,
    lengths: Array,
    shares: Array,
    mem: Array,
    scratch: Array,
    packed: Array,
    width: int,
    stack: Array,
    partial: Array,
    losses: Array,
    gradient: Array,
    chunk: int,
    num_choices: int,
) -> int:
    """Losses of all documents, and their gradients' tree sum unless ``gradient`` is empty.

    Returns how many numbers were not finite, or -1 if a token is none: nothing was done then.
    """
    for i in range(len(tokens)):
        if tokens[i] < 0 or tokens[i] >= num_choices:
            return -1
    rows, shape, skip, uses, num_wide = weights
    for i in range(len(panel_of)):
        panel[i] = params[panel_of[i]]
    bad = 0
    only_losses = len(gradient) == 0
    num_documents = len(lengths)
    done = 0
    for base in range(0, num_documents, chunk):
        end = min(base + chunk, num_documents)
        order = longest_first(lengths, base, end)
        for begin in range(0, end - base, 8):
            count = min(8, end - base - begin)
            if count == 1:
                bad += replay_block(
                    program,
                    pointer(params),
                    pointer(panel),
                    order,
                    begin,
                    count,
                    tokens,
                    starts,
                    lengths,
                    shares,
                    pointer(mem),
                    pointer(scratch),
                    pointer(packed),
                    width,
                    losses,
                    base,
                    only_losses,
                    ONE,
                )
            else:
                bad += replay_block(
                    program,
                    pointer(params),
                    pointer(panel),
                    order,
                    begin,
                    count,
                    tokens,
                    starts,
                    lengths,
                    shares,
                    pointer(mem),
                    pointer(scratch),
                    pointer(packed),
                    width,
                    losses,
                    base,
                    only_losses,
                    EIGHT,
                )
        if only_losses:
            continue
        weight_gradients(
            pointer(packed),
            width,
            pointer(lengths[base:end]),
            end - base,
            pointer(tokens),
            pointer(starts[base:end]),
            pointer(rows),
            pointer(shape),
            pointer(skip),
            skip.shape[1] - 1,
            pointer(uses),
            len(rows),
            num_wide,
            pointer(stack),
            pointer(partial),
        )
        if num_documents > chunk:
            add_chunk(partial, done)
            done += 1
    for loss in losses:
        bad += not math.isfinite(loss)
    if only_losses:
        return bad
    finish_chunks(partial, done)
    for i in range(len(gradient)):
        gradient[i] = partial[0, i]
        bad += not math.isfinite(gradient[i])
    return bad
