"""Vectors of binary64 in a register: explicit SIMD with exactly the operations written.

A function that works on vectors takes ``lanes``, a tuple of zeros whose length is the number of
lanes. Pointers replace arrays: callers must have validated every index.

No operation here may be contracted or reordered: all of them are single IEEE-754 operations.
This module must not import ``microgpt.engine``.

Longer than 300 lines because it is a flat list of instructions, none of which is long.
"""

from __future__ import annotations

import math
from typing import Any

from llvmlite import ir

from microgpt.numerics.values import (
    BIT,
    DOUBLE,
    FUNCTIONS,
    INT32,
    INT64,
    Builder,
    Intrinsic,
    Value,
)

Lanes = Any


def intrinsic(definition: Any) -> Any:
    """A function of kernels for which the definition writes LLVM's instructions."""
    return Intrinsic(definition)


def vector_type(count: int) -> Any:
    """The type of ``count`` numbers in a register."""
    return ir.VectorType(DOUBLE, count)


@intrinsic
def pointer(builder: Builder, array: Value) -> Value:
    """Pointer to the first number of an array."""
    return array.data


@intrinsic
def numbers_at(builder: Builder, address: Value) -> Value:
    """Pointer to numbers of binary64 at an address, a whole number."""
    return builder.inttoptr(builder.whole(address), DOUBLE.as_pointer())


@intrinsic
def integers_at(builder: Builder, address: Value) -> Value:
    """Pointer to numbers of int32 at an address."""
    return builder.inttoptr(builder.whole(address), INT32.as_pointer())


@intrinsic
def longs_at(builder: Builder, address: Value) -> Value:
    """Pointer to numbers of int64 at an address."""
    return builder.inttoptr(builder.whole(address), INT64.as_pointer())


@intrinsic
def as_integers(builder: Builder, base: Value) -> Value:
    """The pointer as one to numbers of int32; others at the same place are to be left alone."""
    return builder.bitcast(base, INT32.as_pointer())


@intrinsic
def offset(builder: Builder, base: Value, count: Value) -> Value:
    """Pointer ``count`` numbers further on."""
    return builder.gep(base, [builder.whole(count)])


def vector_address(builder: Builder, base: Value, index: Value, count: int) -> Value:
    """Address of vector number ``index`` after the pointer ``base``."""
    place = builder.mul(builder.whole(index), INT64(count), flags=("nsw",))
    return builder.bitcast(builder.gep(base, [place]), vector_type(count).as_pointer())


@intrinsic
def load(builder: Builder, base: Value, index: Value, lanes: Lanes) -> Value:
    """Vector number ``index`` after the pointer."""
    return builder.fetched(vector_address(builder, base, index, len(lanes)), align=8)


@intrinsic
def store(builder: Builder, base: Value, index: Value, vector: Value) -> None:
    """Write vector number ``index`` after the pointer."""
    builder.put(vector, vector_address(builder, base, index, vector.type.count), align=8)


@intrinsic
def splat(builder: Builder, number: Value, lanes: Lanes) -> Value:
    """The number in every lane."""
    count = len(lanes)
    vector = ir.Constant(vector_type(count), ir.Undefined)
    vector = builder.insert_element(vector, builder.real(number), INT32(0))
    mask = ir.Constant(ir.VectorType(INT32, count), [0] * count)
    return builder.shuffle_vector(vector, vector, mask)


@intrinsic
def where_greater(builder: Builder, a: Value, b: Value, yes: Value, no: Value) -> Value:
    """Lane by lane ``yes if a > b else no``."""
    return builder.select(builder.fcmp_ordered(">", a, b), yes, no)


@intrinsic
def fma(builder: Builder, a: Value, b: Value, c: Value) -> Value:
    """``a * b + c`` rounded once. For remainders that are tested, never for results."""
    return fused(builder, a, b, c)


def fused(builder: Builder, a: Value, b: Value, c: Value) -> Value:
    """LLVM's fused multiply-add of vectors."""
    return llvm(builder, f"llvm.fma.v{a.type.count}f64", a, b, c)


def llvm(builder: Builder, name: str, *values: Value) -> Value:
    """Call a function that returns what its first argument is."""
    kind = ir.FunctionType(values[0].type, [value.type for value in values])
    declared = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(declared, values)


@intrinsic
def sqrt(builder: Builder, a: Value) -> Value:
    """Square root of every lane, correctly rounded."""
    return llvm(builder, f"llvm.sqrt.v{a.type.count}f64", a)


@intrinsic
def zeros(builder: Builder, a: Value) -> Value:
    """Bits of the lanes that hold +0.0."""
    longs = ir.VectorType(INT64, a.type.count)
    same = builder.icmp_unsigned("==", builder.bitcast(a, longs), ir.Constant(longs, None))
    return mask_of(builder, same)


def mask_of(builder: Builder, lanes: Value) -> Value:
    """A vector of truth values as the bits of an int64."""
    return builder.zext(builder.bitcast(lanes, ir.IntType(lanes.type.count)), INT64)


@intrinsic
def lowest_bit(builder: Builder, bits: Value) -> Value:
    """Place of the lowest bit that is set; there must be one."""
    return _counted(builder, "llvm.cttz.i64", bits)


@intrinsic
def highest_bit(builder: Builder, bits: Value) -> Value:
    """Place of the highest bit that is set; there must be one."""
    return builder.sub(INT64(63), _counted(builder, "llvm.ctlz.i64", bits))


