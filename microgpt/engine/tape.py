"""A tape: scalar operations in the order of their creation, as parallel arrays.

Creation order is topological order, so forward is a scan and backward a reverse scan. What depends
on the document is an *input*: token ``t`` of the document chooses among nodes (``PICK``). One tape,
recorded for the longest document, holds the tape of every shorter one as a prefix.

Fusing (``microgpt.engine.fuse``) turns a tape into a shorter tape with the n-ary operations below.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]


class Op(IntEnum):
    """Operation codes. The recorder knows those up to PICK, and ROW; fusing brings the others."""

    CONST = 0
    PARAM = 1
    ADD = 2
    MUL = 3
    POW = 4
    EXP = 5
    LOG = 6
    RELU = 7
    MAX = 8
    PICK = 9
    SUM = 10
    DOT = 11
    ROW = 12
    RATIO = 13
    LOAD = 14
    GATHER = 15


#: Operations by their codes, which is faster than ``Op(code)``.
OPS = tuple(Op)


class Meaning(NamedTuple):
    """``arity``: number of arguments, -1 for any; ``gradient``: whether arguments receive one."""

    arity: int
    formula: str
    gradient: bool = True


#: What every operation computes. ``w`` are parameters, ``t`` is a token of the document.
MEANINGS: dict[Op, Meaning] = {
    Op.CONST: Meaning(0, "number", False),
    Op.PARAM: Meaning(0, "w[param]"),
    Op.ADD: Meaning(2, "a + b"),
    Op.MUL: Meaning(2, "a * b"),
    Op.POW: Meaning(1, "a ** number"),
    Op.EXP: Meaning(1, "exp(a)"),
    Op.LOG: Meaning(1, "log(a)"),
    Op.RELU: Meaning(1, "a if a > 0 else 0"),
    Op.MAX: Meaning(-1, "max(args), without gradient", False),
    Op.PICK: Meaning(-1, "args[t]"),
    Op.SUM: Meaning(-1, "0.0 + args[0] + args[1] + ..."),
    Op.DOT: Meaning(-1, "0.0 + a[0]*b[0] + a[1]*b[1] + ..., args = a then b"),
    Op.ROW: Meaning(-1, "0.0 + w[param]*args[0] + w[param+1]*args[1] + ..."),
    Op.RATIO: Meaning(2, "a * b ** number"),
    Op.LOAD: Meaning(0, "w[param]"),
    Op.GATHER: Meaning(0, "w[param + stride * t]"),
}


class TapeError(ValueError):
    """A tape that cannot be run: a mistake in the recorder or in a fusing pass."""


class Node(NamedTuple):
    """One entry of a tape.

    ``number``: a constant or an exponent; ``param``: which parameter; ``token``: which token of the
    document; ``stride``: distance of a GATHER's candidates.
    """

    op: Op
    args: tuple[int, ...] = ()
    number: float = 0.0
    param: int = 0
    token: int = 0
    stride: int = 0


@dataclass(frozen=True)
class Tape:
    """``num_nodes`` operations as arrays.

    ``op``: (num_nodes,) codes. ``start``: (num_nodes + 1,) where a node's arguments begin in
    ``args``, which holds node numbers. ``number``, ``param``, ``token``, ``stride``: see ``Node``.
    ``losses``: the node of each position's loss, in order; position ``p`` owns the nodes after the
    loss of ``p - 1`` up to its own. ``num_params``, ``num_choices``: sizes of what is indexed.
    """

    op: NDArray[np.int8]
    start: NDArray[np.int64]
    args: Ints
    number: NDArray[np.float64]
    param: Ints
    token: Ints
    stride: Ints
    losses: tuple[int, ...]
    num_params: int
    num_choices: int

    def __len__(self) -> int:
        return len(self.op)

    @property
    def num_args(self) -> NDArray[np.int64]:
        """(num_nodes,) how many arguments each node has."""
        return np.diff(self.start)

    def node(self, number: int) -> Node:
        """Entry ``number`` as a record."""
        return Node(
            Op(int(self.op[number])),
            tuple(self.args[self.start[number] : self.start[number + 1]].tolist()),
            float(self.number[number]),
            int(self.param[number]),
            int(self.token[number]),
            int(self.stride[number]),
        )

    def nodes(self) -> list[Node]:
        """All entries as records."""
        return [node for _, node in self.some_nodes(np.arange(len(self)))]

    def some_nodes(self, chosen: NDArray[np.int64]) -> Iterator[tuple[int, Node]]:
        """The chosen entries with their numbers, as records."""
        columns = (self.op, self.number, self.param, self.token, self.stride)
        begins, ends = self.start[chosen].tolist(), self.start[chosen + 1].tolist()
        rows = zip(*(column[chosen].tolist() for column in columns), strict=True)
        for i, begin, end, (op, *rest) in zip(chosen.tolist(), begins, ends, rows, strict=True):
            yield i, Node(OPS[op], tuple(self.args[begin:end].tolist()), *rest)

    def uses(self) -> NDArray[np.int64]:
        """(num_nodes,) how often each node is an argument; a position's loss counts as used."""
        uses = np.bincount(self.args, minlength=len(self))
        uses[list(self.losses)] += 1
        return uses

    def validate(self) -> Tape:
        """This tape, if it can be run. Raises TapeError naming the first node that is wrong."""
        n = len(self)
        for name in ("number", "param", "token", "stride"):
            _require(len(getattr(self, name)) == n, f"{name} has not one entry per node")
        _require(len(self.start) == n + 1 and self.start[0] == 0, "start does not fit")
        _require(int(self.start[-1]) == len(self.args), "start does not end at the last argument")
        _require(bool((self.num_args >= 0).all()), "start decreases")
        arity = np.array([MEANINGS[op].arity for op in Op])
        _require(bool(((self.op >= 0) & (self.op < len(Op))).all()), "an operation is unknown")
        expected = arity[self.op]
        wrong = (expected >= 0) & (expected != self.num_args) | (expected < 0) & (self.num_args < 1)
        _require(not wrong.any(), f"node {wrong.argmax()} has a wrong number of arguments")
        owner = np.repeat(np.arange(n), self.num_args)
        late = (self.args >= owner) | (self.args < 0)
        _require(not late.any(), f"node {owner[late.argmax()] if n else 0} uses a later one")
        chooses = np.isin(self.op, (Op.PICK,)) & (self.num_args != self.num_choices)
        _require(not chooses.any(), f"node {chooses.argmax()} does not choose among all tokens")
        order = list(self.losses)
        _require(bool(order) and order == sorted(set(order)), "the losses are not in order")
        _require(order[0] >= 0 and order[-1] < n, "a loss is not a node")
        self._validate_indices()
        return self

    def _validate_indices(self) -> None:
        length = np.where(self.op == Op.ROW, self.num_args, 1)
        length = np.where(self.op == Op.GATHER, 1 + (self.num_choices - 1) * self.stride, length)
        reads = np.isin(self.op, (Op.PARAM, Op.ROW, Op.LOAD, Op.GATHER))
        outside = reads & ((self.param < 0) | (self.param + length > self.num_params))
        _require(not outside.any(), f"node {outside.argmax()} reads no parameter")
        tokens = (self.token < 0) | (self.token > len(self.losses))
        _require(not tokens.any(), f"node {tokens.argmax()} reads no token")

    def statistics(self) -> str:
        """One line: how many nodes, and of which operations."""
        counts = Counter(self.op.tolist())
        kinds = ", ".join(f"{count:,} {Op(op).name}" for op, count in sorted(counts.items()))
        return f"{len(self):,} nodes with {len(self.args):,} arguments: {kinds}"

    def lines(self) -> Iterator[str]:
        """The program as text, one node a line, constants and parameters left out."""
        losses = {node: position for position, node in enumerate(self.losses)}
        for i in range(len(self)):
            node = self.node(i)
            if node.op in (Op.CONST, Op.PARAM):
                continue
            loss = f"    # loss of position {losses[i]}" if i in losses else ""
            yield f"%{i} = {_describe(node, self)}{loss}"


