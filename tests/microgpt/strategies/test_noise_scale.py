"""The gradient noise scale, against gradients of single documents and NumPy's covariance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import microgpt
from coordinator.core.events import Level, StrategyNumbers
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.engine import make_engine
from microgpt.model import GPTConfig
from microgpt.optim.reduction import Shard
from microgpt.strategies.base import Result, Round, StrategyError, View
from microgpt.strategies.noise_scale import (
    DECAY,
    SLOT,
    Estimate,
    NoiseScale,
    averaged,
    estimated,
)
from microgpt.strategies.registry import load_strategy
from microgpt.training import initial_state
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.coordinator.core.test_coordinator_state import A, B
from tests.processes import NAMES, TINY_MODEL
from tests.toy_problem import CORPUS, Pull, settings, train

CUTS = [(4, 4), (8, 8, 8, 8), (1, 1, 1, 1), (4, 4, 2), (1, 2, 5, 16)]


def results_of(gradients: NDArray[np.float64], cut: tuple[int, ...]) -> list[Result]:
    """The sums of these documents' gradients by shards of these sizes."""
    found, begin = [], 0
    for count in cut:
        total = gradients[begin : begin + count].sum(axis=0)
        found.append(Result(Shard(begin, count), np.zeros(count), total))
        begin += count
    return found


