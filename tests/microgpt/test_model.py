"""The GPT: shapes, one text for every kind of number, causality, numeric gradients."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from itertools import accumulate
from typing import Any

import pytest

from microgpt import model
from microgpt.model import (
    GPTConfig,
    add_up,
    attention,
    document_loss,
    dot_product,
    each_row,
    gpt,
    linear,
    num_positions,
    parameter_shapes,
    position_losses,
    relu,
    rmsnorm,
    select,
    softmax,
)
from microgpt.parameters import StateDict, init_parameters, num_params, unflatten
from microgpt.value import Value
from tests import reference_microgpt as reference

TINY = GPTConfig(vocab_size=3, n_layer=1, n_embd=4, n_head=2, block_size=3)
CONFIGS = [
    TINY,
    GPTConfig(vocab_size=5, n_layer=2, n_embd=8, n_head=4, block_size=4),
    GPTConfig(vocab_size=5, n_layer=1, n_embd=8, n_head=1, block_size=4),
    GPTConfig(vocab_size=5, n_layer=1, n_embd=8, n_head=8, block_size=4),
    GPTConfig(vocab_size=4, n_layer=1, n_embd=8, n_head=2, block_size=1),
    GPTConfig(vocab_size=2, n_layer=3, n_embd=1, n_head=1, block_size=2),
    GPTConfig(vocab_size=4, n_layer=1, n_embd=6, n_head=3, block_size=5),
]
every_config = pytest.mark.parametrize(
    "config", CONFIGS, ids=lambda c: str(tuple(c.to_dict().values()))
)


def bits(numbers: Any) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def draw(config: GPTConfig, seed: int = 1, scale: float = 4.0) -> list[float]:
    """Parameters larger than at the start of training, so that everything matters."""
    return [scale * x for x in init_parameters(parameter_shapes(config), random.Random(seed))]


def floats(config: GPTConfig, flat: list[float] | None = None) -> StateDict:
    return unflatten(draw(config) if flat is None else flat, parameter_shapes(config))


def as_values(params: StateDict) -> dict[str, list[list[Value]]]:
    return {name: [[Value(x) for x in row] for row in rows] for name, rows in params.items()}


def document(config: GPTConfig, length: int, seed: int = 2) -> list[int]:
    rng, bos = random.Random(seed), config.vocab_size - 1
    return [bos, *(rng.randrange(bos) for _ in range(length)), bos]


# Configuration and shapes


def test_default_shape_is_microgpts() -> None:
    config = GPTConfig(vocab_size=27)
    assert config.to_dict() == {
        "vocab_size": 27,
        "n_layer": 1,
        "n_embd": 16,
        "n_head": 4,
        "block_size": 16,
    }
    assert config.head_dim == 4
    assert num_params(parameter_shapes(config)) == 4192


def test_shapes_stand_in_canonical_order() -> None:
    config = GPTConfig(vocab_size=7, n_layer=2, n_embd=6, n_head=3, block_size=5)
    assert list(parameter_shapes(config).items()) == [
        ("wte", (7, 6)),
        ("wpe", (5, 6)),
        ("lm_head", (7, 6)),
        ("layer0.attn_wq", (6, 6)),
        ("layer0.attn_wk", (6, 6)),
        ("layer0.attn_wv", (6, 6)),
        ("layer0.attn_wo", (6, 6)),
        ("layer0.mlp_fc1", (24, 6)),
        ("layer0.mlp_fc2", (6, 24)),
        ("layer1.attn_wq", (6, 6)),
        ("layer1.attn_wk", (6, 6)),
        ("layer1.attn_wv", (6, 6)),
        ("layer1.attn_wo", (6, 6)),
        ("layer1.mlp_fc1", (24, 6)),
        ("layer1.mlp_fc2", (6, 24)),
    ]


@every_config
def test_shapes_agree_with_the_reference(config: GPTConfig) -> None:
    sizes = reference.matrix_sizes(reference.Shape(**config.to_dict()))
    assert [(n, r, c) for n, (r, c) in parameter_shapes(config).items()] == sizes


@pytest.mark.parametrize("field", ["vocab_size", "n_layer", "n_embd", "n_head", "block_size"])
@pytest.mark.parametrize("wrong", [0, -3, 1.0, 2.5, "4", None, True])
def test_every_field_is_a_whole_number_of_at_least_one(field: str, wrong: Any) -> None:
    fields = {"vocab_size": 27, "n_embd": 8, "n_head": 1, field: wrong}
    with pytest.raises(ValueError, match=f"{field} must be a whole number of at least 1"):
        GPTConfig(**fields)


def test_the_message_shows_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"n_layer must be .* not '4'"):
        GPTConfig(vocab_size=27, n_layer="4")  # type: ignore[arg-type]


@pytest.mark.parametrize(("n_embd", "n_head"), [(10, 4), (4, 8), (1, 2)])
def test_heads_share_the_width_equally(n_embd: int, n_head: int) -> None:
    with pytest.raises(
        ValueError, match=rf"n_embd \({n_embd}\) .* multiple of n_head \({n_head}\)"
    ):
        GPTConfig(vocab_size=27, n_embd=n_embd, n_head=n_head)


def test_config_is_frozen_hashable_and_comes_back_from_its_map() -> None:
    config = GPTConfig(vocab_size=27, n_layer=3)
    with pytest.raises(FrozenInstanceError):
        config.n_layer = 1  # type: ignore[misc]
    assert GPTConfig(**config.to_dict()) == config
    assert len({config, GPTConfig(vocab_size=27, n_layer=3)}) == 1


# The small functions


def test_add_up_goes_from_the_left_without_compensation() -> None:
    tenths = [0.1] * 10
    assert math.fsum(tenths) == 1.0  # also what sum() gives from Python 3.12 on
    assert add_up(tenths) == 0.9999999999999999
    assert add_up([1e16, 1.0, -1e16]) == 0.0
    assert add_up([1e16, -1e16, 1.0]) == 1.0
    values = [Value(x) for x in tenths]
    assert add_up(values).data == 0.9999999999999999


def test_add_up_of_random_numbers_is_a_running_sum() -> None:
    rng = random.Random(1)
    for length in (1, 2, 3, 10, 100):
        numbers = [rng.gauss(0, 1) for _ in range(length)]
        assert bits([add_up(numbers)]) == bits([list(accumulate(numbers, initial=0.0))[-1]])


def test_add_up_starts_from_zero() -> None:
    assert add_up([]) == 0.0
    assert bits([add_up([-0.0])]) == bits([0.0])
    assert bits([add_up([Value(-0.0)]).data]) == bits([0.0])


def test_linear_is_matrix_times_vector() -> None:
    assert linear([1.0, 10.0], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]) == [21.0, 43.0, 65.0]
    with pytest.raises(ValueError, match="zip"):
        linear([1.0, 2.0, 3.0], [[1.0, 2.0]])


def test_each_row_is_taken_with_the_vector() -> None:
    w = [[1.0, 2.0], [3.0, 4.0]]
    assert each_row(lambda row, x: [*row, *x], w, [5.0]) == [[1.0, 2.0, 5.0], [3.0, 4.0, 5.0]]
    assert each_row(lambda row, x: len(x), w, []) == [0, 0]
    assert each_row(dot_product, w, (1.0, 10.0)) == [21.0, 43.0]
    assert [each.data for each in each_row(dot_product, w, [Value(1.0), Value(10.0)])] == [21, 43]


def test_softmax_is_a_distribution_in_the_order_of_the_logits() -> None:
    probabilities = softmax([1.0, 2.0, 0.0])
    assert sum(probabilities) == pytest.approx(1.0, abs=1e-15)
    total = math.exp(-1) + 1 + math.exp(-2)
    assert probabilities == pytest.approx([math.exp(-1) / total, 1 / total, math.exp(-2) / total])
    assert softmax([5.0]) == [1.0]


def test_softmax_does_not_overflow() -> None:
    assert softmax([1e4, 0.0, -1e4]) == [1.0, 0.0, 0.0]
    assert softmax([-1e300, -1e300]) == [0.5, 0.5]
    assert [p.data for p in softmax([Value(1e4), Value(0.0)])] == [1.0, 0.0]


def test_no_gradient_flows_through_the_shift_of_softmax() -> None:
    logits = [Value(x) for x in (0.3, 2.0, -1.0)]
    probabilities = softmax(logits)
    probabilities[0].backward()
    p = [probability.data for probability in probabilities]
    expected = [p[0] * (1 - p[0]), -p[0] * p[1], -p[0] * p[2]]
    assert [logit.grad for logit in logits] == pytest.approx(expected, abs=1e-15)


def test_rmsnorm_gives_a_root_mean_square_of_one() -> None:
    x = rmsnorm([3.0, -4.0, 0.0, 12.0])
    assert sum(xi * xi for xi in x) / 4 == pytest.approx(1.0, abs=1e-6)
    assert x[0] / x[3] == pytest.approx(3 / 12)
    assert rmsnorm([0.0, 0.0]) == [0.0, 0.0]


@pytest.mark.parametrize("x", [2.5, 0.0, -0.0, -1.0, math.inf, -math.inf, math.nan])
def test_relu_of_a_float_is_relu_of_a_value(x: float) -> None:
    assert bits([relu(x)]) == bits([relu(Value(x)).data])


def test_attention_to_one_position_is_its_value() -> None:
    assert attention([1.0, 2.0], [[0.5, 0.1]], [[7.0, -3.0]]) == [7.0, -3.0]


def test_attention_averages_by_similarity() -> None:
    same = attention([1.0, 0.0], [[0.0, 1.0], [0.0, -1.0]], [[2.0, 4.0], [6.0, 8.0]])
    assert same == pytest.approx([4.0, 6.0])
    sharp = attention([100.0, 0.0], [[0.0, 0.0], [10.0, 0.0]], [[2.0, 4.0], [6.0, 8.0]])
    assert sharp == pytest.approx([6.0, 8.0])
    q, key = [2.0, 0.0, 0.0, 0.0], [3.0, 0.0, 0.0, 0.0]
    weight = 1 / (1 + math.exp(-6.0 / math.sqrt(4)))
    assert attention(q, [key, [0.0] * 4], [[1.0] * 4, [0.0] * 4]) == pytest.approx([weight] * 4)


def test_select_takes_an_index_or_asks_it() -> None:
    class Later:
        def select(self, items: Any) -> Any:
            return ("later", items)

    assert select("abc", 1) == "b"
    assert select("abc", Later()) == ("later", "abc")
    with pytest.raises(IndexError):
        select([1.0], 1)


# One text for every kind of number


@every_config
def test_floats_and_values_have_the_same_bits(config: GPTConfig) -> None:
    params = floats(config)
    values = as_values(params)
    caches: list[Any] = [[[] for _ in range(config.n_layer)] for _ in range(4)]
    tokens = document(config, config.block_size)
    for position in range(config.block_size):
        by_float = gpt(params, config, tokens[position], position, caches[0], caches[1])
        by_value = gpt(values, config, tokens[position], position, caches[2], caches[3])
        assert len(by_float) == config.vocab_size
        assert all(type(logit) is float for logit in by_float)
        assert bits(by_float) == bits([logit.data for logit in by_value])
    assert all(len(layer) == config.block_size for cache in caches for layer in cache)
    by_float_loss = document_loss(params, config, tokens)
    assert bits([by_float_loss]) == bits([document_loss(values, config, tokens).data])


@every_config
def test_loss_and_gradient_have_the_bits_of_the_reference(config: GPTConfig) -> None:
    flat = draw(config)
    shape = reference.Shape(**config.to_dict())
    for length in (1, config.block_size - 1, config.block_size + 3):
        tokens = document(config, length)
        params = as_values(floats(config, flat))
        loss = document_loss(params, config, tokens)
        loss.backward()
        gradient = [x.grad for rows in params.values() for row in rows for x in row]
        expected_loss, expected_gradient = reference.loss_and_gradient(shape, flat, tokens)
        assert bits([loss.data]) == bits([expected_loss])
        assert bits(gradient) == bits(expected_gradient)


def test_the_default_model_has_the_bits_of_the_reference() -> None:
    config = GPTConfig(vocab_size=27)
    flat = draw(config, seed=42, scale=1.0)
    tokens = [26, 4, 12, 12, 0, 26]  # emma
    params = as_values(floats(config, flat))
    loss = document_loss(params, config, tokens)
    loss.backward()
    gradient = [x.grad for rows in params.values() for row in rows for x in row]
    expected = reference.loss_and_gradient(reference.Shape(**config.to_dict()), flat, tokens)
    assert bits([loss.data, *gradient]) == bits([expected[0], *expected[1]])
    assert loss.data == pytest.approx(math.log(27), abs=0.5)


# Documents


def test_number_of_positions() -> None:
    assert num_positions(TINY, [2, 0, 2]) == 2
    assert num_positions(TINY, [2, 2]) == 1
    assert num_positions(TINY, [2, 0, 1, 2]) == 3
    assert num_positions(TINY, [2, 0, 1, 0, 1, 0, 1, 2]) == TINY.block_size == 3


@pytest.mark.parametrize("tokens", [[], [2]])
def test_a_document_has_two_tokens(tokens: list[int]) -> None:
    for function in (position_losses, document_loss):
        with pytest.raises(ValueError, match=f"at least two tokens, this one has {len(tokens)}"):
            function(floats(TINY), TINY, tokens)


def test_loss_is_the_mean_over_the_positions() -> None:
    tokens = document(CONFIGS[1], 2)
    losses = position_losses(floats(CONFIGS[1]), CONFIGS[1], tokens)
    assert len(losses) == 3
    loss = document_loss(floats(CONFIGS[1]), CONFIGS[1], tokens)
    assert loss == (1 / 3) * ((losses[0] + losses[1]) + losses[2])


def test_untrained_zeros_predict_nothing() -> None:
    params = {name: [[0.0] * c] * r for name, (r, c) in parameter_shapes(TINY).items()}
    assert document_loss(params, TINY, [2, 0, 2]) == pytest.approx(math.log(3))


def test_long_documents_are_cut_to_the_context() -> None:
    long = [2, 0, 1, 0, 1, 1, 0, 2]
    whole = position_losses(floats(TINY), TINY, long)
    assert whole == position_losses(floats(TINY), TINY, long[:4])
    assert len(whole) == TINY.block_size
    changed = [*long[:4], 0, 0, 0, 2]
    assert document_loss(floats(TINY), TINY, long) == document_loss(floats(TINY), TINY, changed)


@every_config
def test_causality(config: GPTConfig) -> None:
    """Position p looks at tokens 0 to p, and its loss also at the target p + 1; at no other."""
    params = floats(config)
    tokens = document(config, config.block_size)
    losses = position_losses(params, config, tokens)
    for changed in range(len(tokens)):
        other = list(tokens)
        other[changed] = (other[changed] + 1) % config.vocab_size
        others = position_losses(params, config, other)
        assert others[: max(0, changed - 1)] == losses[: max(0, changed - 1)]
        # And what is looked at matters; one-wide vectors carry only a sign.
        if config.n_embd > 1 and changed < len(losses):
            assert others[changed] != losses[changed]


def test_position_matters() -> None:
    params = floats(TINY)
    losses = position_losses(params, TINY, [0, 0, 0, 0])
    assert len(set(losses)) == 3


def test_parameters_of_unused_rows_have_no_gradient() -> None:
    config = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=6)
    params = as_values(floats(config))
    document_loss(params, config, [4, 0, 2, 4]).backward()
    used = [any(x.grad for x in row) for row in params["wte"]]
    assert used == [True, False, True, False, True]
    assert [any(x.grad for x in row) for row in params["wpe"]] == [True] * 3 + [False] * 3
    assert all(any(x.grad for x in row) for row in params["lm_head"])


def test_another_forward_can_be_given() -> None:
    calls = []

    def uniform(
        params: Any, config: GPTConfig, token: int, position: int, keys: Any, values: Any
    ) -> list[float]:
        calls.append((token, position, len(keys), len(values)))
        return [0.0] * config.vocab_size

    config = GPTConfig(vocab_size=4, n_layer=2, block_size=8)
    assert document_loss({}, config, [3, 1, 2, 3], uniform) == pytest.approx(math.log(4))
    assert calls == [(3, 0, 2, 2), (1, 1, 2, 2), (2, 2, 2, 2)]


@pytest.mark.parametrize(
    "config", [TINY, CONFIGS[4], CONFIGS[6]], ids=["tiny", "block 1", "3 heads"]
)
@pytest.mark.parametrize("length", [1, 7])
def test_gradient_against_differences(config: GPTConfig, length: int) -> None:
    """Every parameter of a small model, by the float forward pass alone."""
    shapes, tokens = parameter_shapes(config), document(config, length, seed=5)
    flat = draw(config, seed=3)
    params = as_values(unflatten(flat, shapes))
    document_loss(params, config, tokens).backward()
    gradient = [x.grad for rows in params.values() for row in rows for x in row]
    h = 1e-5
    for index in range(len(flat)):
        sides = []
        for step in (h, -h):
            moved = list(flat)
            moved[index] += step
            sides.append(document_loss(unflatten(moved, shapes), config, tokens))
        assert gradient[index] == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-8)


def test_a_step_against_the_gradient_lowers_the_loss() -> None:
    config, tokens = CONFIGS[1], document(CONFIGS[1], 3)
    flat = draw(config)
    params = as_values(floats(config, flat))
    loss = document_loss(params, config, tokens)
    loss.backward()
    gradient = [x.grad for rows in params.values() for row in rows for x in row]
    better = [x - 1e-3 * g for x, g in zip(flat, gradient, strict=True)]
    lower = document_loss(floats(config, better), config, tokens)
    predicted = loss.data - 1e-3 * sum(g * g for g in gradient)
    assert predicted <= lower < loss.data or lower == pytest.approx(predicted, rel=1e-3)


@pytest.mark.parametrize("function", [model.exp, model.log])
def test_functions_of_floats_and_values_agree(function: Callable[[Any], Any]) -> None:
    for number in (0.3, 1.0, 17.5):
        assert bits([function(number)]) == bits([function(Value(number)).data])
