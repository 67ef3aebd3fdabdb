"""``Value``: every operation against analytic, numeric and independent derivatives."""

from __future__ import annotations

import gc
import math
import operator
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microgpt.value import Value
from tests.marks import soak

QUICK = settings(derandomize=True, deadline=None, max_examples=150, database=None)
NAN, INF = math.nan, math.inf


def bits(number: float) -> bytes:
    return struct.pack("<d", number)


# Every operation, alone


@dataclass(frozen=True)
class Operation:
    """``apply`` works on Values and floats alike; ``partials`` are its analytic derivatives."""

    name: str
    apply: Callable[..., Any]
    partials: Callable[..., tuple[float, ...]]
    points: Sequence[tuple[float, ...]]


def exp(x: Any) -> Any:
    return x.exp() if isinstance(x, Value) else math.exp(x)


def log(x: Any) -> Any:
    return x.log() if isinstance(x, Value) else math.log(x)


def relu(x: Any) -> Any:
    return x.relu() if isinstance(x, Value) else max(0.0, x)


PAIRS = [(2.0, 3.0), (-1.5, 0.25), (0.1, -7.0), (-2.5, -3.5), (1e3, 1e-3)]
SINGLES = [(2.0,), (-1.5,), (0.1,), (-7.25,), (0.003,)]
POSITIVES = [(2.0,), (0.1,), (7.25,), (1e-3,), (123.5,)]

OPERATIONS = [
    Operation("a + b", lambda a, b: a + b, lambda a, b: (1.0, 1.0), PAIRS),
    Operation("a * b", lambda a, b: a * b, lambda a, b: (b, a), PAIRS),
    Operation("a - b", lambda a, b: a - b, lambda a, b: (1.0, -1.0), PAIRS),
    Operation("a / b", lambda a, b: a / b, lambda a, b: (1 / b, -a / b**2), PAIRS),
    Operation("-a", lambda a: -a, lambda a: (-1.0,), SINGLES),
    Operation("a + 3", lambda a: a + 3, lambda a: (1.0,), SINGLES),
    Operation("3 + a", lambda a: 3 + a, lambda a: (1.0,), SINGLES),
    Operation("a * 3.5", lambda a: a * 3.5, lambda a: (3.5,), SINGLES),
    Operation("3.5 * a", lambda a: 3.5 * a, lambda a: (3.5,), SINGLES),
    Operation("a - 3", lambda a: a - 3, lambda a: (1.0,), SINGLES),
    Operation("3 - a", lambda a: 3 - a, lambda a: (-1.0,), SINGLES),
    Operation("a / 4", lambda a: a / 4, lambda a: (0.25,), SINGLES),
    Operation("4 / a", lambda a: 4 / a, lambda a: (-4 / a**2,), SINGLES),
    Operation("a**3", lambda a: a**3, lambda a: (3 * a * a,), SINGLES),
    Operation("a**1", lambda a: a**1, lambda a: (1.0,), SINGLES),
    Operation("a**0", lambda a: a**0, lambda a: (0.0,), SINGLES),
    Operation("a**-2", lambda a: a**-2, lambda a: (-2 / a**3,), SINGLES),
    Operation("a**0.5", lambda a: a**0.5, lambda a: (0.5 / math.sqrt(a),), POSITIVES),
    Operation("a**-0.5", lambda a: a**-0.5, lambda a: (-0.5 / (a * math.sqrt(a)),), POSITIVES),
    Operation("exp", exp, lambda a: (math.exp(a),), SINGLES),
    Operation("log", log, lambda a: (1 / a,), POSITIVES),
    Operation("relu", relu, lambda a: (1.0 if a > 0 else 0.0,), SINGLES),
]
CASES = [
    pytest.param(operation, point, id=f"{operation.name} at {point}")
    for operation in OPERATIONS
    for point in operation.points
]


@pytest.mark.parametrize(("operation", "point"), CASES)
def test_data_and_both_derivatives(operation: Operation, point: tuple[float, ...]) -> None:
    leaves = [Value(x) for x in point]
    result = operation.apply(*leaves)
    assert type(result) is Value
    assert type(result.data) is float
    assert result.data == pytest.approx(operation.apply(*point), rel=1e-15)

    result.backward()
    assert result.grad == 1.0
    assert [leaf.grad for leaf in leaves] == pytest.approx(operation.partials(*point), rel=1e-14)

    for which, leaf in enumerate(leaves):
        h = 1e-6 * abs(point[which])
        above, below = list(point), list(point)
        above[which] += h
        below[which] -= h
        width = above[which] - below[which]
        numeric = (operation.apply(*above) - operation.apply(*below)) / width
        rounding = 4 * sys.float_info.epsilon * abs(result.data) / width
        assert leaf.grad == pytest.approx(numeric, rel=1e-8, abs=rounding)


