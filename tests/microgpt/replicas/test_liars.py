"""Liars: what they send in place of the truth, where, and how often."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from microgpt.data.packed import PackedDocuments
from microgpt.distribution import Distribution
from microgpt.engine import make_engine
from microgpt.engine.answering import Answerer
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import Vector, vector_from_map, vector_to_map
from microgpt.optim.adam import AdamConfig
from microgpt.parameters import num_params
from microgpt.protocol.messages import ReplicaResult, ReplicaTask, ShardResult, Task
from microgpt.replicas.byzantine import MEMORY, NOISE, Knowledge, Liar
from microgpt.replicas.recipe import make_recipe

MODEL = GPTConfig(vocab_size=4, n_layer=1, n_embd=2, n_head=1, block_size=4)
SHAPES = parameter_shapes(MODEL)
SIZE = num_params(SHAPES)
PARAMS = np.array([0.1 * ((place * 7) % 11 - 5) for place in range(SIZE)])
TOKENS, LENGTHS = PackedDocuments.pack([[3, 0, 1, 3], [3, 2, 3]]).to_bytes()


def answerer(lie: str = "", compress: str = "") -> Answerer:
    recipe = make_recipe(Distribution(replicas=4, compress=compress), AdamConfig(), 42)
    return Answerer(make_engine("scalar", MODEL), SHAPES, recipe, Liar(lie, 1) if lie else None)


def shard(training: bool = True) -> Task:
    return Task("run", "epoch", 0, 0, 2, TOKENS, LENGTHS, training, round=5)


def of_replica(replica: int, round: int) -> ReplicaTask:
    return ReplicaTask(
        "run", "epoch", 0, 0, 2, TOKENS, LENGTHS, round=round, replica=replica, clock=0, steps=0,
        elastic=0.0, snapshot=False, redo=False, updates=10,
    )  # fmt: skip


def answer(who: Answerer, task: Task) -> ShardResult:
    given = who.answer(vector_to_map(PARAMS, SHAPES), task)
    assert isinstance(given, ShardResult)
    return replace(given, seconds=0.0)


def vector(given: ShardResult) -> Vector:
    return vector_from_map(given.gradient, SHAPES)


def test_a_sign_is_flipped_and_the_losses_stay() -> None:
    true, false = answer(answerer(), shard()), answer(answerer("sign-flip"), shard())
    assert vector(false).tolist() == (-vector(true)).tolist()
    assert replace(false, gradient=true.gradient) == true
    evaluation = shard(training=False)
    assert answer(answerer("sign-flip"), evaluation) == answer(answerer(), evaluation)


def test_there_is_one_lie_in_a_round() -> None:
    liar, honest = answerer("sign-flip"), answerer()
    truth = vector(answer(honest, of_replica(0, 7))).tolist()
    told = [(2, 7), (0, 7), (2, 7), (1, 8), (2, 8)]  # replica, round
    lies = [vector(answer(liar, of_replica(*place))).tolist() != truth for place in told]
    assert lies == [True, False, True, True, False]


def test_lies_are_compressed_like_the_truth() -> None:
    true = answer(answerer(compress="f32"), of_replica(0, 1))
    false = answer(answerer("sign-flip", "f32"), of_replica(0, 1))
    assert isinstance(true, ReplicaResult)
    assert isinstance(false, ReplicaResult)
    numbers = np.frombuffer(true.payload, "<f4")
    assert (-numbers).tolist() == np.frombuffer(false.payload, "<f4").tolist()
    assert np.abs(numbers).max() > 0.0


def test_a_liar_on_its_own_guesses_from_what_it_should_have_sent() -> None:
    vectors = [np.array([float(n), -2.0 * n]) for n in range(1, MEMORY + 4)]
    liar = Liar("ipm", 1)
    told = [liar(vector, 4) for vector in vectors]
    assert told[0].tolist() == [-0.1, 0.2]
    last = np.mean(vectors[-MEMORY:], axis=0)  # the earliest are forgotten
    assert told[-1] == pytest.approx(-0.1 * last, rel=1e-15)
    by_document = Liar("ipm", 1)
    by_document(np.array([8.0]), 8)
    assert by_document(np.array([2.0]), 2).tolist() == [-0.2], "of two documents, as if alike"


def test_liars_that_are_told_honest_vectors_use_these() -> None:
    known = Knowledge(2)
    honest = [np.array([9.0, 9.0]), np.array([2.0, -4.0]), np.array([6.0, 0.0])]
    assert [known(vector, 2) is vector for vector in honest] == [True] * 3
    liar = Liar("ipm", 1, known)
    assert liar(np.array([-100.0, 100.0]), 2) == pytest.approx([-0.4, 0.2])
    assert liar(np.array([-100.0, 100.0]), 4) == pytest.approx([-0.8, 0.4])
    alie = Liar("alie", 1, known)(np.zeros(2), 2)
    assert alie == pytest.approx([4.0 - 1.5 * 2.0, -2.0 - 1.5 * 2.0])


def test_noise_is_of_the_seed_and_new_each_time() -> None:
    zeros = np.zeros(500)
    one, same, other = Liar("noise", 1), Liar("noise", 1), Liar("noise", 2)
    first, second = one(zeros, 1), one(zeros, 1)
    assert first.tolist() == same(zeros, 1).tolist()
    assert first.tolist() != second.tolist() != other(zeros, 1).tolist()
    assert 0.8 * NOISE < float(np.std(first)) < 1.2 * NOISE
