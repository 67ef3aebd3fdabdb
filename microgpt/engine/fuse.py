"""Passes that turn a tape into a shorter tape with the same bits.

Forward values are the same expressions, summed from the left. Backward, a node's gradient is a sum
whose order is its consumers' reverse order of creation. Fusing moves the moment at which a consumer
contributes to the moment of the fused node; a pass may do so only if no other consumer of the same
node lies between the two moments. Every pass checks this where it can fail.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from microgpt.engine.rewrite import (
    arguments_of,
    binary_argument,
    cloned,
    consumers_of,
    marked,
    nothing_between,
    rebuilt,
    renumbered,
    replaced,
    roots,
)
from microgpt.engine.tape import Ints, Node, Op, Tape, from_nodes


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
    return rebuilt(tape, assignees[order], both[order], terms, Op.DOT)


def rows(tape: Tape) -> Tape:
    """Dot products of consecutive parameters with distinct other numbers become ROWs."""
    nodes = tape.nodes()
    for number in np.flatnonzero(tape.op == Op.DOT).tolist():
        args = tape.args[tape.start[number] : tape.start[number + 1]]
        left, right = np.split(args, 2)
        for weights, x in ((left, right), (right, left)):
            if _are_row(tape, weights, x):
                start = int(tape.param[weights[0]])
                nodes[number] = Node(Op.ROW, tuple(x.tolist()), param=start)
                break
    return from_nodes(nodes, tape.losses, tape)


def _are_row(tape: Tape, weights: Ints, x: Ints) -> bool:
    if (tape.op[weights] != Op.PARAM).any() or (tape.op[x] == Op.PARAM).any():
        return False
    consecutive = (np.diff(tape.param[weights]) == 1).all()
    return bool(consecutive) and len(np.unique(x)) == len(x)


def ratios(tape: Tape) -> Tape:
    """``e * total ** c`` with a power of its own: one RATIO, so that the power is shared.

    A softmax writes ``total**-1`` once for every term. The values are equal, the contributions to
    the gradient of ``total`` are not, and keep their order.
    """
    nodes, uses = tape.nodes(), tape.uses()
    dead: set[int] = set()
    for i, node in enumerate(nodes):
        if node.op is not Op.MUL or i - 1 not in node.args or nodes[i - 1].op is not Op.POW:
            continue
        if uses[i - 1] == 1 and node.args[0] != node.args[1]:
            power = nodes[i - 1]
            term = node.args[0] if node.args[1] == i - 1 else node.args[1]
            nodes[i] = Node(Op.RATIO, (term, power.args[0]), number=power.number)
            dead.add(i - 1)
    return renumbered(tape, ([] if i in dead else [node] for i, node in enumerate(nodes)))


def shared(tape: Tape) -> Tape:
    """Equal operations on what receives no gradient become one: minus a softmax's maximum."""
    nodes = tape.nodes()
    bare = (Op.CONST, Op.MAX)
    quiet: set[int] = set()
    first: dict[Node, int] = {}
    same: dict[int, int] = {}
    for i, node in enumerate(nodes):
        args = tuple(same.get(arg, arg) for arg in node.args)
        nodes[i] = node = node._replace(args=args) if args != node.args else node
        if node.op in bare or (args and node.op is not Op.PICK and quiet.issuperset(args)):
            quiet.add(i)
            if first.setdefault(node, i) != i and i not in tape.losses:
                same[i] = first[node]
    return renumbered(tape, ([] if i in same else [node] for i, node in enumerate(nodes)))


def picks(tape: Tape) -> Tape:
    """Every use of a PICK gets its own, and a PICK among ratios becomes a ratio of a PICK.

    A chosen node receives each consumer's contribution by itself, as it would without the choice.
    Of a softmax of which only the target's probability is used, one division remains.
    """
    tape = renumbered(tape, cloned(tape, tape.nodes(), lambda node: node.op is Op.PICK))
    nodes, consumers = tape.nodes(), consumers_of(tape)
    sunk: dict[int, list[Node]] = {}
    dead: set[int] = set()
    for i, node in enumerate(nodes):
        if node.op is Op.PICK and _can_sink(i, nodes, consumers):
            some = nodes[node.args[0]]
            chosen = Node(Op.PICK, tuple(nodes[arg].args[0] for arg in node.args), token=node.token)
            ratio = Node(Op.RATIO, (-1, some.args[1]), number=some.number)  # -1: the node before
            sunk[i] = [chosen, ratio]
            dead.update(node.args)
    parts = ([] if i in dead else sunk.get(i, [node]) for i, node in enumerate(nodes))
    return renumbered(tape, parts)


def _can_sink(number: int, nodes: list[Node], consumers: list[list[int]]) -> bool:
    """Whether all candidates are ratios by one base, used only here, and nothing lies between."""
    items = nodes[number].args
    some = nodes[items[0]]
    if some.op is not Op.RATIO or len(set(items)) != len(items):
        return False
    for item in items:
        node = nodes[item]
        if node.op is not Op.RATIO or (node.args[1], node.number) != (some.args[1], some.number):
            return False
        if consumers[item] != [number] or node.args[0] == node.args[1]:
            return False
        if any(item < consumer <= number for consumer in consumers[node.args[0]]):
            return False
    own = set(items)
    between = [c for c in consumers[some.args[1]] if min(items) <= c <= number]
    return all(consumer in own for consumer in between)


def loads(tape: Tape) -> Tape:
    """Parameters used outside ROWs are read by a LOAD, or a GATHER by token, one for every use.

    So a parameter's gradient is the sum of what ROWs, LOADs and GATHERs contribute, in an order
    that can be told from the tape alone: tied weights need no special case.
    """
    nodes = tape.nodes()
    gathers: dict[int, Node] = {}
    for i, node in enumerate(nodes):
        if node.op is Op.PICK and all(nodes[arg].op is Op.PARAM for arg in node.args):
            index = [nodes[arg].param for arg in node.args]
            stride = index[1] - index[0] if len(index) > 1 else 0
            if all(b - a == stride for a, b in pairwise(index)) and stride >= 0:
                gathers[i] = Node(Op.GATHER, param=index[0], token=node.token, stride=stride)
    for i, gather in gathers.items():
        nodes[i] = gather
    for i, node in enumerate(nodes):
        if node.op is Op.PARAM:
            nodes[i] = Node(Op.LOAD, param=node.param)
    leaves = (Op.LOAD, Op.GATHER)
    return renumbered(tape, cloned(tape, nodes, lambda node: node.op in leaves))


def useful(tape: Tape) -> Tape:
    """Without the nodes on which no loss depends, but with all that may have no finite result."""
    nodes = tape.nodes()
    failing = (Op.EXP, Op.LOG, Op.POW, Op.RATIO)
    alive = {i for i, node in enumerate(nodes) if node.op in failing}.union(tape.losses)
    for i in range(len(nodes) - 1, -1, -1):
        if i in alive:
            alive.update(nodes[i].args)
    return renumbered(tape, ([node] if i in alive else [] for i, node in enumerate(nodes)))


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