@pytest.mark.parametrize(
    "number", [3, Fraction(1, 4), np.float64(0.1), np.float32(0.5), np.int64(7)]
)
def test_every_kind_of_real_number_becomes_a_float(number: Any) -> None:
    assert type(Value(number).data) is float
    assert Value(number).data == float(number)
    assert (Value(2.0) * number).data == 2.0 * float(number)
    assert (number * Value(2.0)).data == 2.0 * float(number)
    assert (number - Value(2.0)).data == float(number) - 2.0


def test_gradients_are_zero_before_backward_and_outside_the_graph() -> None:
    a, b = Value(2.0), Value(3.0)
    result, elsewhere = a * a, a * b
    assert (a.grad, result.grad) == (0.0, 0.0)
    result.backward()
    assert (a.grad, b.grad, elsewhere.grad) == (4.0, 0.0, 0.0)


def test_backward_of_a_leaf() -> None:
    a = Value(2.0)
    a.backward()
    assert a.grad == 1.0


def test_repr_shows_number_and_gradient() -> None:
    a = Value(0.1)
    (a * 3).backward()
    assert repr(a) == "Value(data=0.1, grad=3.0)"


def test_values_compare_by_identity_and_can_be_keys() -> None:
    a, b = Value(1.0), Value(1.0)
    assert a != b
    assert len({a, b, a}) == 2


def test_largest_is_a_number_without_gradient() -> None:
    assert Value.largest([Value(1.0), Value(3.0), Value(-7.0)]) == 3.0
    assert type(Value.largest(iter([Value(1.0)]))) is float
    with pytest.raises(ValueError, match="empty"):
        Value.largest([])


# The definitions, to the bit


def test_division_is_multiplication_by_the_reciprocal() -> None:
    assert 3.0 / 5.0 != 3.0 * 5.0**-1  # so the next lines tell the two apart
    assert (Value(3.0) / Value(5.0)).data == 3.0 * 5.0**-1
    assert (Value(3.0) / 5).data == 3.0 * 5.0**-1
    assert (3 / Value(5.0)).data == 3.0 * 5.0**-1


def test_derivative_of_a_quotient_is_that_of_its_definition() -> None:
    a, b = Value(0.7), Value(0.3)
    (a / b).backward()
    assert bits(a.grad) == bits(0.3**-1)
    assert bits(b.grad) == bits((-1 * 0.3**-2) * 0.7)


def test_difference_is_the_sum_with_the_negative() -> None:
    assert bits((Value(0.0) - Value(0.0)).data) == bits(0.0)
    assert bits((-Value(0.0)).data) == bits(-0.0)
    assert bits((Value(-0.0) - Value(0.0)).data) == bits(-0.0)


def test_power_is_the_c_librarys() -> None:
    for number in range(1, 20_000):
        x = number / 7919.0
        assert bits((Value(x) ** 0.5).data) == bits(x**0.5)
        power = Value(x) ** 3
        power.backward()
        assert bits(power.data) == bits(x**3)
        assert bits(power._children[0].grad) == bits(3 * x**2)


def test_relu_at_and_around_zero() -> None:
    for number, data, grad in [
        (0.0, 0.0, 0.0),
        (-0.0, 0.0, 0.0),
        (5e-324, 5e-324, 1.0),
        (-5e-324, 0.0, 0.0),
        (INF, INF, 1.0),
        (-INF, 0.0, 0.0),
        (NAN, 0.0, 0.0),  # as max(0, nan) in microgpt.py
    ]:
        leaf = Value(number)
        result = leaf.relu()
        result.backward()
        assert bits(result.data) == bits(data)
        assert bits(leaf.grad) == bits(grad)


