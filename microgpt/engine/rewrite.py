"""How fusing passes take a tape apart and put it together again: with arrays, not node by node.

A pass looks at all nodes at once and says which of them change. Only nodes that are made anew
become records (``spliced``), and there are few of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from microgpt.engine.tape import MEANINGS, OPS, Node, Op, Tape, from_nodes

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


def cloned(tape: Tape, chosen: Mask) -> Tape:
    """The tape in which every use of a chosen node has its own copy, just before its consumer.

    Of one consumer's copies, the one that backward reaches first stands last.
    """

    def with_copies(node: Node) -> list[Node]:
        part: list[Node] = []
        standing: dict[int, int] = {}
        for place in reversed(list(backward_order(node))):
            if node.args[place] in originals:
                part += with_copies(originals[node.args[place]])
                standing[place] = len(part) - 1
        args = list(node.args)
        for place, where in standing.items():
            args[place] = where - len(part)  # negative: counted from the consumer back
        return [*part, node._replace(args=tuple(args)) if standing else node]

    used, consumers = (distinct(numbers) for numbers in consumers_of(tape, chosen))
    originals = dict(tape.some_nodes(used))
    gone = chosen & ~marked(len(tape), tape.losses)
    parts = {i: with_copies(node) for i, node in tape.some_nodes(consumers[~gone[consumers]])}
    return spliced(tape, parts, gone=np.flatnonzero(gone))


def spliced(
    tape: Tape, parts: Mapping[int, Sequence[Node]], gone: Longs | Sequence[int] = ()
) -> Tape:
    """The tape in which node ``i`` is replaced by ``parts[i]``, whose last node stands for it.

    ``gone`` nodes leave, others stay. Arguments in parts are old numbers; ``-k`` means the ``k``-th
    node before the one that uses it. Who uses a node that has gone makes a tape that is not valid.
    """
    changed = sorted(parts)
    stays = ~marked(len(tape), changed) & ~marked(len(tape), gone)
    count = stays.astype(np.int64)
    count[changed] = [len(parts[i]) for i in changed]
    place = np.where(count > 0, np.cumsum(count) - 1, -1)
    is_new = np.ones(count.sum(), bool)
    is_new[place[stays]] = False
    flat = [node for i in changed for node in parts[i]]
    new = from_nodes(
        [
            node._replace(args=tuple(at + arg if arg < 0 else place[arg] for arg in node.args))
            for at, node in zip(np.flatnonzero(is_new).tolist(), flat, strict=True)
        ],
        tuple(place[list(tape.losses)].tolist()),
        tape,
    )
    return joined(tape, stays, place, new, is_new)


def joined(tape: Tape, stays: Mask, place: Longs, new: Tape, is_new: Mask) -> Tape:
    """What ``stays`` of a tape and all nodes of ``new``, which stand where ``is_new``.

    ``place``: where each old node stands now, for the arguments of what stays; those of ``new``
    are places already, as are its losses.
    """

    def together(old: NDArray[Any], added: NDArray[Any], where: Mask) -> NDArray[Any]:
        column = np.empty(len(where), old.dtype)
        column[where], column[~where] = added, old
        return column

    num_args = together(tape.num_args[stays], new.num_args, is_new)
    old_args = place.astype(np.int32)[tape.args[np.repeat(stays, tape.num_args)]]
    args = together(old_args, new.args, np.repeat(is_new, num_args))
    columns: dict[str, Any] = {
        name: together(getattr(tape, name)[stays], getattr(new, name), is_new)
        for name in ("op", "number", "param", "token", "stride")
    }
    return replace(new, start=np.concatenate([[0], np.cumsum(num_args)]), args=args, **columns)


def binary_argument(tape: Tape, which: int) -> Longs:
    """(num_nodes,) argument ``which`` of the additions and products, 0 for all other nodes."""
    binary = (tape.op == Op.ADD) | (tape.op == Op.MUL)
    column = np.zeros(len(tape), np.int64)
    column[binary] = tape.args[tape.start[:-1][binary] + which]
    return column


def arguments_of(tape: Tape, chosen: Longs) -> tuple[Longs, Longs]:
    """All arguments of the chosen nodes one after the other, and which node each belongs to."""
    args = tape.args[arguments_at(tape, chosen)].astype(np.int64)
    return args, np.repeat(chosen, tape.num_args[chosen])


def arguments_at(tape: Tape, chosen: Longs) -> Longs:
    """Places in ``tape.args`` of the chosen nodes' arguments, node by node."""
    counts = tape.num_args[chosen]
    before = np.cumsum(counts) - counts
    places: Longs = np.arange(counts.sum()) + np.repeat(tape.start[chosen] - before, counts)
    return places


