"""The recorder, the tape, the fusing passes and the schedule."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from microgpt.engine.fuse import PASSES, fuse
from microgpt.engine.program import compile_tape
from microgpt.engine.rewrite import backward_order, differentiable
from microgpt.engine.schedule import schedule
from microgpt.engine.tape import MEANINGS, Node, Op, Tape, TapeError, from_nodes
from microgpt.engine.tracer import Recorder, Tracer, record
from microgpt.model import (
    GPTConfig,
    add_up,
    dot_product,
    exp,
    largest,
    log,
    relu,
    select,
)
from microgpt.value import Value
from tests.models import VARIANTS

CONFIG = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=3)


def tape_of(name: str, config: GPTConfig = CONFIG) -> Tape:
    variant = VARIANTS[name]
    return record(config, variant.forward, variant.shapes(config))


def evaluate(tape: Tape, params: list[float], tokens: list[int]) -> tuple[list[float], list[float]]:
    """Losses and parameter gradients by the definition of every operation, one node at a time."""
    leaves = [Value(param) for param in params]
    rules: dict[Op, Any] = {
        Op.CONST: lambda node, a: Value(node.number),
        Op.PARAM: lambda node, a: leaves[node.param],
        Op.LOAD: lambda node, a: leaves[node.param],
        Op.GATHER: lambda node, a: leaves[node.param + node.stride * tokens[node.token]],
        Op.ADD: lambda node, a: a[0] + a[1],
        Op.MUL: lambda node, a: a[0] * a[1],
        Op.POW: lambda node, a: a[0] ** node.number,
        Op.RATIO: lambda node, a: a[0] * a[1] ** node.number,
        Op.EXP: lambda node, a: exp(a[0]),
        Op.LOG: lambda node, a: log(a[0]),
        Op.RELU: lambda node, a: relu(a[0]),
        Op.MAX: lambda node, a: Value(largest(a)),
        Op.PICK: lambda node, a: a[tokens[node.token]],
        Op.SUM: lambda node, a: add_up(a),
        Op.DOT: lambda node, a: add_up(
            x * y for x, y in zip(a[: len(a) // 2], a[len(a) // 2 :], strict=True)
        ),
        Op.ROW: lambda node, a: add_up(leaves[node.param + k] * x for k, x in enumerate(a)),
    }
    assert rules.keys() == MEANINGS.keys()
    values: list[Any] = []
    for node in tape.nodes():
        values.append(rules[node.op](node, [values[arg] for arg in node.args]))
    losses = [values[loss] for loss in tape.losses]
    add_up(losses).backward()
    return [loss.data for loss in losses], [leaf.grad for leaf in leaves]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_pass_keeps_every_bit(name: str) -> None:
    tape = tape_of(name)
    params = np.random.default_rng(1).uniform(-0.5, 0.5, tape.num_params).tolist()
    tokens = [4, 1, 1, 3]
    expected = evaluate(tape, params, tokens)
    for fusing in PASSES:
        tape = fusing(tape).validate()
        assert evaluate(tape, params, tokens) == expected, fusing.__name__


@pytest.mark.parametrize("name", VARIANTS)
def test_groups_keep_the_order_of_gradients(name: str) -> None:
    """A node's consumers stand in groups in the order of their creation."""
    tape = fuse(tape_of(name))
    nodes = tape.nodes()
    place: dict[int, int] = {}
    groups = [group for position in schedule(tape) for group in position]
    for number, group in enumerate(groups):
        assert group.members == sorted(group.members)
        place.update(dict.fromkeys(group.members, number))
    needs = differentiable(tape)
    latest: dict[int, int] = {}
    for i, node in enumerate(nodes):
        if node.op is Op.CONST:
            continue
        for arg in set(node.args):
            if nodes[arg].op is not Op.CONST:
                assert place[arg] < place[i]
            if needs[i] and needs[arg]:
                assert latest.get(arg, -1) <= place[i]
                latest[arg] = place[i]
    assert len(place) == sum(node.op is not Op.CONST for node in nodes)


def test_fusing_makes_few_instructions_of_many_operations() -> None:
    tape = record(GPTConfig(vocab_size=27))
    products = tape.num_args[tape.op == Op.ROW].sum()
    assert len(tape) + 2 * products > 130_000
    program = compile_tape(fuse(tape))
    assert len(program.instructions) < 50 * 16


def test_a_shorter_document_is_a_prefix() -> None:
    long, short = (record(CONFIG, num_positions=n) for n in (3, 2))
    assert long.losses[:2] == short.losses
    assert (long.op[: len(short)] == short.op).all()
    assert (long.args[: len(short.args)] == short.args).all()


