"""Passes that turn a tape into a shorter tape with the same bits.

Forward values are the same expressions, summed from the left. Backward, a node's gradient is a sum
whose order is its consumers' reverse order of creation. Fusing moves the moment at which a consumer
contributes to the moment of the fused node; a pass may do so only if no other consumer of the same
node lies between the two moments. Every pass checks this where it can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from microgpt.engine.rewrite import (
    Longs,
    Mask,
    arguments_at,
    arguments_of,
    binary_argument,
    cloned,
    consumptions,
    differentiable,
    marked,
    nothing_between,
    rebuilt,
    replaced,
    roots,
    spliced,
)
from microgpt.engine.tape import Node, Op, Tape


def sums(tape: Tape) -> Tape:
    """``0.0 + e0 + e1 + ...``: chains of additions become one SUM each.

    A chain holds either products that nobody else uses (the next pass makes a DOT of them) or
    other terms, not both: so a residual added to a dot product stays an addition of its own.
    """
    ids, op = np.arange(len(tape)), tape.op
    first, second = binary_argument(tape, 0), binary_argument(tape, 1)
    adds, uses = op == Op.ADD, tape.uses()
    product = (op == Op.MUL) & (uses == 1)
    begins = adds & ((op == Op.CONST) & (tape.number == 0.0))[second]
    term = np.where(begins, first, second)
    alike = product[term] == product[term[first]]
    links = adds & ~begins & adds[first] & (uses[first] == 1) & alike
    head = roots(np.where(links, first, ids))
    member = (begins | links) & begins[head]
    last = ids.copy()
    np.maximum.at(last, head[member], ids[member])
    last = last[head]
    moved = ids[member & ~product[term]]  # a product has no other consumer that could come between
    safe = nothing_between(tape, moved, term[moved], last[moved], head)
    member &= ~marked(len(tape), head[moved[~safe]])[head]
    return replaced(tape, ids[member], term[member], last[member], Op.SUM)


def dots(tape: Tape) -> Tape:
    """Sums of products that nobody else uses become one DOT each."""
    ids = np.arange(len(tape))
    summed = np.flatnonzero(tape.op == Op.SUM)
    terms, owner = arguments_of(tape, summed)
    single = (tape.op[terms] == Op.MUL) & (tape.uses()[terms] == 1)
    rising = np.ones(len(terms), bool)
    rising[1:] = (terms[1:] > terms[:-1]) | (owner[1:] != owner[:-1])
    group = ids.copy()
    group[terms[single]] = owner[single]
    good = single & rising
    size = np.bincount(owner, minlength=len(tape))[owner]
    rank = np.arange(len(terms)) - np.searchsorted(owner, owner)
    apart = np.flatnonzero(good & (terms != owner - size + rank))  # not created in one go
    for which in (0, 1):
        operand = binary_argument(tape, which)[terms[apart]]
        good[apart] &= nothing_between(tape, terms[apart], operand, owner[apart], group)
    fit = ~marked(len(tape), owner[~good])[owner]
    terms, owner = terms[fit], owner[fit]
    left, right = binary_argument(tape, 0)[terms], binary_argument(tape, 1)[terms]
    both, assignees = np.concatenate([left, right]), np.concatenate([owner, owner])
    order = np.argsort(assignees, kind="stable")
    return rebuilt(tape, assignees[order], both[order], Op.DOT, gone=terms)


def rows(tape: Tape) -> Tape:
    """Dot products of consecutive parameters with distinct other numbers become ROWs."""
    dots = np.flatnonzero(tape.op == Op.DOT)
    args, owner = arguments_of(tape, dots)
    first = np.arange(len(args)) - np.searchsorted(owner, owner) < tape.num_args[owner] // 2
    left, right, owner = args[first], args[~first], owner[first]
    straight = _are_row(tape, left, right, owner)
    either = straight | _are_row(tape, right, left, owner)
    weights = np.where(straight[owner], left, right)[either[owner]]
    x = np.where(straight[owner], right, left)[either[owner]]
    owner = owner[either[owner]]
    param = tape.param.copy()
    param[owner[::-1]] = tape.param[weights[::-1]]  # in reverse, so that the first one stays
    return rebuilt(replace(tape, param=param), owner, x, Op.ROW)


def _are_row(tape: Tape, weights: Longs, x: Longs, owner: Longs) -> Mask:
    """Per node: whether its ``weights`` are consecutive parameters, and its ``x`` fit them."""
    is_param, n = tape.op == Op.PARAM, len(tape)
    wrong = ~is_param[weights] | is_param[x] | _chooses_among(tape, weights, x, owner)
    wrong[1:] |= (owner[1:] == owner[:-1]) & (np.diff(tape.param[weights]) != 1)
    fits = marked(n, owner) & ~marked(n, owner[wrong])
    uses = np.sort((owner * n + x)[fits[owner]])
    twice = uses[1:][uses[1:] == uses[:-1]]
    return fits & ~marked(n, twice // n)


def _chooses_among(tape: Tape, weights: Longs, x: Longs, owner: Longs) -> Mask:
    """Per product: whether ``x`` is a choice that may be a weight of another product of the sum.

    Such a weight has uses between those of the choice: a ROW would use all its weights at once.
    """
    chooses = tape.op[x] == Op.PICK
    first = tape.param[weights[np.searchsorted(owner, owner[chooses])]][:, None]
    size = tape.num_args[owner[chooses]][:, None] // 2
    items = tape.args[arguments_at(tape, x[chooses])].reshape(-1, tape.num_choices)
    param = tape.param[items]
    among = (
        (param >= first) & (param < first + size) & (param != tape.param[weights[chooses]][:, None])
    )
    found = np.where(tape.op[items] == Op.PARAM, among, tape.op[items] == Op.PICK).any(1)
    chooses[chooses] = found
    return np.asarray(chooses)


def ratios(tape: Tape) -> Tape:
    """``e * total ** c`` with a power of its own: one RATIO, so that the power is shared.

    A softmax writes ``total**-1`` once for every term. The values are equal, the contributions to
    the gradient of ``total`` are not, and keep their order.
    """
    first, second = binary_argument(tape, 0), binary_argument(tape, 1)
    powers = np.flatnonzero((tape.op[:-1] == Op.POW) & (tape.op[1:] == Op.MUL))
    products = powers + 1
    on_left, on_right = first[products] == powers, second[products] == powers
    single = (on_left != on_right) & (tape.uses()[powers] == 1)
    powers, products = powers[single], products[single]
    terms = np.where(on_left[single], second[products], first[products])
    number = tape.number.copy()
    number[products] = number[powers]
    args = np.stack([terms, tape.args[tape.start[powers]]], axis=1)
    tape = replace(tape, number=number)
    return rebuilt(tape, np.repeat(products, 2), args.ravel(), Op.RATIO, gone=powers)


def shared(tape: Tape) -> Tape:
    """Equal operations on what receives no gradient become one: minus a softmax's maximum."""
    first: dict[Node, int] = {}
    same: dict[int, int] = {}
    for i, node in tape.some_nodes(np.flatnonzero(~differentiable(tape))):
        args = tuple(same.get(arg, arg) for arg in node.args)
        node = node._replace(args=args) if args != node.args else node
        if first.setdefault(node, i) != i and i not in tape.losses:
            same[i] = first[node]
    instead = np.arange(len(tape))
    instead[list(same)] = list(same.values())
    return spliced(replace(tape, args=instead[tape.args].astype(np.int32)), {}, gone=list(same))


