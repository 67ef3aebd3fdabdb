"""Runs ``model.py`` once on numbers that are not known yet, and keeps what it did as a tape.

A ``Tracer`` has the operations of ``Value`` and creates nodes in the same order, but holds no data.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from numbers import Real
from typing import Any, NoReturn, TypeAlias, Union

import numpy as np

from microgpt.engine.fuse import dots, rows, sums
from microgpt.engine.tape import MEANINGS, OPS, Node, Op, Tape
from microgpt.model import Forward, GPTConfig, gpt, parameter_shapes, position_losses
from microgpt.parameters import Shapes

Operand: TypeAlias = Union["Tracer", float, int]
#: Of a row and a vector of the same length.
RowFunction: TypeAlias = Callable[[Sequence[Any], Sequence[Any]], Any]


class Recorder:
    """The growing arrays of a tape.

    ``counts``: numbers of arguments, of the nodes that may have any number of them.
    """

    def __init__(self) -> None:
        self.op = array("b")
        self.args = array("i")
        self.counts = array("q")
        self.param: dict[int, int] = {}
        self.number: dict[int, float] = {}
        self.token: dict[int, int] = {}
        self.constants: dict[str, int] = {}
        self.param_rows: dict[int, list[Tracer]] = {}

    def append(self, op: int, args: Sequence[int] = ()) -> int:
        """Add a node; returns its number."""
        self.args.extend(args)
        if MEANINGS[OPS[op]].arity < 0:
            self.counts.append(len(args))
        self.op.append(op)
        return len(self.op) - 1

    def constant(self, number: object) -> int:
        """The node of a constant; equal constants share one, as they receive no gradient."""
        if not isinstance(number, Real) or isinstance(number, bool):
            raise TypeError(f"a Tracer works with real numbers, not with {number!r}")
        key = float(number).hex()
        if key not in self.constants:
            node = self.constants[key] = self.append(Op.CONST)
            self.number[node] = float(number)
        return self.constants[key]

    def matrix(self, rows: int, columns: int) -> list[list[Tracer]]:
        """The next parameters, row by row."""
        matrix = []
        for _ in range(rows):
            node = len(self.op)
            self.op.extend([Op.PARAM] * columns)
            numbers = range(node, node + columns)
            self.param.update(zip(numbers, numbers, strict=True))
            matrix.append([Tracer(self, number) for number in numbers])
            self.param_rows[node] = matrix[-1].copy()
        return matrix

    def products(self, w: Sequence[Sequence[Any]], x: Sequence[Any]) -> list[Tracer]:
        """``w`` times ``x`` as a ROW for each row of ``w``, which ``can_multiply`` allows."""
        node, columns = len(self.op), len(x)
        self.op.extend([Op.ROW] * len(w))
        self.args.extend(array("i", [each.node for each in x]) * len(w))
        self.counts.extend([columns] * len(w))
        results = [Tracer(self, number) for number in range(node, node + len(w))]
        for result, row in zip(results, w, strict=True):
            self.param[result.node] = row[0].node
        return results

    def can_multiply(self, w: Sequence[Sequence[Operand]], x: Sequence[Operand]) -> bool:
        """Whether ROWs compute ``w`` times ``x``: rows of parameters, and other distinct nodes.

        None of these may be chosen, perhaps among the same parameters: that the passes look at.
        """
        nodes = {each.node for each in x if type(each) is Tracer and each.recorder is self}
        return (
            len(nodes) == len(x)
            and all(self.op[node] not in (Op.PARAM, Op.PICK) for node in nodes)
            and all(
                len(row) == len(x)
                and type(row[0]) is Tracer
                and self.param_rows.get(row[0].node) == row
                for row in w
            )
        )

    def finish(self, losses: Sequence[Tracer], num_params: int, num_choices: int) -> Tape:
        """What was recorded, as a tape of these losses."""
        n, op = len(self.op), np.frombuffer(self.op, np.int8)
        num_args = np.array([MEANINGS[each].arity for each in OPS])[op]
        num_args[num_args < 0] = self.counts
        return Tape(
            op,
            np.concatenate([[0], np.cumsum(num_args)]),
            np.frombuffer(self.args, np.int32),
            _filled(self.number, n, np.float64),
            _filled(self.param, n, np.int32),
            _filled(self.token, n, np.int32),
            np.zeros(n, np.int32),
            tuple(loss.node for loss in losses),
            num_params,
            num_choices,
        ).validate()


def _filled(entries: dict[int, Any], size: int, dtype: Any) -> Any:
    column = np.zeros(size, dtype)
    column[list(entries)] = list(entries.values())
    return column


class Tracer:
    """A number of a recording: the entry ``node`` of its tape. Operations as those of ``Value``."""

    __slots__ = ("node", "recorder")

    def __init__(self, recorder: Recorder, node: int) -> None:
        self.recorder = recorder
        self.node = node

    def __add__(self, other: Operand) -> Tracer:
        return self._binary(Op.ADD, other)

    def __mul__(self, other: Operand) -> Tracer:
        return self._binary(Op.MUL, other)

    def __pow__(self, exponent: float) -> Tracer:
        if isinstance(exponent, Tracer) or not isinstance(exponent, Real):
            raise TypeError(f"the exponent of a Tracer must be a plain number, not {exponent!r}")
        power = self._unary(Op.POW)
        self.recorder.number[power.node] = float(exponent)
        return power

    def log(self) -> Tracer:
        """Natural logarithm."""
        return self._unary(Op.LOG)

    def exp(self) -> Tracer:
        """e to this power."""
        return self._unary(Op.EXP)

    def relu(self) -> Tracer:
        """This number where it is positive, else 0.0."""
        return self._unary(Op.RELU)

    def __neg__(self) -> Tracer:
        return self * -1.0

    def __sub__(self, other: Operand) -> Tracer:
        return self + (-other)

    def __truediv__(self, other: Operand) -> Tracer:
        return self * other**-1

    def __radd__(self, other: float) -> Tracer:
        return self + other

    def __rmul__(self, other: float) -> Tracer:
        return self * other

    def __rsub__(self, other: float) -> Tracer:
        return other + (-self)

    def __rtruediv__(self, other: float) -> Tracer:
        return other * self**-1

    @staticmethod
    def largest(tracers: Sequence[Tracer]) -> Tracer:
        """The largest of the numbers, through which no gradient flows."""
        recorder = tracers[0].recorder
        return Tracer(recorder, recorder.append(Op.MAX, [tracer.node for tracer in tracers]))

    def each_row(
        self, function: RowFunction, w: Sequence[Sequence[Operand]], x: Sequence[Operand]
    ) -> list[Any]:
        """See ``model.each_row``, which finds this method at ``x[0]``.

        Where the function is a dot product it is not recorded term by term, and fused again, for
        each row, but as what that comes to: the same operations, one node a row.
        """
        if self.recorder.can_multiply(w, x) and is_product(function, len(x)):
            return self.recorder.products(w, x)
        return [function(row, x) for row in w]

    def _binary(self, op: int, other: Operand) -> Tracer:
        recorder = self.recorder
        second = other.node if type(other) is Tracer else recorder.constant(other)
        recorder.args.append(self.node)  # not by ``append``: this is done a million times
        recorder.args.append(second)
        recorder.op.append(op)
        return Tracer(recorder, len(recorder.op) - 1)

    def _unary(self, op: int) -> Tracer:
        return Tracer(self.recorder, self.recorder.append(op, (self.node,)))

    def _unknown(self, *_: object) -> NoReturn:
        raise TypeError(
            "a model that is recorded cannot look at its numbers: they differ between documents"
        )

    __bool__ = __float__ = __int__ = __lt__ = __le__ = __gt__ = __ge__ = _unknown


class TokenTracer:
    """Token ``token`` of a document that is not known yet. It can only choose: see ``select``."""

    def __init__(self, recorder: Recorder, token: int) -> None:
        self.recorder = recorder
        self.token = token

    def select(self, items: Sequence[Any]) -> Any:
        """``items[token]``, where an item is a number or a (nested) list of numbers."""
        if not isinstance(items[0], Tracer):
            return [self.select(column) for column in zip(*items, strict=True)]
        node = self.recorder.append(Op.PICK, [item.node for item in items])
        self.recorder.token[node] = self.token
        return Tracer(self.recorder, node)


@lru_cache(maxsize=64)
def is_product(function: RowFunction, length: int) -> bool:
    """Whether the function of a row of parameters and ``length`` other numbers is one ROW.

    That is found out: the function is recorded once, and what was recorded is fused.
    """
    recorder = Recorder()
    (row,) = recorder.matrix(1, length)
    x = [parameter.exp() for parameter in row]
    recorder.constant(0.0)
    result = function(row, x)
    if type(result) is not Tracer or result.recorder is not recorder:
        return False
    tape = rows(dots(sums(recorder.finish([result], length, 1))))
    product = Node(Op.ROW, tuple(each.node for each in x), param=row[0].node)
    return len(tape) == 2 * length + 2 and tape.node(len(tape) - 1) == product


def record(
    config: GPTConfig,
    forward: Forward = gpt,
    shapes: Shapes | None = None,
    num_positions: int | None = None,
    results: Callable[..., list[Tracer]] = position_losses,
) -> Tape:
    """The tape of a document's position losses, for ``num_positions`` (default: the block size).

    ``results(params, config, tokens, forward)`` may give another number than the loss per position.
    ``shapes`` are the model's parameters in canonical order; parameter ``i`` is node ``i``.
    """
    shapes = parameter_shapes(config) if shapes is None else shapes
    recorder = Recorder()
    params = {}
    for name, (num_rows, num_columns) in shapes.items():
        params[name] = recorder.matrix(num_rows, num_columns)
    num_params = len(recorder.op)
    for number in (0.0, -1.0):  # here, so that they do not stand between the terms of a sum
        recorder.constant(number)
    positions = config.block_size if num_positions is None else num_positions
    tokens = [TokenTracer(recorder, token) for token in range(positions + 1)]
    losses = results(params, config, tokens, forward)
    return recorder.finish(losses, num_params, config.vocab_size)