def _counted(builder: Builder, name: str, bits: Value) -> Value:
    kind = ir.FunctionType(INT64, [INT64, BIT])
    declared = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
    return builder.call(declared, [builder.whole(bits), BIT(1)])


def magnitude(builder: Builder, a: Value) -> Value:
    """Every lane without its sign."""
    return llvm(builder, f"llvm.fabs.v{a.type.count}f64", a)


@intrinsic
def not_finite(builder: Builder, a: Value) -> Value:
    """1 if a lane is infinite or NaN, else 0."""
    rest = builder.fsub(a, a)  # 0, or NaN for what is not finite
    wrong = builder.fcmp_unordered("uno", rest, ir.Constant(a.type, None))
    some = builder.icmp_unsigned("!=", mask_of(builder, wrong), INT64(0))
    return builder.zext(some, INT64)


@intrinsic
def gather(builder: Builder, base: Value, indices: Value, lanes: Lanes) -> Value:
    """Numbers at the indices that the second pointer points to, one per lane."""
    vector = ir.Constant(vector_type(len(lanes)), ir.Undefined)
    for lane in range(len(lanes)):
        index = builder.fetched(builder.gep(indices, [INT64(lane)]))
        number = builder.fetched(builder.gep(base, [index]))
        vector = builder.insert_element(vector, number, INT32(lane))
    return vector


@intrinsic
def scatter(builder: Builder, base: Value, indices: Value, vector: Value) -> None:
    """Write one number per lane at the indices that the second pointer points to."""
    for lane in range(vector.type.count):
        index = builder.fetched(builder.gep(indices, [INT64(lane)]))
        builder.put(builder.extract_element(vector, INT32(lane)), builder.gep(base, [index]))


def shuffled(builder: Builder, a: Value, b: Value, picks: list[int]) -> Value:
    """Lanes of two vectors, those of ``b`` counted on from those of ``a``."""
    mask = ir.Constant(ir.VectorType(INT32, len(picks)), picks)
    return builder.shuffle_vector(a, b, mask)


@intrinsic
def transpose(
    builder: Builder, base: Value, slots: Value, target: Value, rows: Value, lanes: Lanes
) -> None:
    """Write eight slots of memory as rows: lane ``l`` to ``target + rows[l]``.

    ``slots``: pointer to eight slot numbers; ``rows``: pointer to one int64 per lane.
    """
    vectors = []
    for i in range(8):
        slot = builder.fetched(builder.gep(slots, [INT64(i)]))
        address = vector_address(builder, base, slot, len(lanes))
        vectors.append(builder.fetched(address, align=8))
    for lane, row in enumerate(_columns(builder, vectors, len(lanes))):
        place = builder.fetched(builder.gep(rows, [INT64(lane)]))
        address = builder.gep(target, [place])
        builder.put(row, builder.bitcast(address, row.type.as_pointer()), align=8)


@intrinsic
def turn(builder: Builder, base: Value, starts: Value, target: Value) -> None:
    """Write eight rows of eight numbers as columns, one after the other.

    ``starts``: pointer to where the rows begin after ``base``.
    """
    vectors = []
    for i in range(8):
        start = builder.fetched(builder.gep(starts, [INT64(i)]))
        address = builder.bitcast(builder.gep(base, [start]), vector_type(8).as_pointer())
        vectors.append(builder.fetched(address, align=8))
    for i, column in enumerate(_columns(builder, vectors, 8)):
        builder.put(column, vector_address(builder, target, INT64(i), 8), align=8)


def _columns(builder: Builder, vectors: list[Value], count: int) -> list[Value]:
    """The columns of eight vectors, as vectors of eight: halves are joined, then interleaved."""
    if count == 1:
        column = ir.Constant(vector_type(8), ir.Undefined)
        for i, vector in enumerate(vectors):
            number = builder.extract_element(vector, INT32(0))
            column = builder.insert_element(column, number, INT32(i))
        return [column]
    # Three rounds exchange the bit of the lane number with the bit of the vector number.
    for bit in (1, 2, 4):
        swapped = list(vectors)
        for i in range(8):
            if not i & bit:
                low = [k if not k & bit else 8 + k - bit for k in range(8)]
                high = [k + bit if not k & bit else 8 + k for k in range(8)]
                swapped[i] = shuffled(builder, vectors[i], vectors[i + bit], low)
                swapped[i + bit] = shuffled(builder, vectors[i], vectors[i + bit], high)
        vectors = swapped
    return vectors


def _finite(builder: Builder, x: Value) -> Value:
    x = builder.real(x)
    return builder.fcmp_ordered("==", builder.fsub(x, x), DOUBLE(0.0))


def _exp(builder: Builder, x: Value) -> Value:
    return llvm(builder, "c_exp", builder.real(x))


def _log(builder: Builder, x: Value) -> Value:
    return llvm(builder, "c_log", builder.real(x))


def _power(builder: Builder, x: Value, exponent: Value) -> Value:
    return llvm(builder, "c_pow", builder.real(x), builder.real(exponent))


FUNCTIONS.update({math.isfinite: _finite, math.exp: _exp, math.log: _log, pow: _power})

__all__ = [
    "as_integers",
    "fma",
    "fused",
    "gather",
    "highest_bit",
    "integers_at",
    "llvm",
    "load",
    "longs_at",
    "lowest_bit",
    "magnitude",
    "mask_of",
    "not_finite",
    "numbers_at",
    "offset",
    "pointer",
    "scatter",
    "shuffled",
    "splat",
    "sqrt",
    "store",
    "transpose",
    "turn",
    "vector_address",
    "vector_type",
    "where_greater",
    "zeros",
]