def picks(tape: Tape) -> Tape:
    """Every use of a PICK gets its own, and a PICK among ratios becomes a ratio of a PICK.

    A chosen node receives each consumer's contribution by itself, as it would without the choice.
    Of a softmax of which only the target's probability is used, one division remains.
    """
    tape = cloned(tape, tape.op == Op.PICK)
    parts: dict[int, list[Node]] = {}
    unused: list[int] = []
    for i, node in tape.some_nodes(_sinking(tape)):
        some = tape.node(node.args[0])
        numerators = tuple(tape.args[tape.start[list(node.args)]].tolist())
        chosen = Node(Op.PICK, numerators, token=node.token)
        ratio = Node(Op.RATIO, (-1, some.args[1]), number=some.number)  # -1: the node before
        parts[i] = [chosen, ratio]
        unused += node.args
    return spliced(tape, parts, gone=unused)


def _sinking(tape: Tape) -> Longs:
    """PICKs whose candidates are ratios by one base, used only here, and nothing lies between."""
    n, ids = len(tape), np.arange(len(tape))
    chosen = np.flatnonzero(tape.op == Op.PICK)
    items = tape.args[arguments_at(tape, chosen)].reshape(-1, tape.num_choices).astype(np.int64)
    apart = (np.diff(np.sort(items)) > 0).all(1)
    fits = apart & ((tape.op[items] == Op.RATIO) & (tape.uses()[items] == 1)).all(1)
    chosen, items = chosen[fits], items[fits]
    numerators = tape.args[tape.start[items]].astype(np.int64)
    bases = tape.args[tape.start[items] + 1].astype(np.int64)
    alike = (bases == bases[:, :1]) & (tape.number[items] == tape.number[items[:, :1]])
    until = np.repeat(chosen, tape.num_choices)
    free = nothing_between(tape, items.ravel(), numerators.ravel(), until, ids).reshape(items.shape)
    keys, base = consumptions(tape, bases[:, :1].ravel()), bases[:, 0] * n
    own = np.searchsorted(keys, base + chosen) - np.searchsorted(keys, base + items.min(1))
    fits = (alike & free & (numerators != bases)).all(1) & (own == tape.num_choices)
    return np.asarray(chosen[fits])


