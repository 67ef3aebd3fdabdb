"""All engines give the same bits: those of the scalar engine."""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from microgpt.data.packed import PackedDocuments
from microgpt.engine import ENGINES, make_engine, tape_engine
from microgpt.engine.base import Engine, NonFiniteError, ShardGradient
from microgpt.engine.scalar import ScalarEngine
from microgpt.engine.tape_engine import FEW, MANY, TapeEngine
from microgpt.model import GPTConfig, exp, linear, log, parameter_shapes, select
from microgpt.numerics.vectors import Vector, vector_from_bytes, vector_to_bytes
from microgpt.optim import adam, adam_compiled
from microgpt.parameters import init_parameters, num_params
from microgpt.tokenizer import Tokenizer
from tests.marks import soak
from tests.models import VARIANTS

SHAPE = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=4)


def bits(gradient: ShardGradient) -> tuple[list[str], bytes]:
    return [loss.hex() for loss in gradient.losses], gradient.gradient.tobytes()


def parameters(shapes: Any, seed: int, scale: float = 1.0) -> Vector:
    return scale * np.array(init_parameters(shapes, random.Random(seed)))


def random_documents(config: GPTConfig, count: int, seed: int) -> list[list[int]]:
    rng = random.Random(seed)
    return [
        [rng.randrange(config.vocab_size) for _ in range(rng.randint(2, config.block_size + 4))]
        for _ in range(count)
    ]


@st.composite
def configurations(draw: st.DrawFn) -> GPTConfig:
    heads = draw(st.integers(1, 3))
    return GPTConfig(
        vocab_size=draw(st.integers(1, 11)),
        n_layer=draw(st.integers(1, 2)),
        n_embd=heads * draw(st.integers(1, 4)),
        n_head=heads,
        block_size=draw(st.integers(1, 5)),
    )


def test_engines_are_made_by_name() -> None:
    assert [make_engine(name, SHAPE).name for name in ENGINES] == ["tape", "scalar"]
    with pytest.raises(ValueError, match="there is no engine 'abacus'; the engines are tape"):
        make_engine("abacus", SHAPE)


@pytest.mark.parametrize("examples", [15, pytest.param(100, marks=pytest.mark.soak)])
def test_same_bits_for_any_model_and_documents(examples: int) -> None:
    tried = settings(
        max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    given_any = given(
        configurations(),
        st.sampled_from(sorted(VARIANTS)),
        st.integers(1, 19),
        st.integers(0, 2**32),
        st.sampled_from([0.0, 0.1, 1.0, 8.0]),
    )
    tried(given_any(same_bits))()


def test_same_bits_where_the_c_library_is_more_wrong_than_it_says() -> None:
    config = GPTConfig(vocab_size=10, n_layer=2, n_embd=4, n_head=1, block_size=5)
    same_bits(config, "gpt", count=4, seed=160, scale=1.0)


def same_bits(config: GPTConfig, name: str, count: int, seed: int, scale: float) -> None:
    variant = VARIANTS[name]
    shapes = variant.shapes(config)
    documents = random_documents(config, count, seed)
    params = parameters(shapes, seed, scale)
    outcomes: list[Any] = []
    for engine in (
        TapeEngine(config, variant.forward, shapes),
        ScalarEngine(config, variant.forward, shapes),
    ):
        try:
            outcomes.append(bits(engine.gradients(params, documents)))
        except NonFiniteError as error:
            outcomes.append(([str(error.document)], b""))
        outcomes.append(losses_of(engine, params, documents))
    assert outcomes[:2] == outcomes[2:]
    if outcomes[0][1]:
        assert outcomes[0][0] == outcomes[1], "the losses are those of the gradients"


def losses_of(engine: Engine, params: Vector, documents: list[list[int]]) -> list[str]:
    """The losses' bits, or which document has none and why."""
    try:
        return [loss.hex() for loss in engine.losses(params, documents)]
    except NonFiniteError as error:
        return [str(error.document), error.reason]


def test_same_bits_where_rows_are_few_and_wide() -> None:
    """A block of eight rows has no more than six of 24 columns; what stands first is small."""
    same_bits(GPTConfig(vocab_size=2, n_embd=6, n_head=2, block_size=1), "gpt", 1, 0, 0.1)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=12))
