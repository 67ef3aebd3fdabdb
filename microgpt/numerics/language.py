"""The small part of Python that kernels are written in, translated to LLVM's instructions.

What it has: whole numbers (int64), floats (binary64), vectors and pointers (``simd``); assignment,
``if``, ``while``, ``for ... in range``, conditional expressions, calls of other kernels, of
intrinsics and of a few functions of Python. A function is translated once for each set of types of
its arguments; a variable keeps the type of its first value. Tuples and whatever else is known
beforehand are constants: an ``if`` on them is decided here. Arrays are arguments of entries alone.

Longer than 300 lines because it is a list of what every kind of statement and expression becomes,
none of which is long.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeAlias

from llvmlite import ir

from microgpt.numerics.values import (
    BIT,
    DOUBLE,
    FUNCTIONS,
    INT64,
    Array,
    Builder,
    Inner,
    Intrinsic,
    KernelError,
    Value,
    known,
)

#: What tells apart the translations of one function.
Kind: TypeAlias = Any


class Module:
    """The translations that belong to one entry."""

    def __init__(self) -> None:
        self.ir = ir.Module()
        self._done: dict[Kind, Any] = {}

    def translated(self, function: Callable[..., Any], args: list[Value]) -> Any:
        """The translation for arguments of these types: an LLVM function."""
        key = (function, *map(kind_of, args))
        if key not in self._done:
            self._done[key] = Translation(self, function, args).function
        return self._done[key]


def kind_of(value: Value) -> Kind:
    """What an argument is to a translation: a type, or the constant itself."""
    if isinstance(value, Array):
        return "array", str(value.data.type)
    if isinstance(value, tuple):
        return value
    return str(value.type)


class Translation:
    """One function for one set of types of its arguments."""

    def __init__(self, module: Module, function: Callable[..., Any], args: list[Value]) -> None:
        source = textwrap.dedent(inspect.getsource(function))
        definition = ast.parse(source).body[0]
        if not isinstance(definition, ast.FunctionDef):
            raise KernelError(f"{function!r} is no function")
        self.module = module
        self.globals = inspect.unwrap(function).__globals__
        self.constants: dict[str, Value] = {}
        self.slots: dict[str, Value] = {}
        self.loops: list[tuple[ir.Block, ir.Block]] = []
        self._begin(function, [arg.arg for arg in definition.args.args], args)
        try:
            self._statements(definition.body)
        except KernelError as error:
            raise KernelError(f"{function.__name__}: {error}") from None
        self._finish()

    def _begin(self, function: Callable[..., Any], names: list[str], args: list[Value]) -> None:
        if len(names) != len(args):
            raise KernelError(f"{function.__name__} takes {len(names)} arguments, not {len(args)}")
        passed: list[tuple[str, Any]] = []
        for name, arg in zip(names, args, strict=True):
            passed += [(name, kind) for kind in types_of(arg)]
        number = len(self.module.ir.functions)
        kind = ir.FunctionType(ir.VoidType(), [kind for _, kind in passed])
        name = function.__name__ if number == 0 else f"{function.__name__}.{number}"
        self.function = ir.Function(self.module.ir, kind, name)
        self.function.attributes.add("nounwind")
        if number:
            self.function.linkage = "internal"
        if any(isinstance(kind, ir.VectorType) for _, kind in passed):
            self.function.attributes.add("alwaysinline")
        self.top = Builder(self.function.append_basic_block("top"))
        self.builder = Builder(self.function.append_basic_block("body"))
        self.end = self.function.append_basic_block("end")
        self.result: Any = None
        given = iter(self.function.args)
        for name, arg in zip(names, args, strict=True):
            if isinstance(arg, tuple):
                self.constants[name] = arg
            elif isinstance(arg, Array):
                self.constants[name] = Array(next(given), next(given))
            else:
                self._assign(name, next(given))

    def _finish(self) -> None:
        first = self.function.basic_blocks[1]
        self.top.branch(first)
        if not self.builder.block.is_terminated:
            self.builder.branch(self.end)
        end = Builder(self.end)
        if self.result is None:
            end.ret_void()
            return
        end.ret(end.load(self.result))
        kind = self.result.type.pointee
        vectors = kind.elements if isinstance(kind, ir.LiteralStructType) else [kind]
        if any(isinstance(vector, ir.VectorType) for vector in vectors):
            self.function.attributes.add("alwaysinline")
        # Known only now: what type the function has.
        self.function.ftype = ir.FunctionType(kind, self.function.ftype.args)
        self.function.type = self.function.ftype.as_pointer()
        self.function.return_value = ir.ReturnValue(self.function, kind)

    # Statements

    def _statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if self.builder.block.is_terminated:
                return
            name = f"_do_{type(statement).__name__.lower()}"
            if not hasattr(self, name):
                raise KernelError(f"line {statement.lineno}: no {type(statement).__name__}")
            getattr(self, name)(statement)

    def _do_pass(self, statement: ast.Pass) -> None:
        """Nothing."""

    def _do_expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):  # a docstring
            self.evaluate(statement.value)

    def _do_assign(self, statement: ast.Assign) -> None:
        value = self.evaluate(statement.value)
        for target in statement.targets:
            self._store(target, value)

    def _do_annassign(self, statement: ast.AnnAssign) -> None:
        if statement.value is not None:
            self._store(statement.target, self.evaluate(statement.value))

    def _do_augassign(self, statement: ast.AugAssign) -> None:
        target = statement.target
        if isinstance(target, ast.Subscript):
            address = self._address(target)
            old = self.builder.fetched(address)
            value = self.builder.operation(type(statement.op), old, self.evaluate(statement.value))
            self.builder.put(value, address)
        else:
            old = self._read(target.id)  # type: ignore[union-attr]  # nor an attribute
            new = self.evaluate(statement.value)
            self._store(target, self.builder.operation(type(statement.op), old, new))

    def _store(self, target: ast.expr, value: Value) -> None:
        if isinstance(target, ast.Name):
            self._assign(target.id, value)
        elif isinstance(target, ast.Subscript):
            self.builder.put(value, self._address(target))
        elif isinstance(target, ast.Tuple):
            for each, part in zip(target.elts, value, strict=True):
                self._store(each, part)
        else:
            raise KernelError(f"line {target.lineno}: cannot assign to {ast.unparse(target)}")

    def _assign(self, name: str, value: Value) -> None:
        value = self.builder.value(value)
        if name not in self.slots:
            kind = INT64 if value.type == BIT else value.type
            self.slots[name] = self.top.alloca(kind, name=name)
        kind = self.slots[name].type.pointee
        if kind == DOUBLE:
            value = self.builder.real(value)
        elif kind == INT64:
            value = self.builder.whole(value)
        if value.type != kind:
            raise KernelError(f"{name} is of type {kind}, not {value.type}")
        self.builder.store(value, self.slots[name])

    def _do_return(self, statement: ast.Return) -> None:
        if statement.value is not None:
            self._return(self.evaluate(statement.value))
        self.builder.branch(self.end)

    def _return(self, value: Value) -> None:
        if isinstance(value, tuple):
            parts = [self.builder.value(part) for part in value]
            value = ir.Constant(ir.LiteralStructType([part.type for part in parts]), ir.Undefined)
            for i, part in enumerate(parts):
                value = self.builder.insert_value(value, part, i)
        value = self.builder.value(value)
        if value.type == BIT:
            value = self.builder.whole(value)
        if self.result is None:
            self.result = self.top.alloca(value.type)
        self.builder.store(value, self.result)

    def _do_if(self, statement: ast.If) -> None:
        condition = self.evaluate(statement.test)
        if known(condition):
            self._statements(statement.body if condition else statement.orelse)
            return
        yes, no, after = (self.function.append_basic_block(n) for n in ("yes", "no", "after"))
        self.builder.cbranch(self.builder.bit(condition), yes, no)
        for block, body in ((yes, statement.body), (no, statement.orelse)):
            self.builder.position_at_end(block)
            self._statements(body)
            if not self.builder.block.is_terminated:
                self.builder.branch(after)
        self.builder.position_at_end(after)

    def _do_while(self, statement: ast.While) -> None:
        head, body, after = (self.function.append_basic_block(n) for n in ("while", "do", "done"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        self.builder.cbranch(self.builder.bit(self.evaluate(statement.test)), body, after)
        self._loop(body, statement.body, head, after)

    def _do_for(self, statement: ast.For) -> None:
        call, target = statement.iter, statement.target
        if not isinstance(call, ast.Call) or self.evaluate(call.func) is not range:
            raise KernelError(f"line {statement.lineno}: a loop is over a range")
        if not isinstance(target, ast.Name):
            raise KernelError(f"line {statement.lineno}: a loop has one variable")
        args = [self.evaluate(arg) for arg in call.args]
        first, last = (0, args[0]) if len(args) == 1 else args[:2]
        step = args[2] if len(args) == 3 else 1
        if not known(step):
            raise KernelError(f"line {statement.lineno}: a step is known beforehand")
        last = self.builder.whole(last)
        counter = self.top.alloca(INT64)
        self.builder.store(self.builder.whole(first), counter)
        names = ("for", "do", "next", "done")
        head, body, following, after = (self.function.append_basic_block(n) for n in names)
        self.builder.branch(head)
        self.builder.position_at_end(head)
        now = self.builder.load(counter)
        more = self.builder.icmp_signed("<" if step > 0 else ">", now, last)
        self.builder.cbranch(more, body, after)
        self.builder.position_at_end(body)
        self._assign(target.id, now)
        self._loop(body, statement.body, following, after)
        self.builder.position_at_end(following)
        new = self.builder.add(self.builder.load(counter), INT64(step), flags=("nsw",))
        self.builder.store(new, counter)
        self.builder.branch(head)
        self.builder.position_at_end(after)

    def _loop(
        self, body: ir.Block, statements: list[ast.stmt], again: ir.Block, after: ir.Block
    ) -> None:
        self.loops.append((again, after))
        self.builder.position_at_end(body)
        self._statements(statements)
        if not self.builder.block.is_terminated:
            self.builder.branch(again)
        self.loops.pop()
        self.builder.position_at_end(after)

    def _do_continue(self, statement: ast.Continue) -> None:
        self.builder.branch(self.loops[-1][0])

    def _do_break(self, statement: ast.Break) -> None:
        self.builder.branch(self.loops[-1][1])

    # Expressions

    def evaluate(self, node: ast.expr) -> Value:
        """The value of an expression."""
        name = f"_{type(node).__name__.lower()}"
        if not hasattr(self, name):
            raise KernelError(f"line {node.lineno}: no {type(node).__name__}")
        return getattr(self, name)(node)

    def _constant(self, node: ast.Constant) -> Value:
        return node.value

    def _name(self, node: ast.Name) -> Value:
        return self._read(node.id)

    def _read(self, name: str) -> Value:
        if name in self.constants:
            return self.constants[name]
        if name in self.slots:
            return self.builder.load(self.slots[name])
        if name in self.globals:
            return self.globals[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        raise KernelError(f"{name} has no value")

    def _attribute(self, node: ast.Attribute) -> Value:
        return getattr(self.evaluate(node.value), node.attr)

    def _tuple(self, node: ast.Tuple) -> Value:
        return tuple(self.evaluate(part) for part in node.elts)

    def _subscript(self, node: ast.Subscript) -> Value:
        return self.builder.fetched(self._address(node))

    def _address(self, node: ast.Subscript) -> Value:
        base = self.evaluate(node.value)
        base = base.data if isinstance(base, Array) else base
        return self.builder.gep(base, [self.builder.whole(self.evaluate(node.slice))])

    def _binop(self, node: ast.BinOp) -> Value:
        a, b = self.evaluate(node.left), self.evaluate(node.right)
        return self.builder.operation(type(node.op), a, b)

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        value = self.evaluate(node.operand)
        if isinstance(node.op, ast.Not):
            return not value if known(value) else self.builder.not_(self.builder.bit(value))
        if isinstance(node.op, ast.USub):
            if known(value):
                return -value
            return self.builder.neg(value) if value.type == INT64 else self.builder.fneg(value)
        return ~value if known(value) else self.builder.not_(self.builder.whole(value))

    def _compare(self, node: ast.Compare) -> Value:
        values = [self.evaluate(part) for part in (node.left, *node.comparators)]
        if len(values) != 2:
            raise KernelError(f"line {node.lineno}: one comparison at a time")
        return self.builder.compared(type(node.ops[0]), *values)

    def _boolop(self, node: ast.BoolOp) -> Value:
        first, *rest = node.values
        left = self.evaluate(first)
        decided = isinstance(node.op, ast.Or)  # what ``left`` is if the rest does not matter
        for part in rest:
            if known(left):
                left = left if bool(left) is decided else self.evaluate(part)
                continue
            left = self._either(
                self.builder.bit(left),
                lambda: BIT(1) if decided else self.builder.bit(self.evaluate(part)),  # noqa: B023  # called at once
                lambda: self.builder.bit(self.evaluate(part)) if decided else BIT(0),  # noqa: B023
            )
        return left

    def _ifexp(self, node: ast.IfExp) -> Value:
        condition = self.evaluate(node.test)
        if known(condition):
            return self.evaluate(node.body if condition else node.orelse)
        return self._either(
            self.builder.bit(condition),
            lambda: self.builder.value(self.evaluate(node.body)),
            lambda: self.builder.value(self.evaluate(node.orelse)),
        )

    def _either(self, condition: Value, yes: Callable[[], Value], no: Callable[[], Value]) -> Value:
        """One of two values; the other one is not computed."""
        after = self.function.append_basic_block("after")
        blocks = [self.function.append_basic_block(name) for name in ("yes", "no")]
        self.builder.cbranch(condition, *blocks)
        found = []
        for block, compute in zip(blocks, (yes, no), strict=True):
            self.builder.position_at_end(block)
            found.append([compute(), self.builder.block])
        if found[0][0].type != found[1][0].type:
            for entry in found:
                self.builder.position_at_end(entry[1])
                entry[0] = self.builder.real(entry[0])
        for _, block in found:
            self.builder.position_at_end(block)
            self.builder.branch(after)
        self.builder.position_at_end(after)
        phi = self.builder.phi(found[0][0].type)
        for value, block in found:
            phi.add_incoming(value, block)
        return phi

    def _call(self, node: ast.Call) -> Value:
        function = self.evaluate(node.func)
        if node.keywords:
            raise KernelError(f"line {node.lineno}: no arguments by name")
        args = [self.evaluate(arg) for arg in node.args]
        if isinstance(function, Intrinsic):
            return function.definition(self.builder, *args)
        if isinstance(function, Inner):
            return self._called(function.function, args)
        if function in FUNCTIONS:
            return FUNCTIONS[function](self.builder, *args)
        raise KernelError(f"line {node.lineno}: {ast.unparse(node.func)} is no kernel")

    def _called(self, function: Callable[..., Any], args: list[Value]) -> Value:
        args = [arg if isinstance(arg, (tuple, Array)) else self.builder.value(arg) for arg in args]
        args = [
            self.builder.whole(arg) if getattr(arg, "type", None) == BIT else arg for arg in args
        ]
        translated = self.module.translated(function, args)
        passed: list[Value] = []
        for arg in args:
            if isinstance(arg, Array):
                passed += [arg.data, arg.size]
            elif not isinstance(arg, tuple):
                passed.append(arg)
        result = self.builder.call(translated, passed)
        if isinstance(result.type, ir.LiteralStructType):
            count = len(result.type.elements)
            return tuple(self.builder.extract_value(result, i) for i in range(count))
        return result


def types_of(arg: Value) -> list[Any]:
    """The types of LLVM that an argument is passed as."""
    if isinstance(arg, Array):
        return [arg.data.type, INT64]
    return [] if isinstance(arg, tuple) else [arg.type]
