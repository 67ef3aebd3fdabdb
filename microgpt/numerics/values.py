"""Values of kernels, and the instructions of LLVM that compute with them.

``language`` translates functions; this is what their parts become. A value is one of LLVM or known
beforehand. Nothing is checked at run time, and nothing is reordered: every ``+`` and ``*`` of
floats is one IEEE-754 operation.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from llvmlite import ir

DOUBLE, INT64, INT32, BIT = ir.DoubleType(), ir.IntType(64), ir.IntType(32), ir.IntType(1)

#: A value of LLVM, or what is known beforehand: a number, a tuple, a function, an ``Array``.
Value: TypeAlias = Any


class KernelError(TypeError):
    """A kernel uses what its language does not have: a mistake of the programmer."""


@dataclass(frozen=True)
class Array:
    """An argument of an entry: the address of its numbers, and how many there are."""

    data: Value
    size: Value


class Inner:
    """A function that only other kernels call."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__


class Intrinsic:
    """Writes instructions itself: ``definition(builder, *values)`` returns a value."""

    def __init__(self, definition: Callable[..., Value]) -> None:
        self.definition = definition
        self.__doc__ = definition.__doc__


#: What functions of Python become; ``simd`` and ``libm`` add to it.
FUNCTIONS: dict[Any, Callable[..., Value]] = {}

COMPARISONS = {
    ast.Eq: ("==", operator.eq), ast.NotEq: ("!=", operator.ne), ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le), ast.Gt: (">", operator.gt), ast.GtE: (">=", operator.ge),
}  # fmt: skip
OPERATIONS: dict[type[ast.AST], tuple[str, str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", "fadd", operator.add), ast.Sub: ("sub", "fsub", operator.sub),
    ast.Mult: ("mul", "fmul", operator.mul), ast.Div: ("", "fdiv", operator.truediv),
    ast.BitAnd: ("and_", "", operator.and_), ast.BitOr: ("or_", "", operator.or_),
    ast.BitXor: ("xor", "", operator.xor), ast.LShift: ("shl", "", operator.lshift),
    ast.RShift: ("ashr", "", operator.rshift),
}  # fmt: skip


def known(value: Value) -> bool:
    """Whether a value is known beforehand."""
    return not isinstance(value, ir.Value)


class Builder(ir.IRBuilder):  # type: ignore[misc]  # llvmlite has no types
    """LLVM's builder, with the conversions and accesses that kernels need."""

    def __init__(self, block: ir.Block) -> None:
        super().__init__(block)
        root = block.module.add_metadata(["kernels"])
        self.access = {}
        for name in ("numbers", "integers"):  # stores of one leave the others as they are
            kind = block.module.add_metadata([name, root])
            self.access[name] = block.module.add_metadata([kind, kind, INT64(0)])

    def whole(self, value: Value) -> Value:
        """As int64."""
        if known(value):
            return INT64(int(value))
        if value.type == BIT:
            return self.zext(value, INT64)
        if value.type != INT64:
            raise KernelError(f"{value.type} is no whole number")
        return value

    def real(self, value: Value) -> Value:
        """As binary64."""
        if known(value):
            return DOUBLE(float(value))
        return value if value.type == DOUBLE else self.sitofp(self.whole(value), DOUBLE)

    def value(self, value: Value) -> Value:
        """As a value of LLVM."""
        if known(value):
            return self.real(value) if isinstance(value, float) else self.whole(value)
        return value

    def bit(self, value: Value) -> Value:
        """As a truth value."""
        if known(value):
            return BIT(int(bool(value)))
        if value.type == DOUBLE:
            return self.fcmp_unordered("!=", value, DOUBLE(0.0))
        return value if value.type == BIT else self.icmp_signed("!=", value, value.type(0))

    def fetched(self, address: Value, align: int | None = None) -> Value:
        """What stands at an address."""
        instruction = self.load(address, align=align)
        instruction.set_metadata("tbaa", self._access(instruction.type))
        return self.sext(instruction, INT64) if instruction.type == INT32 else instruction

    def put(self, value: Value, address: Value, align: int | None = None) -> None:
        """Write to an address."""
        kind = address.type.pointee
        if kind == DOUBLE:
            value = self.real(value)
        elif isinstance(kind, ir.IntType):
            value = self.whole(value)
            value = self.trunc(value, kind) if kind != INT64 else value
        self.store(value, address, align=align).set_metadata("tbaa", self._access(kind))

    def _access(self, kind: Any) -> Any:
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        return self.access["numbers" if element == DOUBLE else "integers"]

    def operation(self, kind: type[ast.AST], a: Value, b: Value) -> Value:
        """``a kind b``; numbers of different types become floats."""
        if kind is ast.Pow:
            return FUNCTIONS[pow](self, a, b)
        if kind is ast.FloorDiv:
            return self.divided(a, b)
        if kind not in OPERATIONS:
            raise KernelError(f"no operation {kind.__name__}")
        whole, real, python = OPERATIONS[kind]
        if known(a) and known(b):
            return python(a, b)
        a, b = self.value(a), self.value(b)
        vector = isinstance(a.type, ir.VectorType)
        if vector or DOUBLE in (a.type, b.type) or not whole:
            if vector and a.type != b.type:
                raise KernelError(f"{a.type} and {b.type} do not go together")
            if not real:
                raise KernelError(f"no {kind.__name__} of floats")
            pair = (a, b) if vector else (self.real(a), self.real(b))
            return getattr(self, real)(*pair)
        return getattr(self, whole)(self.whole(a), self.whole(b))

    def divided(self, a: Value, b: Value) -> Value:
        """``a // b`` for whole numbers, where ``b`` is a power of two known beforehand."""
        if known(a) and known(b):
            return a // b
        if not known(b) or b < 1 or b & (b - 1):
            raise KernelError("// takes a power of two that is known beforehand")
        return self.ashr(self.whole(a), INT64(b.bit_length() - 1))

    def compared(self, kind: type[ast.AST], a: Value, b: Value) -> Value:
        """A comparison."""
        sign, python = COMPARISONS[kind]  # type: ignore[index]  # else KeyError: no such thing
        if known(a) and known(b):
            return python(a, b)
        a, b = self.value(a), self.value(b)
        if DOUBLE in (a.type, b.type):
            ordered = self.fcmp_unordered if sign == "!=" else self.fcmp_ordered
            return ordered(sign, self.real(a), self.real(b))
        return self.icmp_signed(sign, self.whole(a), self.whole(b))


def _len(builder: Builder, value: Value) -> Value:
    return value.size if isinstance(value, Array) else len(value)


def _smaller(builder: Builder, a: Value, b: Value) -> Value:
    a, b = builder.whole(a), builder.whole(b)
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _larger(builder: Builder, a: Value, b: Value) -> Value:
    a, b = builder.whole(a), builder.whole(b)
    return builder.select(builder.icmp_signed(">", a, b), a, b)


FUNCTIONS.update({len: _len, min: _smaller, max: _larger, int: Builder.whole, float: Builder.real})