def test_same_bits_for_unicode_documents(texts: list[str]) -> None:
    tokenizer = Tokenizer.from_documents(texts)
    config = GPTConfig(tokenizer.vocab_size, n_embd=4, n_head=2, block_size=5)
    documents = [tokenizer.encode(text) for text in texts]
    params = parameters(parameter_shapes(config), len(texts))
    tape, scalar = (make_engine(name, config) for name in ENGINES)
    assert bits(tape.gradients(params, documents)) == bits(scalar.gradients(params, documents))


@pytest.mark.parametrize("most", [FEW, MANY])
@pytest.mark.parametrize(
    "count",
    [1, 8, FEW + 1, *map(soak, (2, 7, 9, FEW - 1, FEW, MANY - 1, MANY, 3 * MANY + 5))],
)
def test_same_bits_for_any_number_of_documents(
    count: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tape_engine, "MANY_BYTES", 10**9 if most == MANY else 0)
    documents = random_documents(SHAPE, count, seed=count)
    params = parameters(parameter_shapes(SHAPE), 1)
    tape, scalar = (make_engine(name, SHAPE) for name in ENGINES)
    expected = scalar.gradients(params, documents)
    assert bits(tape.gradients(params, documents)) == bits(expected)
    assert tape.losses(params, documents) == scalar.losses(params, documents) == expected.losses


def test_same_bits_at_the_default_shape() -> None:
    config = GPTConfig(vocab_size=27)
    documents = [*random_documents(config, 9, seed=3), [26, 0, 26]]
    params = parameters(parameter_shapes(config), 42)
    tape, scalar = (make_engine(name, config) for name in ENGINES)
    assert bits(tape.gradients(params, documents)) == bits(scalar.gradients(params, documents))


def test_a_document_gives_the_same_bits_in_any_company() -> None:
    engine = make_engine("tape", SHAPE)
    params = parameters(parameter_shapes(SHAPE), 2)
    documents = random_documents(SHAPE, 23, seed=5)
    alone = [engine.gradients(params, [document]).losses[0] for document in documents]
    assert list(engine.gradients(params, documents).losses) == alone
    assert list(engine.gradients(params, documents[::-1]).losses) == alone[::-1]
    assert list(engine.losses(params, documents[::-1])) == alone[::-1]
    assert [engine.losses(params, [document])[0] for document in documents] == alone


def test_gradients_after_losses_and_losses_after_gradients() -> None:
    """One leaves nothing in the engine's memory that the other would read."""
    documents, others = (random_documents(SHAPE, 11, seed) for seed in (1, 2))
    params = parameters(parameter_shapes(SHAPE), 3)
    engine, fresh = make_engine("tape", SHAPE), make_engine("tape", SHAPE)
    expected = bits(fresh.gradients(params, documents))
    for _ in range(2):
        assert [loss.hex() for loss in engine.losses(params, documents)] == expected[0]
        engine.losses(2.0 * params, others)
        assert bits(engine.gradients(params, documents)) == expected


