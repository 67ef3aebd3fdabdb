"""Vectors of binary64 in a register, for numba: explicit SIMD with exactly the operations written.

A function that works on vectors takes ``lanes``, a tuple of zeros whose length is the number of
lanes; numba compiles the function once per length. Pointers replace arrays, because the checks of
array indexing cost more than the arithmetic: callers must have validated every index.

No operation here may be contracted or reordered: all of them are single IEEE-754 operations.
This module must not import ``microgpt.engine``.

Longer than 300 lines because it is a flat list of instructions, none of which is long.
"""

from __future__ import annotations

import operator
from typing import Any

import numba.core.cgutils
import numba.core.types
import numba.core.typing.templates
import numba.extending
from llvmlite import ir

# numba makes most of its names at run time: to a type checker they are opaque.
cgutils: Any = numba.core.cgutils
types: Any = numba.core.types
templates: Any = numba.core.typing.templates
extending: Any = numba.extending


def intrinsic(definition: Any) -> Any:
    """A function of compiled code for which the definition writes LLVM's instructions."""
    return extending.intrinsic(definition)


DOUBLE = ir.DoubleType()
INT64 = ir.IntType(64)


class VectorType(types.Type):  # type: ignore[misc]
    """``count`` numbers of binary64."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(name=f"Vector({count})")


@extending.register_model(VectorType)
class _VectorModel(extending.models.PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: VectorType) -> None:
        super().__init__(manager, kind, ir.VectorType(DOUBLE, kind.count))


def _same_vectors(args: Any) -> Any:
    if len(args) == 2 and isinstance(args[0], VectorType) and args[0] == args[1]:
        return templates.signature(args[0], *args)
    return None


for _operator, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):

    @templates.infer_global(_operator)
    class _Typing(templates.AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            return _same_vectors(args)

    def _lowering(context: Any, builder: Any, sig: Any, args: Any, method: str = _method) -> Any:
        return getattr(builder, method)(*args)

    extending.lower_builtin(_operator, VectorType, VectorType)(_lowering)


@intrinsic
def pointer(typingctx: Any, array: Any) -> Any:
    """Pointer to the first number of a contiguous array."""
    sig = types.CPointer(array.dtype)(array)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_array(sig.args[0])(context, builder, args[0]).data

    return sig, codegen


@intrinsic
def offset(typingctx: Any, base: Any, count: Any) -> Any:
    """Pointer ``count`` numbers further on."""
    if not isinstance(count, types.Integer):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index = context.cast(builder, args[1], sig.args[1], types.int64)
        return builder.gep(args[0], [index])

    return base(base, count), codegen


def _vector_address(context: Any, builder: Any, sig: Any, args: Any, count: int) -> Any:
    """Address of vector number ``args[1]`` after the pointer ``args[0]``."""
    index = context.cast(builder, args[1], sig.args[1], types.int64)
    address = builder.gep(args[0], [builder.mul(index, INT64(count))])
    return builder.bitcast(address, ir.VectorType(DOUBLE, count).as_pointer())


@intrinsic
def load(typingctx: Any, base: Any, index: Any, lanes: Any) -> Any:
    """Vector number ``index`` after the pointer."""
    sig = VectorType(lanes.count)(base, index, lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _vector_address(context, builder, sig, args, sig.args[2].count)
        return builder.load(address, align=8)

    return sig, codegen


@intrinsic
def store(typingctx: Any, base: Any, index: Any, vector: Any) -> Any:
    """Write vector number ``index`` after the pointer."""
    sig = types.void(base, index, vector)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address = _vector_address(context, builder, sig, args, sig.args[2].count)
        builder.store(args[2], address, align=8)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def splat(typingctx: Any, number: Any, lanes: Any) -> Any:
    """The number in every lane."""
    sig = VectorType(lanes.count)(types.float64, lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat(builder, args[0], sig.return_type.count)

    return sig, codegen


def _splat(builder: Any, number: Any, count: int) -> Any:
    vector = ir.Constant(ir.VectorType(DOUBLE, count), ir.Undefined)
    vector = builder.insert_element(vector, number, ir.IntType(32)(0))
    mask = ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count)
    return builder.shuffle_vector(vector, vector, mask)


@intrinsic
def where_greater(typingctx: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Lane by lane ``yes if a > b else no``."""
    sig = a(a, b, yes, no)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], args[3])

    return sig, codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """``a * b + c`` rounded once. For remainders that are tested, never for results."""
    sig = a(a, b, c)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fused(builder, *args)

    return sig, codegen


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """LLVM's fused multiply-add of vectors."""
    return _llvm(builder, "llvm.fma", a, b, c)


def _llvm(builder: Any, name: str, *vectors: Any) -> Any:
    """Call one of LLVM's functions of vectors to a vector of the same length."""
    kind = vectors[0].type
    function = ir.FunctionType(kind, [kind] * len(vectors))
    declared = cgutils.get_or_insert_function(builder.module, function, f"{name}.v{kind.count}f64")
    return builder.call(declared, vectors)