def loads(tape: Tape) -> Tape:
    """Parameters used outside ROWs are read by a LOAD, or a GATHER by token, one for every use.

    So a parameter's gradient is the sum of what ROWs, LOADs and GATHERs contribute, in an order
    that can be told from the tape alone: tied weights need no special case.
    """
    tape = _gathered(tape)
    op = np.where(tape.op == Op.PARAM, np.int8(Op.LOAD), tape.op)
    # PICKs have their only use already, but must stand in order with what else their users read.
    return cloned(replace(tape, op=op), np.isin(op, (Op.LOAD, Op.GATHER, Op.PICK)))


def _gathered(tape: Tape) -> Tape:
    """With a GATHER for every choice among parameters at equal distances."""
    chosen = np.flatnonzero(tape.op == Op.PICK)
    items = tape.args[arguments_at(tape, chosen)].reshape(-1, tape.num_choices)
    index = tape.param[items]
    strides = index[:, 1] - index[:, 0] if tape.num_choices > 1 else np.zeros(len(items), np.int32)
    even = (np.diff(index) == strides[:, None]).all(1) & (strides >= 0)
    fits = even & (tape.op[items] == Op.PARAM).all(1)
    chosen, index, strides = chosen[fits], index[fits], strides[fits]
    param, stride, op = tape.param.copy(), tape.stride.copy(), tape.op.copy()
    param[chosen], stride[chosen], op[chosen] = index[:, 0], strides, Op.GATHER
    args = np.delete(tape.args, arguments_at(tape, chosen))
    num_args = tape.num_args
    num_args[chosen] = 0
    start = np.concatenate([[0], np.cumsum(num_args)])
    return replace(tape, op=op, start=start, args=args, param=param, stride=stride)


def useful(tape: Tape) -> Tape:
    """Without the nodes on which no loss depends, but with all that may have no finite result."""
    kept = np.isin(tape.op, (Op.EXP, Op.LOG, Op.POW, Op.RATIO))
    uses = tape.uses() + kept
    dead = np.zeros(len(tape), bool)
    wave = np.flatnonzero(uses == 0)
    while len(wave):
        dead[wave] = True
        args, counts = np.unique(tape.args[arguments_at(tape, wave)], return_counts=True)
        uses[args] -= counts
        wave = args[uses[args] == 0]
    return spliced(tape, {}, gone=np.flatnonzero(dead))


#: All passes in their order.
PASSES: tuple[Callable[[Tape], Tape], ...] = (
    sums,
    dots,
    rows,
    ratios,
    shared,
    picks,
    loads,
    useful,
)


def fuse(tape: Tape) -> Tape:
    """The tape after all passes."""
    for fusing in PASSES:
        tape = fusing(tape).validate()
    return tape
