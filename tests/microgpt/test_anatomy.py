"""The anatomy of a document is what training computes, to the bit, and nothing else."""

from __future__ import annotations

import gc
import math
import random
import struct
from collections.abc import Sequence

import numpy as np
import pytest

from microgpt.anatomy import Anatomy, dissect, work
from microgpt.engine.scalar import ScalarEngine
from microgpt.explain import explain
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import StateDict, init_parameters, unflatten
from microgpt.tokenizer import Tokenizer, UnknownCharacterError
from tests import reference_microgpt as reference

TOKENIZER = Tokenizer("abc")
CONFIGS = [
    GPTConfig(vocab_size=4, n_layer=1, n_embd=4, n_head=2, block_size=5),
    GPTConfig(vocab_size=4, n_layer=2, n_embd=6, n_head=3, block_size=3),
    GPTConfig(vocab_size=4, n_layer=1, n_embd=2, n_head=1, block_size=1),
]
every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: str(c.to_dict().values()))
DOCUMENT = "abcab"


def bits(numbers: Sequence[float]) -> bytes:
    return struct.pack(f"<{len(numbers)}d", *numbers)


def drawn(config: GPTConfig) -> list[float]:
    """Parameters larger than at the start of training, so that everything matters."""
    return [4 * x for x in init_parameters(parameter_shapes(config), random.Random(1))]


def params(config: GPTConfig) -> StateDict:
    return unflatten(drawn(config), parameter_shapes(config))


def anatomy(config: GPTConfig, document: str = DOCUMENT, gradients: bool = True) -> Anatomy:
    return dissect(params(config), config, TOKENIZER, document, gradients)


@every_config
def test_loss_and_gradients_are_those_of_training(config: GPTConfig) -> None:
    found, tokens = anatomy(config), TOKENIZER.encode(DOCUMENT)
    trained = ScalarEngine(config).gradients(np.array(drawn(config)), [tokens])
    assert bits([found.loss]) == bits(trained.losses)
    matrices = unflatten(trained.gradient.tolist(), parameter_shapes(config))
    assert found.gradients is not None
    assert [g.name for g in found.gradients] == [*matrices]
    for told, matrix in zip(found.gradients, matrices.values(), strict=True):
        assert (told.rows, told.columns) == (len(matrix), len(matrix[0]))
        assert told.norm == math.hypot(*(number for row in matrix for number in row))
    assert found.gradient_norm == pytest.approx(np.linalg.norm(trained.gradient), rel=1e-14)
    assert math.fsum(g.share for g in found.gradients) == pytest.approx(1.0, rel=1e-14)


@every_config
@pytest.mark.parametrize("gradients", [True, False])
def test_probabilities_are_those_of_the_original_program(
    config: GPTConfig, gradients: bool
) -> None:
    """As read a second time, by another hand: see ``reference_microgpt.py``."""
    found, tokens = anatomy(config, gradients=gradients), TOKENIZER.encode(DOCUMENT)
    network = reference.Network(reference.Shape(**config.to_dict()), drawn(config))
    number = network.tape.data
    assert len(found.positions) == min(config.block_size, len(tokens) - 1)
    for at, position in enumerate(found.positions):
        expected = network.softmax(network.step(tokens[at], at))
        assert bits(position.probabilities) == bits([number[p] for p in expected])
        assert (position.token, position.target) == (tokens[at], tokens[at + 1])
        assert position.loss == -math.log(number[expected[tokens[at + 1]]])
    losses = [position.loss for position in found.positions]
    total = 0.0
    for loss in losses:
        total += loss
    assert found.loss == total * (1 / len(losses))
    assert (found.gradients is None) == (not gradients)


def test_attention_and_ranks_are_those_that_samples_are_explained_by() -> None:
    config = CONFIGS[0]
    letters = explain(params(config), config, TOKENIZER, "abca")
    positions = anatomy(config, "abca").positions
    assert [p.attention for p in positions] == [letter.attention for letter in letters]
    assert [p.probability for p in positions] == [letter.probability for letter in letters]
    assert [p.rank for p in positions] == [letter.rank for letter in letters]
    assert [len(p.attention) for p in positions] == [config.n_layer] * 5
    assert [len(heads[0]) for p in positions for heads in p.attention] == [1, 2, 3, 4, 5]


def test_hidden_states_are_measured_after_each_part() -> None:
    config, flat = CONFIGS[1], drawn(CONFIGS[1])
    found = anatomy(config)
    assert found.parts == (
        "embedding", "layer0.attention", "layer0.mlp", "layer1.attention", "layer1.mlp"
    )  # fmt: skip
    plain = unflatten(flat, parameter_shapes(config))
    for at, position in enumerate(found.positions):
        sums = zip(plain["wte"][position.token], plain["wpe"][at], strict=True)
        assert position.norms[0] == math.hypot(*(token + place for token, place in sums))
        assert len(position.norms) == 5
    # Without a second layer the state after the first is the last, to the bit.
    short = GPTConfig(**{**config.to_dict(), "n_layer": 1})
    first = {name: plain[name] for name in parameter_shapes(short)}
    alone = dissect(first, short, TOKENIZER, DOCUMENT)
    assert [p.norms for p in alone.positions] == [p.norms[:3] for p in found.positions]


@pytest.mark.parametrize(
    ("document", "positions", "cut"),
    [("", 1, False), ("ab", 3, False), ("abca", 5, False), ("abcab", 5, True)],
)
def test_a_document_is_cut_where_training_cuts_it(document: str, positions: int, cut: bool) -> None:
    found = anatomy(CONFIGS[0], document)
    assert (len(found.positions), found.cut) == (positions, cut)
    config = CONFIGS[0]
    weights = 4 * 4 + 12 * 4 * 4  # of lm_head; of attention and the MLP
    assert work(config, document) == weights * positions


def test_letters_that_the_model_never_saw_are_named() -> None:
    with pytest.raises(UnknownCharacterError, match="the model knows no 'z'"):
        anatomy(CONFIGS[0], "az")


@pytest.mark.parametrize(
    ("scale", "gradients"), [(1e100, True), (1e100, False), (1e200, True), (1e300, True)]
)
def test_numbers_that_overflow_are_an_error_and_collection_goes_on(
    scale: float, gradients: bool
) -> None:
    huge = {name: [[scale * x for x in row] for row in m] for name, m in params(CONFIGS[0]).items()}
    with pytest.raises((ArithmeticError, ValueError)):
        dissect(huge, CONFIGS[0], TOKENIZER, "ab", gradients)
    assert gc.isenabled()


def test_a_gradient_of_zero_has_no_shares() -> None:
    """Nothing but zeros: every token is as likely, and only the output matrix could be better."""
    zeros = {name: [[0.0] * len(row) for row in m] for name, m in params(CONFIGS[0]).items()}
    found = dissect(zeros, CONFIGS[0], TOKENIZER, "ab")
    assert found.gradient_norm == 0.0
    assert found.gradients is not None
    assert [g.share for g in found.gradients] == [0.0] * len(zeros)
    assert [p.rank for p in found.positions] == [1, 1, 1]