def test_a_modified_model_trains() -> None:
    variant = VARIANTS["swish"]
    config = GPTConfig(vocab_size=6, n_layer=3, n_embd=8, n_head=2, block_size=6)
    shapes = variant.shapes(config)
    engine = TapeEngine(config, variant.forward, shapes)
    documents = [[5, 0, 1, 2, 3, 4, 5], [5, 0, 1, 2, 5], [5, 2, 3, 5], [5, 4, 3, 2, 1, 0, 5]]
    params, state = parameters(shapes, 1), adam_compiled.init(num_params(shapes))
    losses = []
    for step in range(60):
        result = engine.gradients(params, documents)
        losses.append(sum(result.losses) / 4)
        params, state = adam_compiled.update(
            adam.AdamConfig(), params, result.gradient / 4, state, step, 60
        )
    assert losses[0] > 1.5 > 0.8 > losses[-1]
    scalar = ScalarEngine(config, variant.forward, shapes)
    assert bits(scalar.gradients(params, documents)) == bits(engine.gradients(params, documents))


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("bad", [0, 2, 9])
def test_a_number_that_is_not_finite_names_the_document(name: str, bad: int) -> None:
    """Token 4 has an embedding that no norm can scale; the other documents are fine."""
    shapes = parameter_shapes(SHAPE)
    params = parameters(shapes, 1)
    params[4 * 4 : 5 * 4] = math.inf
    documents = [[1, 2, 3, 1]] * 10
    documents[bad] = [1, 4, 2, 3]
    engine = make_engine(name, SHAPE)
    for compute in (engine.gradients, engine.losses):
        with pytest.raises(NonFiniteError) as caught:
            compute(params, documents)
        assert caught.value.document == bad
        assert f"document {bad} of the shard: " in str(caught.value)


def test_an_engine_goes_on_after_a_number_that_is_not_finite() -> None:
    params = parameters(parameter_shapes(SHAPE), 1)
    documents = random_documents(SHAPE, 11, seed=1)
    engine = make_engine("tape", SHAPE)
    expected = bits(engine.gradients(params, documents))
    with pytest.raises(NonFiniteError):
        engine.gradients(np.full_like(params, math.nan), documents)
    assert bits(engine.gradients(params, documents)) == expected
    with pytest.raises(NonFiniteError):
        engine.losses(np.full_like(params, math.nan), documents)
    assert bits(engine.gradients(params, documents)) == expected


def inverse_forward(
    params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
) -> list[Any]:
    """Small numbers have an inverse, but its slope is not a finite number."""
    return linear([x**-1 * 1e-170 for x in select(params["wte"], token)], params["out"])


def test_a_document_may_have_a_loss_and_no_gradient() -> None:
    shapes = {"wte": (5, 4), "out": (5, 4)}
    params = np.full(40, 0.5)
    params[4:8] = 1e-170  # token 1
    documents = [[1, 2], [3, 4, 2, 3], [2, 1, 3]] * 4
    tape, scalar = (kind(SHAPE, inverse_forward, shapes) for kind in (TapeEngine, ScalarEngine))
    losses = tape.losses(params, documents)
    assert losses == scalar.losses(params, documents)
    assert all(map(math.isfinite, losses))
    for engine in (tape, scalar):
        with pytest.raises(NonFiniteError) as caught:
            engine.gradients(params, documents)
        assert caught.value.document == 0
        assert engine.gradients(params, documents[1:2]).losses == losses[1:2]


def exponential_forward(
    params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
) -> list[Any]:
    """Overflows for tokens with large embeddings, at any position, also at unneeded ones."""
    return linear([exp(x) for x in select(params["wte"], token)], params["out"])


def logarithm_forward(
    params: Any, config: GPTConfig, token: Any, position: int, keys: Any, values: Any
) -> list[Any]:
    return linear([log(x) for x in select(params["wte"], token)], params["out"])