@intrinsic
def sqrt(typingctx: Any, a: Any) -> Any:
    """Square root of every lane, correctly rounded."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _llvm(builder, "llvm.sqrt", args[0])

    return a(a), codegen


@intrinsic
def zeros(typingctx: Any, a: Any) -> Any:
    """Bits of the lanes that hold +0.0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        longs = ir.VectorType(INT64, args[0].type.count)
        bits = builder.bitcast(args[0], longs)
        same = builder.icmp_unsigned("==", bits, ir.Constant(longs, [0] * longs.count))
        return builder.zext(builder.bitcast(same, ir.IntType(longs.count)), INT64)

    return types.int64(a), codegen


@intrinsic
def not_finite(typingctx: Any, a: Any) -> Any:
    """1 if a lane is infinite or NaN, else 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        rest = builder.fsub(args[0], args[0])  # 0, or NaN for what is not finite
        wrong = builder.fcmp_unordered("uno", rest, ir.Constant(kind, [0.0] * kind.count))
        bits = builder.bitcast(wrong, ir.IntType(kind.count))
        some = builder.icmp_unsigned("!=", bits, ir.IntType(kind.count)(0))
        return builder.zext(some, INT64)

    return types.int64(a), codegen


@intrinsic
def gather(typingctx: Any, base: Any, indices: Any, lanes: Any) -> Any:
    """Numbers at the indices that the second pointer points to, one per lane."""
    sig = VectorType(lanes.count)(base, indices, lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = sig.return_type.count
        vector = ir.Constant(ir.VectorType(DOUBLE, count), ir.Undefined)
        for lane in range(count):
            index = builder.load(builder.gep(args[1], [INT64(lane)]))
            number = builder.load(builder.gep(args[0], [builder.sext(index, INT64)]))
            vector = builder.insert_element(vector, number, ir.IntType(32)(lane))
        return vector

    return sig, codegen


@intrinsic
def scatter(typingctx: Any, base: Any, indices: Any, vector: Any) -> Any:
    """Write one number per lane at the indices that the second pointer points to."""
    sig = types.void(base, indices, vector)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for lane in range(sig.args[2].count):
            index = builder.load(builder.gep(args[1], [INT64(lane)]))
            number = builder.extract_element(args[2], ir.IntType(32)(lane))
            builder.store(number, builder.gep(args[0], [builder.sext(index, INT64)]))
        return context.get_dummy_value()

    return sig, codegen


def _shuffled(builder: Any, a: Any, b: Any, picks: list[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(picks)), picks)
    return builder.shuffle_vector(a, b, mask)


@intrinsic
def transpose(typingctx: Any, base: Any, slots: Any, target: Any, rows: Any, lanes: Any) -> Any:
    """Write eight slots of memory as rows: lane ``l`` to ``target + rows[l]``.

    ``slots``: pointer to eight slot numbers; ``rows``: pointer to one int64 per lane.
    """
    sig = types.void(base, slots, target, rows, lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        count = sig.args[4].count
        vectors = []
        for i in range(8):
            slot = builder.sext(builder.load(builder.gep(args[1], [INT64(i)])), INT64)
            address = builder.gep(args[0], [builder.mul(slot, INT64(count))])
            address = builder.bitcast(address, ir.VectorType(DOUBLE, count).as_pointer())
            vectors.append(builder.load(address, align=8))
        for lane, row in enumerate(_columns(builder, vectors, count)):
            place = builder.load(builder.gep(args[3], [INT64(lane)]))
            address = builder.gep(args[2], [place])
            address = builder.bitcast(address, row.type.as_pointer())
            builder.store(row, address, align=8)
        return context.get_dummy_value()

    return sig, codegen


def _columns(builder: Any, vectors: list[Any], count: int) -> list[Any]:
    """The columns of eight vectors, as vectors of eight: halves are joined, then interleaved."""
    if count == 1:
        column = ir.Constant(ir.VectorType(DOUBLE, 8), ir.Undefined)
        for i, vector in enumerate(vectors):
            number = builder.extract_element(vector, ir.IntType(32)(0))
            column = builder.insert_element(column, number, ir.IntType(32)(i))
        return [column]
    if count > 8:
        left = [_shuffled(builder, v, v, list(range(count // 2))) for v in vectors]
        right = [_shuffled(builder, v, v, list(range(count // 2, count))) for v in vectors]
        return _columns(builder, left, count // 2) + _columns(builder, right, count // 2)
    # Three rounds exchange the bit of the lane number with the bit of the vector number.
    for bit in (1, 2, 4):
        swapped = list(vectors)
        for i in range(8):
            if not i & bit:
                low = [k if not k & bit else 8 + k - bit for k in range(8)]
                high = [k + bit if not k & bit else 8 + k for k in range(8)]
                swapped[i] = _shuffled(builder, vectors[i], vectors[i + bit], low)
                swapped[i + bit] = _shuffled(builder, vectors[i], vectors[i + bit], high)
        vectors = swapped
    return vectors


__all__ = [
    "fma",
    "fused",
    "gather",
    "load",
    "not_finite",
    "offset",
    "pointer",
    "scatter",
    "splat",
    "sqrt",
    "store",
    "transpose",
    "where_greater",
    "zeros",
]