def consumers_of(tape: Tape, wanted: Mask) -> tuple[Longs, Longs]:
    """Wherever a wanted node is an argument, from the first use on: the node, and who uses it."""
    places = np.flatnonzero(wanted[tape.args])
    return tape.args[places].astype(np.int64), np.searchsorted(tape.start, places, "right") - 1


def marked(size: int, chosen: Longs | Sequence[int]) -> Mask:
    """(size,) where True stands for what was chosen."""
    mask = np.zeros(size, bool)
    mask[np.asarray(chosen, np.int64)] = True
    return mask


def roots(parent: Longs) -> Longs:
    """Per node the one that following ``parent`` ends at."""
    while True:
        grand = parent[parent]
        if (grand == parent).all():
            return parent
        parent = grand


def differentiable(tape: Tape) -> Mask:
    """Which nodes depend on parameters by a way that gradients can go."""
    leaves = (Op.PARAM, Op.LOAD, Op.GATHER, Op.ROW)
    needs = np.array([MEANINGS[op].gradient for op in OPS])[tape.op]
    passing = np.flatnonzero(needs & ~np.isin(tape.op, leaves))
    args, owner = arguments_of(tape, passing)
    while True:  # as often as constants are computed from constants, which is seldom
        fed = marked(len(tape), owner[needs[args]])
        starved = passing[~fed[passing]]
        if not needs[starved].any():
            return needs
        needs[starved] = False


def consumptions(tape: Tape, of: Longs) -> Longs:
    """Who reads which of these nodes: ascending ``node * len(tape) + consumer``, each once.

    A last entry that is beyond all others makes the search in it simple.
    """
    nodes, consumers = consumers_of(tape, marked(len(tape), of))
    return np.append(distinct(nodes * len(tape) + consumers), np.iinfo(np.int64).max)


def distinct(numbers: NDArray[Any]) -> NDArray[Any]:
    """Each of the numbers once, in ascending order: ``np.unique`` takes ten times as long."""
    ordered = np.sort(numbers)
    is_new = np.ones(len(ordered), bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    return ordered[is_new]


def nothing_between(tape: Tape, at: Longs, operand: Longs, until: Longs, group: Longs) -> Mask:
    """Per entry: whether the contribution of node ``at`` to ``operand`` may move to ``until``.

    It may if the next consumer of ``operand`` comes after ``until`` or moves along (``group``).
    """
    n = len(tape)
    keys = consumptions(tape, operand)
    following = keys[np.searchsorted(keys, operand * n + at, side="right")]
    other = following // n != operand
    consumer = np.where(other, 0, following % n)
    return np.asarray(other | (consumer > until) | (group[consumer] == group[at]), dtype=bool)


def replaced(tape: Tape, members: Longs, terms: Longs, last: Longs, op: Op) -> Tape:
    """Members of one chain share ``last``, which becomes ``op`` of the terms; the others go."""
    order = np.argsort(last, kind="stable")
    return rebuilt(tape, last[order], terms[order], op, gone=members[members != last])


def rebuilt(
    tape: Tape, owner: Longs, args: Longs, op: Op, gone: Longs | Sequence[int] = ()
) -> Tape:
    """The owners become ``op`` of their args; ``gone`` nodes leave; all are renumbered.

    ``owner``: (num_args,) ascending, the node that each of ``args`` belongs to.
    """
    changed, counts = np.unique(owner, return_counts=True)
    keep = ~marked(len(tape), gone)
    place = np.where(keep, np.cumsum(keep) - 1, -1)
    new = Tape(
        np.full(len(changed), op, np.int8),
        np.concatenate([[0], np.cumsum(counts)]),
        place[args].astype(np.int32),
        tape.number[changed],
        tape.param[changed],
        tape.token[changed],
        tape.stride[changed],
        tuple(place[list(tape.losses)].tolist()),
        tape.num_params,
        tape.num_choices,
    )
    stays = keep & ~marked(len(tape), changed)
    return joined(tape, stays, place, new, marked(keep.sum(), place[changed]))