@pytest.mark.parametrize(
    ("forward", "poison"),
    [(exponential_forward, 800.0), (logarithm_forward, 0.0), (logarithm_forward, -1.0)],
)
def test_engines_agree_which_document_overflows(forward: Any, poison: float) -> None:
    shapes = {"wte": (5, 4), "out": (5, 4)}
    params = np.full(40, 0.5)
    params[0:4] = poison  # token 0, with which a lane goes on after its document has ended
    good = [[1, 2], [3, 4, 2, 1]] * 5
    engines = [kind(SHAPE, forward, shapes) for kind in (TapeEngine, ScalarEngine)]
    with pytest.raises(NonFiniteError) as tape:
        engines[0].gradients(params, [*good, [1, 0, 2], [0, 1]])
    with pytest.raises(NonFiniteError) as scalar:
        engines[1].gradients(params, [*good, [1, 0, 2], [0, 1]])
    assert (tape.value.document, str(tape.value)) == (10, str(scalar.value))
    expected = [str(10), scalar.value.reason]
    for engine in engines:
        assert losses_of(engine, params, [*good, [1, 0, 2], [0, 1]]) == expected


def test_what_overflows_after_the_end_of_a_document_does_not_matter() -> None:
    """Lanes whose document has ended go on with token 0, which overflows: but nobody reads that."""
    shapes = {"wte": (5, 4), "out": (5, 4)}
    params = np.full(40, 0.5)
    params[0:4] = 800.0
    tape, scalar = (kind(SHAPE, exponential_forward, shapes) for kind in (TapeEngine, ScalarEngine))
    documents = [[1, 2], [3, 4, 2, 1], [2, 0]]  # token 0 is predicted, never read
    expected = scalar.gradients(params, documents)
    assert bits(tape.gradients(params, documents)) == bits(expected)
    assert tape.losses(params, documents) == expected.losses


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([], "at least one document"),
        ([[1, 2], [3]], "at least two tokens"),
        ([[1, 5]], "tokens lie between 0 and 4"),
        ([[1, -1]], "tokens lie between 0 and 4"),
    ],
)
def test_documents_that_cannot_be(documents: list[list[int]], message: str) -> None:
    engine, params = make_engine("tape", SHAPE), parameters(parameter_shapes(SHAPE), 1)
    for compute in (engine.gradients, engine.losses):
        with pytest.raises(ValueError, match=message):
            compute(params, documents)


def test_documents_from_a_message() -> None:
    """They are arrays, which may be read-only or parts of larger ones."""
    engine, params = make_engine("tape", SHAPE), parameters(parameter_shapes(SHAPE), 1)
    documents = random_documents(SHAPE, 40, seed=8)
    packed = PackedDocuments.from_bytes(*PackedDocuments.pack(documents).to_bytes())
    for part in (packed, packed[3:17], packed[39:]):
        lists = [list(document) for document in part]
        assert bits(engine.gradients(params, part)) == bits(engine.gradients(params, lists))
        assert engine.losses(params, part) == engine.losses(params, lists)


def test_lengths_that_do_not_add_up() -> None:
    engine, params = make_engine("tape", SHAPE), parameters(parameter_shapes(SHAPE), 1)
    tokens = np.array([1, 2, 3], np.int32)
    for lengths in ([2], [2, 2]):
        documents = PackedDocuments(tokens, np.array(lengths, np.int32))
        with pytest.raises(ValueError, match="do not add up"):
            engine.gradients(params, documents)


def test_weights_from_a_message() -> None:
    """They are read-only, or not contiguous."""
    engine, params = make_engine("tape", SHAPE), parameters(parameter_shapes(SHAPE), 1)
    for same in (params, vector_from_bytes(vector_to_bytes(params)), np.repeat(params, 2)[::2]):
        assert bits(engine.gradients(same, [[1, 2]])) == bits(engine.gradients(params, [[1, 2]]))
        state: Any = (same, same * same)
        adam_compiled.update(adam.AdamConfig(), same, same, adam.AdamState(*state), 0, 1)


def test_parameters_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"the model has 248 parameters, not \(3,\)"):
        make_engine("tape", SHAPE).gradients(np.zeros(3), [[1, 2]])
    with pytest.raises(ValueError, match=r"the model has 248 parameters, not \(3,\)"):
        make_engine("tape", SHAPE).losses(np.zeros(3), [[1, 2]])
