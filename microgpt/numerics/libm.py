"""``exp`` and ``**`` of the C library, bit for bit, many at a time.

The C library's powers are within 0.52 units in the last place (ULP) of the true value, its ``exp``
within 0.53, so they are its correct rounding unless the true value lies within 0.02 or 0.03 ULP of
the middle between two numbers.
Here each lane is computed with some twenty extra bits; where these show that the true value is not
near a middle, its rounding is what the C library returns. The other lanes, 3 to 6 % of all, and
results outside a range in which nothing can underflow, are left to the C library itself.

This is true of glibc from 2.28 on. With another C library, or without fused multiply-add in the
processor, every lane is left to the C library.

This module must not import ``microgpt.engine``: the coordinator uses it for ``adam_compiled``.
"""

from __future__ import annotations

import math
import platform
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
from llvmlite import ir

from microgpt.numerics import machine_code
from microgpt.numerics.jit import inner
from microgpt.numerics.simd import (
    fma,
    fused,
    intrinsic,
    llvm,
    load,
    lowest_bit,
    magnitude,
    mask_of,
    splat,
    sqrt,
    store,
    vector_address,
    zeros,
)
from microgpt.numerics.values import DOUBLE, INT32, INT64, Builder, Value

Pointer = Any
Lanes = Any
Vectors = Any


def trusted() -> bool:
    """Whether this machine's C library and processor are such that lanes can be decided here."""
    name, version = platform.libc_ver()
    numbers = [int(part) for part in version.split(".")[:2] if part.isdigit()]
    has_fma = machine_code.features().get("fma", False)
    return name == "glibc" and numbers >= [2, 28] and bool(has_fma)


TRUSTED = trusted()

#: How far from a number, in ULP, the true value may lie for that number to be its sure rounding.
#: glibc states errors of at most 0.519 ULP for powers in this range and of 0.511 for exp.
#: For exp that is not enough: with 0.487 here one number was decided otherwise than there.
SURE, SURE_EXP = 0.48, 0.47
#: Results between 2**-RANGE and 2**RANGE are decided here.
RANGE = 300
#: Nearer to 1, glibc's powers are better: at most 0.512 ULP wrong, as the logarithm is small.
SURE_NEAR, RANGE_NEAR = 0.486, 32
EXPONENT_BITS = 0x7FF0_0000_0000_0000
MANTISSA_BITS = 0x000F_FFFF_FFFF_FFFF


@intrinsic
def undecided(builder: Builder, y: Value, rest: Value, unit: Value) -> Value:
    """Bits of the lanes in which ``y`` is not surely the rounding of ``y + rest / unit``."""
    return _undecided(builder, y, rest, unit, SURE, RANGE)


@intrinsic
def undecided_near(builder: Builder, y: Value, rest: Value, unit: Value) -> Value:
    """The same where results are mostly near 1: fewer lanes of these, all of others."""
    return _undecided(builder, y, rest, unit, SURE_NEAR, RANGE_NEAR)


def _undecided(
    builder: Builder, y: Value, rest: Value, unit: Value, sure_ulp: float, range_bits: int
) -> Value:
    count = y.type.count
    longs = ir.VectorType(INT64, count)

    def everywhere(number: int | float, kind: Any = longs) -> Any:
        return ir.Constant(kind, [number] * count)

    bits = builder.bitcast(y, longs)
    exponent = builder.and_(bits, everywhere(EXPONENT_BITS))
    power = builder.bitcast(exponent, y.type)
    bound = builder.fmul(builder.fmul(power, everywhere(sure_ulp * 2.0**-52, y.type)), unit)
    near = builder.fcmp_ordered("<", magnitude(builder, rest), bound)
    # Below a power of two numbers are twice as dense: there only exact results are decided.
    mantissa = builder.and_(bits, everywhere(MANTISSA_BITS))
    plain = builder.icmp_unsigned("!=", mantissa, everywhere(0))
    exact = builder.fcmp_ordered("==", rest, everywhere(0.0, y.type))
    sure = builder.or_(exact, builder.and_(near, plain))
    for comparison, bound_exponent in ((">=", 1023 - range_bits), ("<=", 1023 + range_bits)):
        limit = everywhere(bound_exponent << 52)
        sure = builder.and_(sure, builder.icmp_signed(comparison, exponent, limit))
    return mask_of(builder, builder.not_(sure))


