"""Runs ``model.py`` once on numbers that are not known yet, and keeps what it did as a tape.

A ``Tracer`` has the operations of ``Value`` and creates nodes in the same order, but holds no data.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, NoReturn, TypeAlias, Union

import numpy as np

from microgpt.engine.tape import Op, Tape
from microgpt.model import Forward, GPTConfig, gpt, parameter_shapes, position_losses
from microgpt.parameters import Shapes

Operand: TypeAlias = Union["Tracer", float, int]


class Recorder:
    """The growing arrays of a tape."""

    def __init__(self) -> None:
        self.op = array("b")
        self.args = array("i")
        self.start = array("q", [0])
        self.param: dict[int, int] = {}
        self.number: dict[int, float] = {}
        self.token: dict[int, int] = {}
        self.constants: dict[str, int] = {}

    def append(self, op: int, args: Iterable[int] = ()) -> int:
        """Add a node; returns its number."""
        self.args.extend(args)
        self.start.append(len(self.args))
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

    def finish(self, losses: Sequence[Tracer], num_params: int, num_choices: int) -> Tape:
        """What was recorded, as a tape of these losses."""
        n = len(self.op)
        return Tape(
            np.frombuffer(self.op, np.int8),
            np.frombuffer(self.start, np.int64),
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

    def _binary(self, op: int, other: Operand) -> Tracer:
        recorder = self.recorder
        second = other.node if type(other) is Tracer else recorder.constant(other)
        return Tracer(recorder, recorder.append(op, (self.node, second)))

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
    for name, (rows, columns) in shapes.items():
        params[name] = [[_parameter(recorder) for _ in range(columns)] for _ in range(rows)]
    num_params = len(recorder.op)
    for number in (0.0, -1.0):  # here, so that they do not stand between the terms of a sum
        recorder.constant(number)
    positions = config.block_size if num_positions is None else num_positions
    tokens = [TokenTracer(recorder, token) for token in range(positions + 1)]
    losses = results(params, config, tokens, forward)
    return recorder.finish(losses, num_params, config.vocab_size)


def _parameter(recorder: Recorder) -> Tracer:
    node = recorder.append(Op.PARAM)
    recorder.param[node] = node
    return Tracer(recorder, node)