def test_nan_and_infinity_travel_through() -> None:
    for result in (
        Value(NAN) + 1,
        Value(NAN) * 0,
        Value(NAN) ** 2,
        Value(NAN).exp(),
        Value(NAN).log(),
        Value(INF) - Value(INF),
        Value(INF) * 0.0,
        1 / Value(NAN),
    ):
        assert math.isnan(result.data)
    assert Value(-INF).exp().data == 0.0
    assert Value(INF).log().data == INF
    assert (1 / Value(INF)).data == 0.0
    assert (Value(1e200) * 1e200).data == INF
    leaf = Value(NAN)
    (leaf * leaf).backward()
    assert math.isnan(leaf.grad)


# Misuse


@pytest.mark.parametrize("wrong", ["1.0", b"1", None, True, False, 1j, [1.0], (1.0,), {}, object()])
def test_only_real_numbers_are_values(wrong: Any) -> None:
    with pytest.raises(TypeError, match="real number"):
        Value(wrong)
    for operation in (operator.add, operator.mul):
        with pytest.raises(TypeError, match="real number"):
            operation(Value(1.0), wrong)
        with pytest.raises(TypeError):
            operation(wrong, Value(1.0))


@pytest.mark.parametrize("wrong", ["1.0", b"1", None, 1j, [1.0], {}, object()])
def test_only_real_numbers_can_be_subtracted_and_divided(wrong: Any) -> None:
    for operation in (operator.sub, operator.truediv):
        with pytest.raises(TypeError):
            operation(Value(1.0), wrong)
        with pytest.raises(TypeError):
            operation(wrong, Value(1.0))


@pytest.mark.parametrize("wrong", [Value(2.0), "2", None, 1j, [2]])
def test_exponents_are_plain_numbers(wrong: Any) -> None:
    with pytest.raises(TypeError, match="exponent"):
        Value(3.0) ** wrong


def test_no_number_to_the_power_of_a_value() -> None:
    with pytest.raises(TypeError):
        2.0 ** Value(3.0)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: Value(0.0).log(), ValueError),
        (lambda: Value(-0.0).log(), ValueError),
        (lambda: Value(-1.0).log(), ValueError),
        (lambda: Value(-INF).log(), ValueError),
        (lambda: Value(-8.0) ** (1 / 3), ValueError),
        (lambda: Value(-2.0) ** -0.5, ValueError),
        (lambda: Value(1000.0).exp(), OverflowError),
        (lambda: Value(1e200) ** 2, OverflowError),
        (lambda: Value(10**400), OverflowError),
        (lambda: Value(0.0) ** -1, ZeroDivisionError),
        (lambda: 1.0 / Value(0.0), ZeroDivisionError),
        (lambda: Value(1.0) / 0, ZeroDivisionError),
        (lambda: Value(1.0) / 0.0, ZeroDivisionError),
        (lambda: Value(0.0) ** 0.5, ZeroDivisionError),  # its derivative there is infinite
    ],
)
def test_operations_without_a_real_result(
    wrong: Callable[[], Value], error: type[Exception]
) -> None:
    with pytest.raises(error):
        wrong()


def test_errors_name_the_number() -> None:
    with pytest.raises(ValueError, match=r"logarithm of -1\.5"):
        Value(-1.5).log()
    with pytest.raises(ValueError, match=r"-8\.0 \*\* 0\.5 is not a real number"):
        Value(-8.0) ** 0.5
    with pytest.raises(TypeError, match="'seven'"):
        Value("seven")  # type: ignore[arg-type]


# Sharing and order


def test_gradient_of_a_shared_node_is_the_sum_over_its_uses() -> None:
    a = Value(3.0)
    shared = a * 2.0
    (shared * shared + shared + a).backward()
    assert shared.grad == 2 * 6.0 + 1
    assert a.grad == 13.0 * 2.0 + 1


def test_diamonds_are_not_walked_path_by_path() -> None:
    leaf = Value(1.0)
    node = leaf
    for _ in range(200):  # 2**200 paths
        node = (node + node) * 0.5
    node.backward()
    assert leaf.grad == 1.0


def test_gradients_add_up_over_several_results() -> None:
    a, b = Value(2.0), Value(5.0)
    (a * b).backward()
    (a * 3).backward()
    assert (a.grad, b.grad) == (8.0, 2.0)
    a.grad = 0.0
    (a * a).backward()
    assert (a.grad, b.grad) == (4.0, 2.0)


def test_backward_twice_adds_twice() -> None:
    a, b = Value(2.0), Value(5.0)
    product = a * b
    product.backward()
    product.backward()
    assert (a.grad, b.grad) == (10.0, 4.0)