@inner
def power(out: Pointer, o: int, base: Pointer, i: int, exponent: float, lanes: Lanes) -> None:
    """Vector ``o`` after ``out`` becomes vector ``i`` after ``base`` to the power ``exponent``."""
    x = load(base, i, lanes)
    y, mask = power_or_undecided(x, exponent, lanes)
    store(out, o, y)
    while mask:
        lane = lowest_bit(mask)
        out[o * len(lanes) + lane] = base[i * len(lanes) + lane] ** exponent
        mask &= mask - 1


@inner
def power_or_undecided(x: Vectors, exponent: float, lanes: Lanes) -> tuple[Vectors, int]:
    """``x ** exponent`` and the bits of the lanes that are left to the C library."""
    one = splat(1.0, lanes)
    mask = (1 << len(lanes)) - 1
    y = x
    if TRUSTED and len(lanes) > 1:  # one lane is better left to the C library
        if exponent == -1.0:
            y = one / x
            mask = undecided_near(y, fma(splat(0.0, lanes) - y, x, one) * y, one)
        elif exponent == -2.0:
            q, rest = reciprocal_square(x, lanes)
            y = q + rest
            mask = undecided_near(y, rest - (y - q), one)
        elif exponent == -0.5:
            q, rest = reciprocal_root(x, lanes)
            y = q + rest
            mask = undecided_near(y, rest - (y - q), one)
        elif exponent == -1.5:
            q, rest = reciprocal_root(x, lanes)
            p = one / x
            p_rest = fma(splat(0.0, lanes) - p, x, one) * p
            h = q * p
            rest = fma(q, p, splat(0.0, lanes) - h) + (q * p_rest + rest * p)
            y = h + rest
            mask = undecided_near(y, rest - (y - h), one)
        elif exponent == 2.0:
            y = x * x
            mask = undecided(y, fma(x, x, splat(0.0, lanes) - y), one) & ~zeros(x)
        elif exponent == 0.5:
            y = sqrt(x)
            mask = undecided(y, fma(splat(0.0, lanes) - y, y, x), y + y) & ~zeros(x)
        elif exponent == 1.0:
            mask = 0
    return y, mask


@inner
def reciprocal_square(x: Vectors, lanes: Lanes) -> tuple[Vectors, Vectors]:
    """``x ** -2`` as a sum of two numbers."""
    one = splat(1.0, lanes)
    s = x * x
    s_rest = fma(x, x, splat(0.0, lanes) - s)
    q = one / s
    return q, q * (fma(splat(0.0, lanes) - q, s, one) - q * s_rest)


@inner
def reciprocal_root(x: Vectors, lanes: Lanes) -> tuple[Vectors, Vectors]:
    """``x ** -0.5`` as a sum of two numbers."""
    one = splat(1.0, lanes)
    s = sqrt(x)
    s_rest = fma(splat(0.0, lanes) - s, s, x)
    q = one / s
    return q, q * (fma(splat(0.0, lanes) - q, s, one) - splat(0.5, lanes) * s_rest * q * q)


#: exp(x) = 2**(k / STEPS) * exp(r) with |r| at most ln(2) / (2 * STEPS).
STEPS = 16
TERMS = 8


def _exp_tables() -> tuple[Any, float, float]:
    """2**(j / STEPS) as pairs of numbers; ln(2) / STEPS as a short number and the rest."""
    with localcontext() as context:
        context.prec = 60
        ln2 = Decimal(2).ln()
        table = np.empty((2, STEPS))
        for j in range(STEPS):
            exact = (ln2 * j / STEPS).exp()
            table[0, j] = float(exact)
            table[1, j] = float(exact - Decimal(float(table[0, j])))
        step = ln2 / STEPS
        short = math.ldexp(round(math.ldexp(float(step), 38)), -38)  # times k: exact
        return table, short, float(step - Decimal(short))


EXP_TABLE, STEP_SHORT, STEP_REST = _exp_tables()


@inner
def exponential(out: Pointer, o: int, base: Pointer, i: int, lanes: Lanes) -> None:
    """Vector ``o`` after ``out`` becomes e to the power of vector ``i`` after ``base``."""
    mask = (1 << len(lanes)) - 1
    if TRUSTED and len(lanes) > 1:
        mask = exp_or_undecided(out, o, load(base, i, lanes))
    while mask:
        lane = lowest_bit(mask)
        out[o * len(lanes) + lane] = math.exp(base[i * len(lanes) + lane])
        mask &= mask - 1