@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_both_numbers_are_right_in_the_mean_whatever_the_shards(cut: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    mean = np.array([0.3, -0.2, 0.1, 0.0, 0.5])
    mixing = rng.normal(size=(5, 5))
    told = []
    for _ in range(1500):
        gradients = mean + rng.normal(size=(sum(cut), 5)) @ mixing
        estimate = estimated(results_of(gradients, cut))
        assert estimate is not None
        told.append(estimate)
    truth = Estimate(float(np.trace(mixing.T @ mixing)), float(mean @ mean))
    error = np.std(told, axis=0) / np.sqrt(len(told))
    assert (np.abs(np.mean(told, axis=0) - truth) < 4.0 * error).all()
    assert error[0] < 0.05 * truth.variance


def test_with_a_document_in_each_shard_it_is_the_covariance_of_numpy() -> None:
    """Gradients of real documents, one by one, by the engine whose every number is a node."""
    corpus = Corpus(NAMES, 42)
    model = GPTConfig(corpus.tokenizer.vocab_size, n_layer=1, n_embd=4, n_head=2, block_size=8)
    config = TrainingConfig(model, steps=1, batch_size=16)
    params = initial_state(config, corpus).params
    scalar, tape = make_engine("scalar", model), make_engine("tape", model)
    documents = corpus.documents(0, 16)
    each = np.array([scalar.gradients(params, [document]).gradient for document in documents])
    variance = float(np.trace(np.cov(each, rowvar=False)))
    square = float(np.sum(each.mean(axis=0) ** 2)) - variance / 16
    found = estimated([Result(Shard(n, 1), np.zeros(1), each[n]) for n in range(16)])
    assert found == pytest.approx(Estimate(variance, square), rel=1e-12)
    fours = [
        Result(Shard(n, 4), np.zeros(4), tape.gradients(params, documents[n : n + 4]).gradient)
        for n in range(0, 16, 4)
    ]
    means = each.reshape(4, 4, -1).mean(axis=1)
    between = 4.0 * float(np.trace(np.cov(means, rowvar=False)))
    found = estimated(fours)
    square = float(np.sum(each.mean(axis=0) ** 2)) - between / 16
    assert found == pytest.approx(Estimate(between, square), rel=1e-9)


def test_one_shard_tells_nothing() -> None:
    assert estimated(results_of(np.ones((4, 3)), (4,))) is None
    assert SLOT not in train(NoiseScale(), settings(2, 1))[-1].slots


def test_averages_are_kept_in_the_state() -> None:
    config = settings(3, 8)
    states = train(NoiseScale(shards=4), config)
    before, expected = [initial_state(config, CORPUS), *states], np.zeros(3)
    for step, state in enumerate(states):
        documents = CORPUS.documents(8 * step, 8)
        each = [Pull().gradients(before[step].params, [d]).gradient for d in documents]
        estimate = estimated(results_of(np.array(each), (2, 2, 2, 2)))
        assert estimate is not None
        expected = DECAY * expected + (1 - DECAY) * np.array([*estimate, 1.0])
        assert state.slots[SLOT] == pytest.approx(expected, rel=1e-9)


def test_the_weights_are_those_of_sync() -> None:
    config = settings(4, 8)
    for ours, theirs in zip(
        train(NoiseScale(), config), train(load_strategy("sync"), config), strict=True
    ):
        assert ours.params.tobytes() == theirs.params.tobytes()


def test_bits_are_the_same_for_any_number_of_workers_and_the_number_is_told() -> None:
    given: dict[str, Any] = {
        "steps": 6, "batch_size": 12, "strategy": NoiseScale(shards=4), **TINY_MODEL,
    }  # fmt: skip
    alone = microgpt.train("embedded", **given)
    several = microgpt.train("embedded", workers=3, simulate=True, **given)
    assert alone.checkpoint.state_sha256 == several.checkpoint.state_sha256
    assert len(several.checkpoint.distributed.slots[SLOT]) == 24


def test_with_replicas_their_parts_are_compared() -> None:
    config = settings(1, 9, replicas=3)
    (state,) = train(NoiseScale(), config)
    start = initial_state(config, CORPUS).params
    each = [Pull().gradients(start, [d]).gradient for d in CORPUS.documents(0, 9)]
    estimate = estimated(results_of(np.array(each), (3, 3, 3)))
    assert estimate is not None
    assert state.slots[SLOT][:2] == pytest.approx((1 - DECAY) * np.array(estimate), rel=1e-9)


@pytest.mark.parametrize(("count", "size"), [(32, 4), (31, 2), (8, 1), (5, 1), (1, 1), (100, 8)])
def test_a_batch_is_cut_into_powers_of_two_that_are_enough(count: int, size: int) -> None:
    told = NoiseScale(shards=8).following(Round(0, 0, count))
    assert told == Round(1, count, count, shard_size=size)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(StrategyError, match="shards must be at least 2: the gradient of one"):
        load_strategy("noise-scale", {"shards": "1"})
    config = settings(1, 8, replicas=2, compress="f32")
    with pytest.raises(StrategyError, match="noise-scale is about gradients, and not what"):
        train(NoiseScale(), config)


@pytest.mark.parametrize(
    ("gradients", "told"),
    [
        ([2.0, 2.0, 2.0, 2.0], {"variance": 0.0, "square": 4.0, "scale": 0.0}),
        ([1.0, 3.0, 1.0, 3.0], {"variance": 4 / 3, "square": 4 - 1 / 3, "scale": 4 / 11}),
        ([1.0, -1.0, 1.0, -1.0], {"variance": 4 / 3, "square": -1 / 3}),
    ],
)
def test_the_scale_is_told_where_the_mean_rises_above_the_noise(
    gradients: list[float], told: dict[str, float]
) -> None:
    notes: dict[str, Any] = {}
    config = settings(1, 4)
    view = View(config, initial_state(config, CORPUS), (), 0, 1, 1, note=notes.__setitem__)
    averaged(view, results_of(np.array(gradients)[:, None], (1, 1, 1, 1)))
    names = {"variance": "gradient_variance", "square": "gradient_square", "scale": "noise_scale"}
    assert notes == pytest.approx({names[key]: value for key, value in told.items()})


def test_page_and_metrics_are_told() -> None:
    config = settings(3, 8)
    cluster = ReplicaPlay(config, NoiseScale(shards=4), events=Level.ROUNDS)
    cluster.joins(A, B)
    while cluster.state.closing is None:
        for peer in (A, B):
            if cluster.state.workers[peer].in_flight:
                cluster.answers(peer)
    names = {"noise_scale", "gradient_variance", "gradient_square"}
    assert [set(told) for told in cluster.notes] == [names] * 3
    told = [event for event in cluster.told if isinstance(event, StrategyNumbers)][-1]
    assert (told.version, told.numbers) == (3, cluster.notes[-1])
    (*_, alone) = train(NoiseScale(shards=4), config)
    variance, square, _ = alone.slots[SLOT]
    assert told.numbers["noise_scale"] == variance / square
