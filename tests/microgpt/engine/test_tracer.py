"""The recorder writes down rows of a matrix at once, and what it writes is what rows do."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from microgpt import model
from microgpt.engine.fuse import fuse
from microgpt.engine.tape import Op, Tape
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig, dot_product, exp, linear, select
from tests.models import VARIANTS

CONFIG = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=3)


def plainly(function: Any, w: Any, x: Any) -> list[Any]:
    """What ``model.each_row`` is, row by row."""
    return [function(row, x) for row in w]


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("config", [CONFIG, GPTConfig(3, 2, 7, 1, 2), GPTConfig(1, 1, 1, 1, 1)])
def test_rows_are_recorded_at_once_as_they_would_be_one_by_one(
    name: str, config: GPTConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    variant = VARIANTS[name]
    at_once = record(config, variant.forward, variant.shapes(config))
    monkeypatch.setattr(model, "each_row", plainly)
    one_by_one = record(config, variant.forward, variant.shapes(config))
    assert len(at_once) < len(one_by_one)
    assert not (one_by_one.op == Op.ROW).any()
    assert_same_tapes(fuse(at_once), fuse(one_by_one))


def assert_same_tapes(one: Tape, other: Tape) -> None:
    for field in fields(Tape):
        assert np.array_equal(getattr(one, field.name), getattr(other, field.name)), field.name


def shifted(row: Any, x: Any) -> Any:
    return dot_product(row, x) + 1.0


def backwards(row: Any, x: Any) -> Any:
    return dot_product(row[::-1], x)


def of_x_alone(row: Any, x: Any) -> Any:
    return dot_product(x, x)


def first_alone(row: Any, x: Any) -> Any:
    return row[0] * x[0]


def no_result_of_a_row(row: Any, x: Any) -> Any:
    return 2.0 if row else x


@pytest.mark.parametrize(
    "function", [shifted, backwards, of_x_alone, first_alone, no_result_of_a_row]
)
def test_other_functions_of_rows_are_recorded_one_by_one(
    function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they are dot products but for some little thing."""

    def forward(params: Any, config: Any, token: Any, *rest: Any) -> Any:
        x = [exp(each) for each in select(params["wte"], token)]
        return [logit + x[0] for logit in model.each_row(function, params["out"], x)]

    shapes = {"wte": (5, 4), "out": (5, 4)}
    as_it_is = record(CONFIG, forward, shapes)
    assert not (as_it_is.op == Op.ROW).any()
    monkeypatch.setattr(model, "each_row", plainly)
    assert_same_tapes(as_it_is, record(CONFIG, forward, shapes))


@pytest.mark.parametrize(
    "arguments",
    [
        lambda w, x: (w, [x[0], x[0], x[1], x[2]]),  # twice the same
        lambda w, x: (w, [*x[:3], 2.0]),  # a plain number
        lambda w, x: (w, w[0]),  # parameters
        lambda w, x: ([[row[1], row[0], *row[2:]] for row in w], x),  # not in their order
        lambda w, x: ([[2.0 * weight for weight in row] for row in w], x),  # computed
        lambda w, x: ([row[1:] for row in w], x[1:]),  # parts
        lambda w, x: ([tuple(row) for row in w], x),
        lambda w, x: ([*w[:-1], [1.0, 2.0, 3.0, 4.0]], x),
    ],
)
def test_what_is_no_product_with_parameters_is_recorded_one_by_one(
    arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forward(params: Any, config: Any, token: Any, *rest: Any) -> Any:
        w, x = arguments(params["out"], [exp(each) for each in select(params["wte"], token)])
        return linear(x, w)

    shapes = {"wte": (5, 4), "out": (5, 4)}
    as_it_is = record(CONFIG, forward, shapes)
    assert not (as_it_is.op == Op.ROW).any()
    monkeypatch.setattr(model, "each_row", plainly)
    assert_same_tapes(as_it_is, record(CONFIG, forward, shapes))


def test_a_row_and_a_vector_of_different_lengths_are_refused() -> None:
    def forward(params: Any, config: Any, token: Any, *rest: Any) -> Any:
        return linear(select(params["wte"], token), params["out"])

    with pytest.raises(ValueError, match="zip"):
        record(CONFIG, forward, {"wte": (5, 4), "out": (5, 3)})