@intrinsic
def exp_or_undecided(builder: Builder, out: Value, o: Value, x: Value) -> Value:
    """Write e**x as vector ``o``; returns the bits of the lanes that are left to the C library."""
    count = x.type.count
    longs = ir.VectorType(INT64, count)

    def real(number: float) -> Value:
        return ir.Constant(x.type, [number] * count)

    def whole(number: int) -> Value:
        return ir.Constant(longs, [number] * count)

    def multiply_add(a: Value, b: Value, c: Value) -> Value:
        return fused(builder, a, b, c)

    add, sub, mul = builder.fadd, builder.fsub, builder.fmul
    # Adding 1.5 * 2**52 rounds to a whole number, which then stands in the lowest bits.
    shifted = multiply_add(x, real(STEPS / math.log(2)), real(1.5 * 2.0**52))
    bits = builder.bitcast(shifted, longs)
    k = sub(shifted, real(1.5 * 2.0**52))
    high = multiply_add(k, real(-STEP_SHORT), x)
    r = multiply_add(k, real(-STEP_REST), high)
    r_rest = multiply_add(k, real(-STEP_REST), sub(high, r))
    series = real(1.0 / math.factorial(TERMS))
    for n in range(TERMS - 1, 1, -1):
        series = multiply_add(series, r, real(1.0 / math.factorial(n)))
    tail = multiply_add(mul(r, r), series, r_rest)  # exp(r) = 1 + r + tail
    t, t_rest = (_looked_up(builder, row, bits) for row in EXP_TABLE)
    h = mul(t, r)
    h_rest = multiply_add(t, r, builder.fneg(h))
    y0 = add(t, h)
    rest = add(sub(h, sub(y0, t)), add(h_rest, multiply_add(t, tail, t_rest)))
    y = add(y0, rest)
    rest = sub(rest, sub(y, y0))
    exponent = builder.shl(builder.and_(bits, whole(-STEPS)), whole(52 - 4))
    scale = builder.bitcast(builder.add(exponent, whole(1023 << 52)), x.type)
    builder.put(mul(y, scale), vector_address(builder, out, o, count), align=8)
    # One number in sixteen is in [0.98, 1), where numbers are twice as dense as in [1, 2); at 1
    # they are so on one side, and only what is exact is decided.
    one, zero = real(1.0), real(0.0)
    below = builder.fcmp_ordered("<", y, one)
    bound = builder.select(below, real(SURE_EXP * 2.0**-53), real(SURE_EXP * 2.0**-52))
    near = builder.fcmp_ordered("<", magnitude(builder, rest), bound)
    plain = builder.fcmp_ordered("!=", y, one)
    exact = builder.fcmp_ordered("==", rest, zero)
    # Outside this range bits and scale are nonsense; NaN is left to the C library as well.
    inside = builder.fcmp_ordered("<", magnitude(builder, x), real(RANGE * math.log(2)))
    sure = builder.and_(builder.and_(near, inside), builder.or_(plain, exact))
    return mask_of(builder, builder.not_(sure))


def _looked_up(builder: Builder, row: Any, bits: Value) -> Value:
    """Lane by lane the number of ``row`` (16 numbers) that the lowest four bits choose."""
    count = bits.type.count
    numbers = [float(number) for number in row]
    if count == 8 and machine_code.features().get("avx512f", False):
        kind = ir.VectorType(DOUBLE, 8)
        halves = [ir.Constant(kind, numbers[:8]), ir.Constant(kind, numbers[8:])]
        name = "llvm.x86.avx512.vpermi2var.pd.512"
        return llvm(builder, name, halves[0], bits, halves[1])
    table = ir.GlobalVariable(
        builder.module,
        ir.ArrayType(DOUBLE, len(numbers)),
        builder.module.get_unique_name("exp_table"),
    )
    table.initializer = ir.Constant(table.type.pointee, numbers)
    table.linkage, table.global_constant = "internal", True
    vector = ir.Constant(ir.VectorType(DOUBLE, count), ir.Undefined)
    for lane in range(count):
        index = builder.and_(builder.extract_element(bits, INT32(lane)), INT64(15))
        number = builder.load(builder.gep(table, [INT64(0), index]))
        vector = builder.insert_element(vector, number, INT32(lane))
    return vector
