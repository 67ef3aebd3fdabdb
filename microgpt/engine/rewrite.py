"""How fusing passes take a tape apart and put it together again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.tape import Node, Op, Tape, from_nodes

Mask: TypeAlias = NDArray[np.bool_]
Longs: TypeAlias = NDArray[np.int64]


def backward_order(node: Node) -> Iterator[int]:
    """Places of ``node.args`` in the order in which backward adds to their gradients."""
    n = len(node.args)
    if node.op is Op.DOT:
        half = n // 2
        return (place for k in range(half - 1, -1, -1) for place in (k, half + k))
    if node.op in (Op.SUM, Op.ROW):
        return iter(range(n - 1, -1, -1))
    return iter(range(n))


def cloned(tape: Tape, nodes: list[Node], chosen: Callable[[Node], bool]) -> Iterator[list[Node]]:
    """Parts in which every use of a chosen node has its own copy, just before its consumer.

    Of one consumer's copies, the one that backward reaches first stands last.
    """

    def with_copies(node: Node) -> list[Node]:
        part: list[Node] = []
        standing: dict[int, int] = {}
        for place in reversed(list(backward_order(node))):
            original = nodes[node.args[place]]
            if chosen(original):
                part += with_copies(original)
                standing[place] = len(part) - 1
        args = list(node.args)
        for place, where in standing.items():
            args[place] = where - len(part)  # negative: counted from the consumer back
        return [*part, node._replace(args=tuple(args)) if standing else node]

    losses = set(tape.losses)
    for i, node in enumerate(nodes):
        yield [] if chosen(node) and i not in losses else with_copies(node)


def renumbered(tape: Tape, parts: Iterator[list[Node]]) -> Tape:
    """The tape in which node ``i`` is replaced by ``parts[i]``, whose last node stands for it.

    Arguments are old numbers; ``-k`` means the ``k``-th node before the one that uses it.
    """
    new: list[Node] = []
    place: dict[int, int] = {}
    for i, part in enumerate(parts):
        for node in part:
            here = len(new)
            args = tuple(here + arg if arg < 0 else place[arg] for arg in node.args)
            new.append(node._replace(args=args) if args != node.args else node)
        if part:
            place[i] = len(new) - 1
    return from_nodes(new, tuple(place[loss] for loss in tape.losses), tape)


def consumers_of(tape: Tape) -> list[list[int]]:
    """Per node the nodes that read it, in order; the end of the tape reads the losses."""
    consumers: list[list[int]] = [[] for _ in range(len(tape))]
    owner = np.repeat(np.arange(len(tape)), tape.num_args)
    for arg, node in zip(tape.args.tolist(), owner.tolist(), strict=True):
        if not consumers[arg] or consumers[arg][-1] != node:
            consumers[arg].append(node)
    for loss in tape.losses:
        consumers[loss].append(len(tape))
    return consumers


def binary_argument(tape: Tape, which: int) -> Longs:
    """(num_nodes,) argument ``which`` of the additions and products, 0 for all other nodes."""
    binary = (tape.op == Op.ADD) | (tape.op == Op.MUL)
    column = np.zeros(len(tape), np.int64)
    column[binary] = tape.args[tape.start[:-1][binary] + which]
    return column


def arguments_of(tape: Tape, chosen: Longs) -> tuple[Longs, Longs]:
    """All arguments of the chosen nodes one after the other, and which node each belongs to."""
    owner = np.repeat(np.arange(len(tape)), tape.num_args)
    mask = marked(len(tape), chosen)[owner]
    return tape.args[mask].astype(np.int64), owner[mask]


def marked(size: int, chosen: Longs) -> Mask:
    """(size,) where True stands for what was chosen."""
    mask = np.zeros(size, bool)
    mask[chosen] = True
    return mask


def roots(parent: Longs) -> Longs:
    """Per node the one that following ``parent`` ends at."""
    while True:
        grand = parent[parent]
        if (grand == parent).all():
            return parent
        parent = grand


def nothing_between(tape: Tape, at: Longs, operand: Longs, until: Longs, group: Longs) -> Mask:
    """Per entry: whether the contribution of node ``at`` to ``operand`` may move to ``until``.

    It may if the next consumer of ``operand`` comes after ``until`` or moves along (``group``).
    """
    n = len(tape)
    if not len(at):
        return np.ones(0, bool)
    keys = tape.args.astype(np.int64) * n + np.repeat(np.arange(n), tape.num_args)
    keys = keys[marked(n, operand)[tape.args]]
    keys = np.append(np.unique(keys), np.iinfo(np.int64).max)
    following = keys[np.searchsorted(keys, operand * n + at, side="right")]
    other = following // n != operand
    consumer = np.where(other, 0, following % n)
    return np.asarray(other | (consumer > until) | (group[consumer] == group[at]), dtype=bool)


def replaced(tape: Tape, members: Longs, terms: Longs, last: Longs, op: Op) -> Tape:
    """Members of one chain share ``last``, which becomes ``op`` of the terms; the others go."""
    order = np.argsort(last, kind="stable")
    return rebuilt(tape, last[order], terms[order], members[members != last], op)


def rebuilt(tape: Tape, owner: Longs, args: Longs, gone: Longs, op: Op) -> Tape:
    """The owners become ``op`` of their args; ``gone`` nodes leave; all are renumbered.

    ``owner``: (num_args,) ascending, the node that each of ``args`` belongs to.
    """
    n = len(tape)
    changed, counts = np.unique(owner, return_counts=True)
    keep, is_changed = np.ones(n, bool), np.zeros(n, bool)
    keep[gone], is_changed[changed] = False, True
    num_args = tape.num_args.copy()
    num_args[changed] = counts
    num_args[gone] = 0
    ops = tape.op.copy()
    ops[changed] = op
    old_owner = np.repeat(np.arange(n), tape.num_args)
    stays = (keep & ~is_changed)[old_owner]
    all_args = np.empty(num_args.sum(), np.int64)
    from_changed = np.repeat(is_changed, num_args)
    all_args[from_changed] = args
    all_args[~from_changed] = tape.args[stays]
    place = np.cumsum(keep) - 1
    return Tape(
        ops[keep],
        np.concatenate([[0], np.cumsum(num_args[keep])]),
        place[all_args].astype(np.int32),
        tape.number[keep],
        tape.param[keep],
        tape.token[keep],
        tape.stride[keep],
        tuple(place[list(tape.losses)].tolist()),
        tape.num_params,
        tape.num_choices,
    )
