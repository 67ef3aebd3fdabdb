"""The reference engine: documents against the reference program, shards against their tree."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from microgpt.engine import make_engine
from microgpt.engine.base import Engine, NonFiniteError, ShardGradient
from microgpt.engine.scalar import Number, ScalarEngine
from microgpt.model import GPTConfig, add_up, parameter_shapes
from microgpt.optim.reduction import shards, tree_sum
from microgpt.parameters import init_parameters, num_params, unflatten
from microgpt.tokenizer import Tokenizer
from microgpt.value import Value
from tests import reference_microgpt as reference

Vector: TypeAlias = NDArray[np.float64]

CONFIG = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=4)
SHAPES = parameter_shapes(CONFIG)
BOS = CONFIG.vocab_size - 1
DOCUMENTS = [
    [BOS, 0, 1, BOS],
    [BOS, 3, BOS],
    [BOS, 2, 2, 1, 0, 3, 1, BOS],  # longer than the context
    [BOS, BOS],
    [BOS, 1, 3, 2, BOS],
    [BOS, 0, 1, BOS],  # again
    [BOS, 2, 0, BOS],
]


@pytest.fixture(autouse=True)
def _collection_stays_on() -> Iterator[None]:
    assert gc.isenabled()
    yield
    left_on = gc.isenabled()
    gc.enable()
    assert left_on


def draw(config: GPTConfig, seed: int = 1) -> Vector:
    shapes = parameter_shapes(config)
    return 4.0 * np.array(init_parameters(shapes, random.Random(seed)))


@cache
def shard(start: int, stop: int) -> ShardGradient:
    return ScalarEngine(CONFIG).gradients(draw(CONFIG), DOCUMENTS[start:stop])


def test_make_engine() -> None:
    engine: Engine = make_engine("scalar", CONFIG)
    assert engine.name == "scalar"
    assert isinstance(engine, ScalarEngine)
    with pytest.raises(ValueError, match=r"no engine 'sclar'.*scalar"):
        make_engine("sclar", CONFIG)


def test_single_documents_have_the_bits_of_the_reference() -> None:
    shape = reference.Shape(**CONFIG.to_dict())
    for index, document in enumerate(DOCUMENTS):
        loss, gradient = reference.loss_and_gradient(shape, draw(CONFIG).tolist(), document)
        result = shard(index, index + 1)
        assert result.losses == (loss,)
        assert result.gradient.tobytes() == np.array(gradient).tobytes()


def test_result_has_the_promised_types() -> None:
    result = shard(0, 7)
    assert type(result.losses) is tuple
    assert all(type(loss) is float for loss in result.losses)
    assert result.gradient.shape == (num_params(SHAPES),)
    assert result.gradient.dtype == np.float64


@pytest.mark.parametrize("count", range(1, 8))
def test_gradient_of_a_shard_is_the_tree_sum_of_its_documents(count: int) -> None:
    singles = [shard(index, index + 1) for index in range(count)]
    together = shard(0, count)
    expected = tree_sum([single.gradient for single in singles])
    assert together.gradient.tobytes() == expected.tobytes()
    assert together.losses == tuple(single.losses[0] for single in singles)


def test_the_sum_is_a_tree_and_not_a_mean() -> None:
    singles = [shard(index, index + 1).gradient for index in range(7)]
    running = add_up(singles)
    assert shard(0, 7).gradient == pytest.approx(running, rel=1e-9, abs=1e-12)
    assert shard(0, 7).gradient.tobytes() != running.tobytes()


@pytest.mark.parametrize("shard_size", [1, 2, 4, 8])
def test_shards_of_any_size_finish_in_the_same_bits(shard_size: int) -> None:
    parts = [
        shard(cut.start, cut.start + cut.count).gradient
        for cut in shards(len(DOCUMENTS), shard_size)
    ]
    assert tree_sum(parts).tobytes() == shard(0, 7).gradient.tobytes()


def test_the_forward_pass_alone_gives_the_same_losses() -> None:
    assert ScalarEngine(CONFIG).losses(draw(CONFIG), DOCUMENTS) == shard(0, 7).losses
    with pytest.raises(ValueError, match="no token id below 5"):
        ScalarEngine(CONFIG).losses(draw(CONFIG), [[1, 5]])


def test_numbers_do_what_values_do() -> None:
    def program(x: Any, y: Any) -> Any:
        z = (x - y) / (2.0 - x) + 3 * y - 1.0 / y
        return ((-z).relu() ** 3 + z.exp().log()) * x.largest([x, y]) - (z * z) ** -0.5

    for a, b in ((-0.7, -1.3), (0.1, 0.3), (5e-324, 1.5)):
        assert program(Number(a), Number(b)).data.hex() == program(Value(a), Value(b)).data.hex()
    assert repr(Number(0.5)) == "Number(0.5)"


@pytest.mark.parametrize(
    "misuse",
    [
        lambda x: x + True,
        lambda x: "1" * x,
        lambda x: x**x,
        lambda x: (x - 8.0) ** 0.5,
        lambda x: (x - 8.0).log(),
        lambda x: (x * 0.0) ** -1,
        lambda x: (x * 1e5).exp(),
    ],
)
def test_numbers_refuse_what_values_refuse(misuse: Any) -> None:
    errors = []
    for kind in (Number, Value):
        with pytest.raises((TypeError, ValueError, ArithmeticError)) as caught:
            misuse(kind(2.0))
        errors.append(caught.type)
    assert errors[0] is errors[1]


def test_losses_come_in_the_order_of_the_documents() -> None:
    backwards = ScalarEngine(CONFIG).gradients(draw(CONFIG), DOCUMENTS[::-1])
    assert backwards.losses == shard(0, 7).losses[::-1]
    assert backwards.losses[1] == backwards.losses[6]
    assert len(set(backwards.losses)) == 6


def test_calls_do_not_influence_each_other() -> None:
    engine = ScalarEngine(CONFIG)
    params = draw(CONFIG)
    untouched = params.copy()
    engine.gradients(draw(CONFIG, seed=2), DOCUMENTS[3:])
    with pytest.raises(NonFiniteError):
        engine.gradients(np.full_like(params, np.nan), DOCUMENTS[:1])
    again = engine.gradients(params, DOCUMENTS[:2])
    assert again.gradient.tobytes() == shard(0, 2).gradient.tobytes()
    assert params.tobytes() == untouched.tobytes()


def test_parameters_may_be_read_only_and_documents_any_sequences() -> None:
    params = np.frombuffer(draw(CONFIG).tobytes(), dtype=np.float64)
    documents = tuple(tuple(document) for document in DOCUMENTS[:2])
    result = ScalarEngine(CONFIG).gradients(params, documents)
    assert result.gradient.tobytes() == shard(0, 2).gradient.tobytes()


def test_wrong_number_of_parameters() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        ScalarEngine(CONFIG).gradients(draw(CONFIG)[:-1], DOCUMENTS[:1])


def test_no_documents() -> None:
    with pytest.raises(ValueError, match="nothing"):
        ScalarEngine(CONFIG).gradients(draw(CONFIG), [])
    with pytest.raises(ValueError, match="at least one document"):
        ScalarEngine(CONFIG).losses(draw(CONFIG), [])


@pytest.mark.parametrize(
    "characters", ["a", "žlut'oučký кот 犬🐕", "".join(map(chr, range(0x4E00, 0x4E80)))]
)
def test_any_size_of_vocabulary(characters: str) -> None:
    tokenizer = Tokenizer.from_documents([characters])
    config = GPTConfig(tokenizer.vocab_size, n_embd=4, n_head=1, block_size=2)
    document = tokenizer.encode(characters[-3:])
    params = draw(config)
    result = ScalarEngine(config).gradients(params, [document])
    shape = reference.Shape(**config.to_dict())
    loss, gradient = reference.loss_and_gradient(shape, params.tolist(), document)
    assert result.losses == (loss,)
    assert result.gradient.tobytes() == np.array(gradient).tobytes()


def test_another_model_can_be_given() -> None:
    """A bigram table: the logits are a row of the only matrix."""

    def bigram(params: Any, config: Any, token: int, *_: Any) -> list[Any]:
        return list(params["table"][token])

    config = GPTConfig(vocab_size=3)
    engine = ScalarEngine(config, forward=bigram, shapes={"table": (3, 3)})
    result = engine.gradients(np.zeros(9), [[2, 0, 2]])
    assert result.losses[0] == pytest.approx(np.log(3))
    third = 1 / 6  # of the two positions' mean
    expected = [[third, third, third - 0.5], [0, 0, 0], [third - 0.5, third, third]]
    assert result.gradient.reshape(3, 3) == pytest.approx(np.array(expected))


# Numbers that are not finite


def steep(logit: float) -> Vector:
    """Parameters for which token 3 has this logit wherever it stands, and all others have 0."""
    rows = unflatten([0.0] * num_params(SHAPES), SHAPES)
    for row in rows["wpe"]:
        row[0] = 1e3  # rmsnorm makes it 2
    rows["lm_head"][3][0] = logit / 2
    return np.array([x for matrix in rows.values() for row in matrix for x in row])


@pytest.mark.parametrize("logit", [-1e4, -1e300, -1.7e308])
def test_the_document_to_blame_is_named(logit: float) -> None:
    """Token 3 has probability 0; document 1 is the first that has it as a target."""
    with pytest.raises(
        NonFiniteError, match="document 1 of the shard: the loss is not a"
    ) as caught:
        ScalarEngine(CONFIG).gradients(steep(logit), DOCUMENTS)
    assert caught.value.document == 1
    assert "logarithm" in caught.value.reason
    assert isinstance(caught.value, ArithmeticError)
    fine = ScalarEngine(CONFIG).gradients(steep(logit), [DOCUMENTS[0], DOCUMENTS[3]])
    assert np.isfinite(fine.losses).all()


def test_finite_loss_with_infinite_gradient() -> None:
    """A probability of 5e-324 has a logarithm but no finite derivative of it."""
    with pytest.raises(NonFiniteError, match="gradient is not a finite number") as caught:
        ScalarEngine(CONFIG).gradients(steep(-743.5), DOCUMENTS)
    assert caught.value.document == 1
    losses = ScalarEngine(CONFIG).losses(steep(-743.5), DOCUMENTS)
    assert losses[1] > 100.0, "the loss asks for no derivative"
    assert np.isfinite(losses).all()


def test_loss_that_is_not_a_number() -> None:
    rows = unflatten(draw(CONFIG).tolist(), SHAPES)
    rows["wte"][2][1] = float("nan")
    params = np.array([x for matrix in rows.values() for row in matrix for x in row])
    with pytest.raises(NonFiniteError, match="the loss is nan") as caught:
        ScalarEngine(CONFIG).gradients(params, DOCUMENTS)
    assert caught.value.document == 2
    assert ScalarEngine(CONFIG).gradients(params, DOCUMENTS[:2]).losses == shard(0, 2).losses


@pytest.mark.parametrize("scale", [1e100, 1e200, 1e308])
def test_huge_parameters_never_give_numbers_that_are_not_finite(scale: float) -> None:
    params = np.clip(draw(CONFIG) * scale, -1.7e308, 1.7e308)
    with pytest.raises(NonFiniteError) as caught:
        ScalarEngine(CONFIG).gradients(params, DOCUMENTS)
    assert 0 <= caught.value.document < len(DOCUMENTS)


# Garbage collection


def test_collection_is_paused_while_a_graph_grows_and_on_again_afterwards() -> None:
    seen = []

    def spy(params: Any, config: GPTConfig, *_: Any) -> list[Any]:
        seen.append(gc.isenabled())
        return list(params["table"][0])

    engine = ScalarEngine(GPTConfig(vocab_size=3), forward=spy, shapes={"table": (1, 3)})
    engine.gradients(np.zeros(3), [[2, 0, 2]])
    assert seen == [False, False]
    assert gc.isenabled()


@pytest.mark.parametrize("error", [ValueError, ZeroDivisionError, KeyError, KeyboardInterrupt])
def test_collection_is_on_again_after_an_error(error: type[BaseException]) -> None:
    def broken(*_: Any) -> list[Any]:
        raise error("broken")

    engine = ScalarEngine(CONFIG, forward=broken)
    with pytest.raises((error, NonFiniteError)):
        engine.gradients(draw(CONFIG), DOCUMENTS[:1])
    assert gc.isenabled()


def test_collection_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        ScalarEngine(CONFIG).gradients(draw(CONFIG), DOCUMENTS[:1])
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_graphs_are_freed_without_collection() -> None:
    """A graph has no cycles, so pausing the collection keeps no memory."""
    engine, params = ScalarEngine(CONFIG), draw(CONFIG)
    engine.gradients(params, DOCUMENTS[:1])
    gc.collect()
    before = len(gc.get_objects())
    gc.disable()
    try:
        engine.gradients(params, DOCUMENTS[:3])
        after = len(gc.get_objects())
    finally:
        gc.enable()
    assert after - before < 100