def from_nodes(nodes: list[Node], losses: tuple[int, ...], like: Tape) -> Tape:
    """A tape of these records, with the sizes of the tape ``like``."""
    args = [arg for node in nodes for arg in node.args]
    counts = [len(node.args) for node in nodes]
    return Tape(
        np.array([node.op for node in nodes], np.int8),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.array(args, np.int32),
        np.array([node.number for node in nodes], np.float64),
        np.array([node.param for node in nodes], np.int32),
        np.array([node.token for node in nodes], np.int32),
        np.array([node.stride for node in nodes], np.int32),
        losses,
        like.num_params,
        like.num_choices,
    )


def _require(holds: bool, complaint: str) -> None:
    if not holds:
        raise TapeError(f"not a tape: {complaint}")


def _describe(node: Node, tape: Tape) -> str:
    args = ", ".join(_operand(arg, tape) for arg in node.args)
    extras = {
        Op.POW: f" ** {node.number:g}",
        Op.RATIO: f" ** {node.number:g}",
        Op.PICK: f" by token {node.token}",
        Op.GATHER: f"w[{node.param} + {node.stride} * token {node.token}]",
        Op.LOAD: f"w[{node.param}]",
        Op.ROW: f" with w[{node.param}:{node.param + len(node.args)}]",
    }
    return f"{node.op.name.lower()} {args}{extras.get(node.op, '')}"


def _operand(arg: int, tape: Tape) -> str:
    if tape.op[arg] == Op.CONST:
        return f"{tape.number[arg]:g}"
    return f"w[{tape.param[arg]}]" if tape.op[arg] == Op.PARAM else f"%{arg}"