def test_results_that_share_a_node_add_up_in_the_leaves() -> None:
    a = Value(2.0)
    shared = a * 3
    for factor in (5, 7, 7):
        (shared * factor).backward()
    assert a.grad == 3 * (5 + 7 + 7)
    assert shared.grad == 7.0  # of the last result alone


def test_nodes_are_visited_from_the_newest_to_the_oldest() -> None:
    newest_first = (0.3 + 0.2) + 0.1
    assert newest_first != (0.1 + 0.2) + 0.3
    assert newest_first != (0.2 + 0.1) + 0.3
    assert newest_first != (0.3 + 0.1) + 0.2
    for shape in range(4):
        a = Value(1.0)
        first, second, third = a * 0.1, a * 0.2, a * 0.3
        result = (
            (first + second) + third,
            third + (first + second),  # a depth-first order sums .2 + .1 + .3 here
            (third + first) + second,
            second + (third + first),
        )[shape]
        result.backward()
        assert bits(a.grad) == bits(newest_first)


def test_depth_in_the_graph_does_not_decide_the_order() -> None:
    a = Value(1.0)
    deep = a * 0.1  # created first, so visited last, though its path is as long as it gets
    for _ in range(5):
        deep = deep + 0.0
    middle = a * 0.2
    shallow = a * 0.3
    (shallow + (deep + middle)).backward()
    assert bits(a.grad) == bits((0.3 + 0.2) + 0.1)

    b = Value(1.0)
    shallow = b * 0.1
    middle = b * 0.2
    deep = b * 0.3
    for _ in range(5):
        deep = deep + 0.0
    (shallow + (deep + middle)).backward()
    assert bits(b.grad) == bits((0.3 + 0.2) + 0.1)


def test_within_a_node_the_left_operand_comes_first() -> None:
    a = Value(0.1)
    a.grad = 0.1  # something to round against
    (a * a).backward()
    assert bits(a.grad) == bits((0.1 + 0.1) + 0.1)
    c = Value(1.0)
    c.grad = 1.0
    Value(0.0, (c, c), (1e16, -1e16)).backward()
    assert c.grad == (1.0 + 1e16) - 1e16 == 0.0


# Long and large graphs


@pytest.mark.parametrize(
    "make",
    [lambda v: v + 1.0, *map(soak, (lambda v: -v, lambda v: v.relu(), lambda v: v**1))],
)
def test_chain_of_100_000(make: Callable[[Value], Value]) -> None:
    leaf = Value(1.0)
    node = leaf
    for _ in range(100_000):
        node = make(node)
    node.backward()
    assert leaf.grad == 1.0
    del node  # frees the whole chain, one inside the other


