"""Groups the nodes of a fused tape into instructions that do one operation many times.

Two rules keep the bits: a node comes after the nodes it reads, and the consumers of one node come
in the order of their creation, so that running the groups backward adds up its gradient in the
scalar engine's order. Inside a group members stand in creation order; backward reverses it.
Positions are not mixed: a shorter document must be able to stop after its last position.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from microgpt.engine.tape import MEANINGS, Node, Op, Tape

#: What nodes of one group have in common.
Kind: TypeAlias = tuple[Op, int, float, int, int, tuple[bool, bool], tuple[int, ...]]


@dataclass(frozen=True)
class Group:
    """Nodes that one instruction computes.

    ``needs``: whether first and second operand have use for a gradient; if neither has, backward
    skips the group.
    """

    op: Op
    members: list[int]
    needs: tuple[bool, bool]


def schedule(tape: Tape) -> list[list[Group]]:
    """The groups of every position, in the order in which they run forward."""
    nodes = tape.nodes()
    needs = differentiable(nodes)
    kinds = [_kind(node, needs) for node in nodes]
    begins = [0, *(loss + 1 for loss in tape.losses)]
    return [
        _schedule_position(nodes, kinds, needs, range(begins[i], begins[i + 1]))
        for i in range(len(tape.losses))
    ]


def differentiable(nodes: list[Node]) -> list[bool]:
    """Which nodes depend on parameters by a way that gradients can go."""
    leaves = (Op.LOAD, Op.GATHER, Op.ROW, Op.PARAM)
    needs: list[bool] = []
    for node in nodes:
        flows = MEANINGS[node.op].gradient and any(needs[arg] for arg in node.args)
        needs.append(flows or node.op in leaves)
    return needs


def _kind(node: Node, needs: list[bool]) -> Kind:
    args = node.args
    first, second = args[:1], args[1:]
    if node.op is Op.DOT:
        first, second = args[: len(args) // 2], args[len(args) // 2 :]
    elif MEANINGS[node.op].arity < 0:
        first, second = args, ()
    used = MEANINGS[node.op].gradient
    wants = (used and any(needs[a] for a in first), used and any(needs[a] for a in second))
    shared = args if node.op is Op.ROW else ()
    return (node.op, len(args), node.number, node.token, node.stride, wants, shared)


def _schedule_position(
    nodes: list[Node], kinds: list[Kind], needs: list[bool], span: range
) -> list[Group]:
    data, order = _constraints(nodes, kinds, needs, span)
    waiting: dict[Kind, list[int]] = {}
    for i in span:
        if nodes[i].op is not Op.CONST:
            waiting.setdefault(kinds[i], []).append(i)
    done = {i for i in span if nodes[i].op is Op.CONST}
    groups = []
    for i in span:
        if i in done:
            continue
        kind, members, left = kinds[i], set[int](), []
        for j in waiting[kind]:
            ready = all(k in done for k in data[j])
            if ready and all(k in done or k in members for k in order[j]):
                members.add(j)
            else:
                left.append(j)
        waiting[kind] = left
        done |= members
        groups.append(Group(kind[0], sorted(members), kind[5]))
    return groups


def _constraints(
    nodes: list[Node], kinds: list[Kind], needs: list[bool], span: range
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Per node: those it reads, and the previous consumers of those; of this position only."""
    latest: dict[int, int] = {}
    data: dict[int, list[int]] = {}
    order: dict[int, list[int]] = {}
    for i in span:
        if i - 1 in data and nodes[i].op is Op.ROW and kinds[i] == kinds[i - 1]:
            data[i], order[i] = [], [i - 1]  # the same x: what holds for the row before holds here
        else:
            args = set(nodes[i].args)
            data[i] = [arg for arg in args if arg in span and nodes[arg].op is not Op.CONST]
            order[i] = list({latest[arg] for arg in args if needs[arg] and arg in latest})
        if needs[i]:  # only who adds to gradients must keep the order
            latest.update(dict.fromkeys(nodes[i].args, i))
    return data, order
