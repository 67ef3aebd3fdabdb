"""Scalar reverse-mode automatic differentiation: the definition of what is correct.

Every other engine must reproduce, bit for bit, what this file computes. The operations and their
derivatives are those of Andrej Karpathy's ``microgpt.py``: ``-a`` is ``a * -1``, ``a - b`` is
``a + (-b)``, ``a / b`` is ``a * b**-1``. One thing is defined here that the original leaves to a
depth-first walk: ``backward`` visits nodes in the reverse of the order in which they were created.

This module imports nothing of the project.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import TypeAlias, Union

Operand: TypeAlias = Union["Value", float, int]

_creation = itertools.count()


class Value:
    """One scalar (binary64) of a computation, with the gradient of a later result by it.

    ``data`` is the number, ``grad`` the derivative of the result ``backward`` was called on by it,
    0.0 before. It adds up over all uses of a node; in nodes that are not computed from others it
    also adds up over several calls of ``backward``, until ``grad = 0.0`` is set.

    Raises ``TypeError`` for anything that is not a real number, ``ValueError`` where an operation
    has no real result, ``ZeroDivisionError`` and ``OverflowError`` as Python's floats do.
    """

    __slots__ = ("_children", "_local_grads", "_order", "data", "grad")

    def __init__(
        self,
        data: float,
        children: tuple[Value, ...] = (),
        local_grads: tuple[float, ...] = (),
    ) -> None:
        self.data = data if type(data) is float else _as_float(data)
        self.grad = 0.0
        self._children = children
        self._local_grads = local_grads
        self._order = next(_creation)

    # One primitive per line or two: the value and its local derivatives.

    def __add__(self, other: Operand) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        return Value(self.data + other.data, (self, other), (1.0, 1.0))

    def __mul__(self, other: Operand) -> Value:
        if not isinstance(other, Value):
            other = Value(other)
        return Value(self.data * other.data, (self, other), (other.data, self.data))

    def __pow__(self, exponent: float) -> Value:
        # As in microgpt.py the derivative is computed at once: 0.0 ** 0.5 is a ZeroDivisionError.
        if isinstance(exponent, Value) or not isinstance(exponent, Real):
            raise TypeError(f"the exponent of a Value must be a plain number, not {exponent!r}")
        power = self.data**exponent
        if isinstance(power, complex):
            raise ValueError(f"{self.data!r} ** {exponent!r} is not a real number")
        return Value(power, (self,), (exponent * self.data ** (exponent - 1),))

    def log(self) -> Value:
        """Natural logarithm. Raises ValueError for zero and negative numbers."""
        if self.data <= 0.0:
            raise ValueError(f"the logarithm of {self.data!r} is not a real number")
        return Value(math.log(self.data), (self,), (1.0 / self.data,))

    def exp(self) -> Value:
        """e to this power. Raises OverflowError above about 709.78."""
        power = math.exp(self.data)
        return Value(power, (self,), (power,))

    def relu(self) -> Value:
        """This number where it is positive, else 0.0 (with derivative 0.0, also at zero)."""
        positive = self.data > 0.0
        return Value(self.data if positive else 0.0, (self,), (1.0 if positive else 0.0,))

    # Everything else is made of these.

    def __neg__(self) -> Value:
        return self * -1.0

    def __sub__(self, other: Operand) -> Value:
        return self + (-other)

    def __truediv__(self, other: Operand) -> Value:
        return self * other**-1

    def __radd__(self, other: float) -> Value:
        return self + other

    def __rmul__(self, other: float) -> Value:
        return self * other

    def __rsub__(self, other: float) -> Value:
        return other + (-self)

    def __rtruediv__(self, other: float) -> Value:
        return other * self**-1

    def __repr__(self) -> str:
        return f"Value(data={self.data!r}, grad={self.grad!r})"

    @staticmethod
    def largest(values: Iterable[Value]) -> float:
        """The largest number among ``values``, as a constant: no gradient flows through it."""
        return max(value.data for value in values)

    def backward(self) -> None:
        """Give every node this one depends on, in ``grad``, the derivative of this node by it.

        Nodes are visited from the newest to the oldest, so a node is visited after everything that
        uses it, and its gradient is summed in one order that depends on nothing but the program.
        No recursion: graphs of millions of nodes are fine.
        """
        nodes = [self]
        seen = {self}
        for node in nodes:  # grows while it is read
            for child in node._children:
                if child not in seen:
                    seen.add(child)
                    nodes.append(child)
        nodes.sort(key=lambda node: node._order, reverse=True)
        for node in nodes:
            if node._children:
                node.grad = 0.0  # what an earlier call left has been passed on
        self.grad += 1.0
        for node in nodes:
            grad = node.grad
            for child, local_grad in zip(node._children, node._local_grads, strict=True):
                child.grad += local_grad * grad


def _as_float(data: object) -> float:
    if isinstance(data, Real) and not isinstance(data, bool):
        return float(data)
    raise TypeError(f"a Value holds a real number, not {data!r}")


@contextmanager
def collection_paused() -> Iterator[None]:
    """No cyclic garbage collection: graphs of Values have no cycles, and the search takes long."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