@pytest.mark.parametrize("nodes", [100_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_a_long_chain_of_nodes_and_its_release(nodes: int) -> None:
    alive_before = _values_alive()
    leaf = Value(0.0)
    node = leaf
    for _ in range(nodes):
        node = node.relu()
    node = node + leaf
    node.backward()
    assert leaf.grad == 1.0
    del node
    assert _values_alive() == alive_before + 1


def test_wide_sum_of_shared_leaf() -> None:
    leaf = Value(1.0)
    total = Value(0.0)
    for _ in range(50_000):
        total = total + leaf * 2.0
    total.backward()
    assert leaf.grad == 100_000.0


def _values_alive() -> int:
    gc.collect()
    return sum(type(thing) is Value for thing in gc.get_objects())


# Random expression graphs against forward-mode differentiation


@dataclass(frozen=True)
class Dual:
    """A number and its derivatives by the leaves, carried forwards: no backward pass at all.

    ``bound`` adds the absolute contributions of all paths; rounding errors are small beside it.
    """

    data: float
    partial: tuple[float, ...]
    bound: tuple[float, ...]

    def then(self, data: float, slope: float) -> Dual:
        return Dual(
            data,
            tuple(slope * p for p in self.partial),
            tuple(abs(slope) * p for p in self.bound),
        )

    def plus(self, other: Dual, data: float) -> Dual:
        return Dual(
            data,
            tuple(map(operator.add, self.partial, other.partial)),
            tuple(map(operator.add, self.bound, other.bound)),
        )


Program = list[tuple[str, int, int, float]]
NUMBERS = st.floats(-3, 3).map(lambda x: round(x, 3))
CODES = [
    "add",
    "sub",
    "mul",
    "div",
    "neg",
    "exp",
    "log",
    "relu",
    "pow",
    "radd",
    "rsub",
    "rmul",
    "rdiv",
]
PROGRAMS = st.lists(
    st.tuples(st.sampled_from(CODES), st.integers(0, 99), st.integers(0, 99), NUMBERS),
    min_size=1,
    max_size=40,
)


def run(leaves: Sequence[float], program: Program) -> tuple[list[Value], list[Value], list[Dual]]:
    """The program on Values and on Duals: an instruction's operands are earlier results.

    Instructions that would leave the domain or grow beyond 1000 are skipped.
    """
    duals = []
    for index, number in enumerate(leaves):
        unit = tuple(float(index == other) for other in range(len(leaves)))
        duals.append(Dual(number, unit, unit))
    values = [Value(number) for number in leaves]
    inputs = list(values)
    for code, i, j, constant in program:
        i, j = i % len(values), j % len(values)
        a, b, x, y = values[i], values[j], duals[i], duals[j]
        new: Value
        dual: Dual
        if code == "add":
            new, dual = a + b, x.plus(y, x.data + y.data)
        elif code == "sub":
            new, dual = a - b, x.plus(y.then(0.0, -1.0), x.data - y.data)
        elif code == "mul":
            new = a * b
            dual = x.then(0.0, y.data).plus(y.then(0.0, x.data), x.data * y.data)
        elif code == "div" and abs(y.data) > 0.1:
            slope = -x.data / (y.data * y.data)
            new = a / b
            dual = x.then(0.0, 1 / y.data).plus(y.then(0.0, slope), x.data * y.data**-1)
        elif code == "neg":
            new, dual = -a, x.then(-x.data, -1.0)
        elif code == "exp" and x.data < 6.0:
            new, dual = a.exp(), x.then(math.exp(x.data), math.exp(x.data))
        elif code == "log" and x.data > 0.1:
            new, dual = a.log(), x.then(math.log(x.data), 1 / x.data)
        elif code == "relu":
            new, dual = a.relu(), x.then(max(0.0, x.data), float(x.data > 0))
        elif code == "pow" and x.data > 0.1:
            slope = constant * x.data**constant / x.data
            new, dual = a**constant, x.then(x.data**constant, slope)
        elif code == "pow" and abs(x.data) > 0.1:
            new, dual = a**3, x.then(x.data**3, 3 * x.data * x.data)
        elif code == "radd":
            new, dual = constant + a, x.then(constant + x.data, 1.0)
        elif code == "rsub":
            new, dual = constant - a, x.then(constant - x.data, -1.0)
        elif code == "rmul":
            new, dual = constant * a, x.then(constant * x.data, constant)
        elif code == "rdiv" and abs(x.data) > 0.1:
            slope = -constant / (x.data * x.data)
            new, dual = constant / a, x.then(constant * x.data**-1, slope)
        else:
            continue
        if abs(dual.data) < 1e3:
            values.append(new)
            duals.append(dual)
    return inputs, values, duals


@QUICK
@given(st.lists(NUMBERS, min_size=1, max_size=4), PROGRAMS)
def test_random_graphs(leaves: list[float], program: Program) -> None:
    inputs, values, duals = run(leaves, program)
    for value, dual in zip(values, duals, strict=True):
        assert value.data == dual.data
    values[-1].backward()
    for leaf, partial, bound in zip(inputs, duals[-1].partial, duals[-1].bound, strict=True):
        assert abs(leaf.grad - partial) <= 1e-12 * bound + 1e-300


@QUICK
@given(st.lists(NUMBERS, min_size=2, max_size=3), PROGRAMS)
def test_random_graphs_have_the_same_bits_every_time(leaves: list[float], program: Program) -> None:
    gradients = []
    for _ in range(2):
        inputs, values, _ = run(leaves, program)
        total = sum(values, start=Value(0.0))  # everything is shared
        total.backward()
        gradients.append([bits(leaf.grad) for leaf in inputs])
    assert gradients[0] == gradients[1]


def test_random_graphs_are_worth_testing() -> None:
    """The skipping in ``run`` leaves deep, shared graphs in which every instruction occurs."""
    program: Program = [
        (code, 3 * index + 1, 2 * index, 0.5 + 0.1 * index) for index, code in enumerate(CODES * 3)
    ]
    _, values, _ = run([0.5, 1.5, -0.75], program)
    assert len(values) > 30