def test_products_of_weights_with_constants_are_not_shared() -> None:
    """Each gives its own contribution to the gradients of the weights."""

    def forward(params: Any, config: Any, token: Any, *rest: Any) -> Any:
        one, two = (
            [dot_product(row, [0.1, 0.7, 0.3]) for row in params["shift"]] for _ in range(2)
        )
        return [a * b * c for a, b, c in zip(select(params["wte"], token), one, two, strict=True)]

    shapes = {"wte": (5, 5), "shift": (5, 3)}
    params = np.random.default_rng(1).uniform(-0.5, 0.5, 40).tolist()
    tape = record(CONFIG, forward, shapes)
    assert evaluate(fuse(tape), params, [4, 1, 1, 3]) == evaluate(tape, params, [4, 1, 1, 3])


def test_tracers_create_the_nodes_that_values_create() -> None:
    def program(x: Any, y: Any) -> Any:
        z = (x - y) / (2.0 - x) + 3.0 * y - 1.0 / y
        return relu(-z) ** 3 + log(exp(z)) + largest([x, y])

    recorder = Recorder()
    x, y = (Tracer(recorder, recorder.append(Op.PARAM)) for _ in range(2))
    loss = program(x, y)
    recorder.param.update({x.node: 0, y.node: 1})
    recorded = recorder.finish([loss], 2, 1)
    expected_x, expected_y = Value(0.7), Value(-1.3)
    expected = program(expected_x, expected_y)
    expected.backward()
    losses, gradients = evaluate(recorded, [0.7, -1.3], [])
    assert losses == [expected.data]
    assert gradients == [expected_x.grad, expected_y.grad]


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: x if x > 0.0 else -x,
        lambda x: math.exp(x),
        lambda x: x**x,
        lambda x: x + "1",
        lambda x: x * True,
        lambda x: 1.0 if x else 0.0,
    ],
)
def test_what_cannot_be_recorded(misuse: Any) -> None:
    def forward(params: Any, config: Any, token: Any, *rest: Any) -> Any:
        return [misuse(x) for x in params["wte"][0]]

    with pytest.raises(TypeError, match=r"cannot look at its numbers|plain number|real numbers"):
        record(CONFIG, forward, {"wte": (5, 5)})


SMALL = fuse(tape_of("gpt"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"args": SMALL.args[::-1].copy()}, "uses a later one"),
        ({"args": SMALL.args - 10**6}, "uses a later one"),
        ({"args": SMALL.args[:-1]}, "start does not end"),
        ({"start": SMALL.start[:-1]}, "start does not fit"),
        ({"op": np.full_like(SMALL.op, 99)}, "an operation is unknown"),
        ({"op": np.full_like(SMALL.op, Op.ADD)}, "wrong number of arguments"),
        ({"param": SMALL.param + SMALL.num_params}, "reads no parameter"),
        ({"param": SMALL.param - SMALL.num_params}, "reads no parameter"),
        ({"token": SMALL.token + 4}, "reads no token"),
        ({"num_choices": 6}, "does not choose among all tokens|reads no parameter"),
        ({"number": SMALL.number[1:]}, "number has not one entry per node"),
        ({"losses": ()}, "the losses are not in order"),
        ({"losses": SMALL.losses[::-1]}, "the losses are not in order"),
        ({"losses": (10**6,)}, "a loss is not a node|reads no token"),
    ],
)
def test_a_tape_that_cannot_run(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(TapeError, match=complaint):
        replace(SMALL, **change).validate()


def test_a_tape_is_readable() -> None:
    lines = "\n".join(SMALL.lines())
    assert "gather w[0 + 4 * token 0]" in lines
    assert "** -0.5" in lines
    assert "# loss of position 2" in lines
    assert SMALL.statistics().startswith(f"{len(SMALL):,} nodes with {len(SMALL.args):,} arguments")


def test_records_and_arrays_say_the_same() -> None:
    again = from_nodes(SMALL.nodes(), SMALL.losses, SMALL)
    assert again.nodes() == SMALL.nodes()
    assert again.node(7) == SMALL.nodes()[7]


def test_backward_order_of_a_dot() -> None:
    assert list(backward_order(Node(Op.DOT, (1, 2, 3, 4)))) == [1, 3, 0, 2]
    assert list(backward_order(Node(Op.SUM, (1, 2, 3)))) == [2, 1, 0]
    assert list(backward_order(Node(Op.MUL, (1, 2)))) == [0, 1]
