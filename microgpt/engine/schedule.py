"""Groups the nodes of a fused tape into instructions that do one operation many times.

Two rules keep the bits: a node comes after the nodes it reads, and the consumers of one node come
in the order of their creation, so that running the groups backward adds up its gradient in the
scalar engine's order. Inside a group members stand in creation order; backward reverses it.
Positions are not mixed: a shorter document must be able to stop after its last position.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from microgpt.engine.rewrite import Longs, Mask, arguments_at, differentiable, distinct
from microgpt.engine.tape import MEANINGS, OPS, Op, Tape


@dataclass(frozen=True)
class Group:
    """Nodes that one instruction computes, in the order of their creation.

    ``needs``: whether first and second operand have use for a gradient; if neither has, backward
    skips the group.
    """

    op: Op
    members: list[int]
    needs: tuple[bool, bool]


def schedule(tape: Tape) -> list[list[Group]]:
    """The groups of every position, in the order in which they run forward."""
    return _Scheduler(tape).groups()


class _Scheduler:
    """Takes units one after the other: a node, or ROWs of the same numbers side by side.

    ``first``, ``end``: (num_units,) the nodes of each unit. ``kinds``: what units of one group have
    in common. ``data``, ``order``: which units wait for each, in order to read it, or because it
    reads the same nodes before them.
    """

    def __init__(self, tape: Tape) -> None:
        self.tape = tape
        needs = differentiable(tape)
        position = np.searchsorted(np.array(tape.losses), np.arange(len(tape)))
        follows = _follows(tape, position)
        is_first = ~follows & (tape.op != Op.CONST)
        unit = np.cumsum(is_first) - 1
        self.first = np.flatnonzero(is_first)
        self.end = self.first + 1 + np.bincount(unit[follows], minlength=len(self.first))
        self.position = position[self.first]
        args = tape.args[arguments_at(tape, self.first)].astype(np.int64)
        owner = np.repeat(np.arange(len(self.first)), tape.num_args[self.first])
        self.needs = self._operand_needs(needs[args], owner)
        self.kinds = self._kinds()
        read = (position[args] == self.position[owner]) & (tape.op[args] != Op.CONST)
        self.data = _Edges(unit[args[read]], owner[read], len(self.first))
        before, after = self._consumed_before(needs, args, owner)
        self.order = _Edges(before, after, len(self.first))

    def _operand_needs(self, needs: Mask, owner: Longs) -> list[tuple[bool, bool]]:
        """Per unit, of ``needs`` per argument: whether first and second operand have use for it."""
        op, num_args = self.tape.op[self.first], self.tape.num_args[self.first]
        any_number = np.array([MEANINGS[op].arity < 0 for op in OPS])[op]
        in_first = np.where(any_number, num_args, 1)
        in_first = np.where(op == Op.DOT, num_args // 2, in_first)
        rank = np.arange(len(owner)) - (np.cumsum(num_args) - num_args)[owner]
        gives = needs & np.array([MEANINGS[op].gradient for op in OPS])[op][owner]
        is_first = rank < in_first[owner]
        size = len(self.first)
        both = (
            np.bincount(owner[gives & where], minlength=size) > 0 for where in (is_first, ~is_first)
        )
        return list(zip(*(operand.tolist() for operand in both), strict=True))

    def _kinds(self) -> list[int]:
        """Per unit the number of its kind."""
        tape, first = self.tape, self.first
        same_numbers = [b""] * len(first)
        for unit in np.flatnonzero(tape.op[first] == Op.ROW).tolist():
            begin, end = tape.start[first[unit] : first[unit] + 2]
            same_numbers[unit] = tape.args[begin:end].tobytes()
        columns = (tape.op, tape.num_args, tape.number, tape.token, tape.stride)
        values = (column[first].tolist() for column in columns)
        numbers: dict[Hashable, int] = {}
        return [
            numbers.setdefault(kind, len(numbers))
            for kind in zip(*values, self.needs, same_numbers, strict=True)
        ]

    def _consumed_before(self, needs: Mask, args: Longs, owner: Longs) -> tuple[Longs, Longs]:
        """Pairs of units that read the same node at one position, with none between them.

        Only of nodes that receive gradients, and only where the first one adds to them.
        """
        size = len(self.first)
        wanted = needs[args]
        keys = args[wanted] * size + owner[wanted]
        adding = distinct(keys[needs[self.first[owner[wanted]]]])
        adding = np.concatenate([[-1], adding])
        before = adding[np.searchsorted(adding, keys) - 1]
        after = keys % size
        fits = (before // size == keys // size) & (before >= 0)
        fits &= self.position[before % size] == self.position[after]
        return before[fits] % size, after[fits]

    def groups(self) -> list[list[Group]]:
        """See ``schedule``."""
        begins = np.searchsorted(self.position, np.arange(len(self.tape.losses) + 1)).tolist()
        self.done = [False] * len(self.first)
        first, end = self.first.tolist(), self.end.tolist()
        ops = self.tape.op[self.first].tolist()
        return [
            [
                Group(
                    OPS[ops[units[0]]],
                    [node for unit in units for node in range(first[unit], end[unit])],
                    self.needs[units[0]],
                )
                for units in self._of_position(range(begins[i], begins[i + 1]))
            ]
            for i in range(len(self.tape.losses))
        ]

    def _of_position(self, span: range) -> list[list[int]]:
        """Units of one position in groups."""
        kinds, done, unread, unordered = self.kinds, self.done, self.data.left, self.order.left
        waiting: dict[int, list[int]] = {}
        for unit in span:
            waiting.setdefault(kinds[unit], []).append(unit)
        groups = []
        for unit in span:
            if done[unit]:
                continue
            members, left = [], []
            for other in waiting[kinds[unit]]:
                if unread[other] or unordered[other]:
                    left.append(other)
                else:
                    members.append(other)
                    done[other] = True
                    self.order.release(other)
            waiting[kinds[unit]] = left
            for member in members:
                self.data.release(member)
            groups.append(members)
        return groups


class _Edges:
    """Which units wait for which: ``left`` has for how many each still does."""

    def __init__(self, before: Longs, after: Longs, size: int) -> None:
        edges = distinct(before * size + after)
        self.waiting = (edges % size).tolist()
        self.begin = np.searchsorted(edges, np.arange(size + 1) * size).tolist()
        self.left = np.bincount(edges % size, minlength=size).tolist()

    def release(self, unit: int) -> None:
        """The unit is done: others wait for it no longer."""
        for other in self.waiting[self.begin[unit] : self.begin[unit + 1]]:
            self.left[other] -= 1


def _follows(tape: Tape, position: Longs) -> Mask:
    """Per node: whether it and the node before are ROWs of the same numbers at one position."""
    follows = np.zeros(len(tape), bool)
    follows[1:] = (
        (tape.op[1:] == Op.ROW)
        & (tape.op[:-1] == Op.ROW)
        & (tape.num_args[1:] == tape.num_args[:-1])
        & (position[1:] == position[:-1])
    )
    chosen = np.flatnonzero(follows)
    counts = tape.num_args[chosen]
    places = arguments_at(tape, chosen)
    differs = tape.args[places] != tape.args[places - np.repeat(counts, counts)]
    follows[np.repeat(chosen, counts)[differs]] = False
    return follows
