"""``decoupled-diloco``: the merge by a plain reading, and who is waited for, second by second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from coordinator.core.events import RoundClosed, RoundOutcome
from coordinator.core.inputs import Disconnected, Tick
from coordinator.core.level import Level
from microgpt.data.corpus import Corpus
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.parameters import Shapes
from microgpt.strategies.base import Result, StrategyError
from microgpt.strategies.decoupled_diloco import DecoupledDiLoCo
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.merge import radial, weighted_mean
from microgpt.strategies.registry import load_strategy
from microgpt.training import initial_state
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import CORPUS, MODEL, SIZE, close, mean_gradient, settings, start, train

A, B, C = b"A", b"B", b"C"
STEPS, BATCH, H, RATE = 6, 6, 2, 0.5
SHAPES = parameter_shapes(MODEL)
SGD = f"sgd:{RATE}"


def way(params: Vector, version: int, first: int, learners: int) -> Vector:
    """How far a learner comes in H steps of plain SGD from these weights."""
    x, each = params, BATCH // learners
    for step in range(H):
        rate = RATE * (1 - (version + step / H) / STEPS)
        x = x - rate * mean_gradient(x, first + step * each, each)
    return params - x


def weight(first: int, count: int) -> float:
    """Of a learner with these documents: predictions squared, by steps."""
    predictions = sum(len(document) - 1 for document in CORPUS.documents(first, count))
    return float(predictions**2) / H


def merged(ways: Sequence[Vector], shapes: Shapes, weights: Sequence[float]) -> Vector:
    """Radius and direction for each matrix, the mean for embeddings, as NumPy says it."""
    result, start = np.empty(SIZE), 0
    for name, (rows, columns) in shapes.items():
        part = np.array([each[start : start + rows * columns] for each in ways])
        mean = np.average(part, axis=0, weights=weights)
        if name not in ("wte", "wpe"):
            norms = np.linalg.norm(part, axis=1)
            direction = np.average(part / norms[:, None], axis=0, weights=weights)
            radius = np.average(norms, weights=weights)
            mean = radius * direction / np.linalg.norm(direction)
        result[start : start + rows * columns] = mean
        start += rows * columns
    return result


class Outer:
    """Nesterov's momentum as SGD has it in the usual libraries."""

    def __init__(self) -> None:
        self.momentum = np.zeros(SIZE)

    def step(self, params: Vector, gradient: Vector) -> Vector:
        self.momentum = 0.9 * self.momentum + gradient
        return params - 0.7 * (gradient + 0.9 * self.momentum)


def test_all_learners_that_have_come_are_merged_into_one_update() -> None:
    config = settings(STEPS, BATCH, replicas=3, inner_optimizer=SGD)
    params, outer = start(config), Outer()
    states = train(DecoupledDiLoCo(steps=H), config)
    assert len(states) == STEPS
    for step, state in enumerate(states):
        first = step * H * BATCH
        places = [first + learner * H * 2 for learner in range(3)]
        ways = [way(params, step, place, 3) for place in places]
        weights = [weight(place, 2 * H) for place in places]
        assert len(set(weights)) > 1
        params = outer.step(params, merged(ways, SHAPES, weights))
        assert close(state.params, params)
        assert state.next_document == (step + 1) * H * BATCH


def test_the_merge_keeps_the_length_and_weighs() -> None:
    vectors = [*np.random.default_rng(1).normal(size=(3, SIZE))]
    weights = [1.0, 2.0, 5.5]
    assert close(radial(vectors, weights, SHAPES), merged(vectors, SHAPES, weights))
    assert close(weighted_mean(vectors, weights), np.average(vectors, axis=0, weights=weights))
    opposite = radial([vectors[0], -vectors[0]], [1.0, 1.0], SHAPES)
    assert not opposite.any(), "no direction is left"
    assert not radial([np.zeros(SIZE)] * 2, [1.0, 1.0], SHAPES).any()


@pytest.mark.parametrize(
    ("strategy", "replicas"),
    [(DecoupledDiLoCo(quorum=3, merge="mean"), 3), (DecoupledDiLoCo(), 1)],
)
def test_with_all_learners_and_the_plain_mean_it_is_diloco(
    strategy: DecoupledDiLoCo, replicas: int
) -> None:
    """With names of one length, so that all weights are equal.

    But for the rounding of weights, and of one division and multiplication by a length.
    """
    config = settings(STEPS, BATCH, replicas=replicas)
    corpus = Corpus(["ada", "bob", "eve", "ivy", "sue", "tom", "pat"], 42)
    ours, theirs = train(strategy, config, corpus), train(DiLoCo(), config, corpus)
    for one, other in zip(ours, theirs, strict=True):
        assert np.allclose(one.params, other.params, rtol=0.0, atol=1e-11)
        assert one.next_document == other.next_document


def play(grace: float, quorum: int = 1, learners: int = 3) -> ReplicaPlay:
    config = settings(STEPS, BATCH, replicas=learners, inner_optimizer=SGD)
    strategy = DecoupledDiLoCo(H, quorum, grace)
    result = ReplicaPlay(config, strategy, events=Level.FULL)
    result.joins(A, B, C)
    return result


def passes(cluster: ReplicaPlay, seconds: float) -> None:
    """Time passes, and the coordinator looks again and again.

    After 0.1 seconds it would have idle workers compute what others are slow with.
    """
    for _ in range(20):
        cluster.do(Tick(), after=seconds / 20)


def test_who_comes_within_the_grace_is_merged_and_who_is_late_is_next_time() -> None:
    cluster, outer = play(grace=0.08), Outer()
    begin = start(cluster.config)
    cluster.answers(A)
    passes(cluster, 0.04)
    cluster.answers(B)
    passes(cluster, 0.03)
    assert cluster.state.training.step == 0
    passes(cluster, 0.02)
    ways = [way(begin, 0, learner * H * 2, 3) for learner in range(3)]
    weights = [weight(0, 4), weight(4, 4)]
    first = outer.step(begin, merged(ways[:2], SHAPES, weights))
    assert close(cluster.state.training.params, first)
    cluster.answers(C)  # of the weights before: it waits for somebody with those of now
    passes(cluster, 0.09)
    assert cluster.state.training.step == 1
    cluster.answers(A)
    passes(cluster, 0.09)
    late = [ways[2], way(first, 1, 12, 3)]
    second = outer.step(first, merged(late, SHAPES, [weight(8, 4), weight(12, 4)]))
    assert close(cluster.state.training.params, second)
    assert [note["learners"] for note in cluster.notes] == [2.0, 2.0]
    assert [note["staleness"] for note in cluster.notes] == [(0.0, 0.0), (1.0, 0.0)]
    assert [record["documents"] for record in cluster.done] == [8, 8]
    closed = [(event.round, event.outcome) for event in cluster.events(RoundClosed)]
    gathered, applied = RoundOutcome.GATHERED, RoundOutcome.APPLIED
    assert closed == [(0, gathered), (1, applied), (2, gathered), (3, applied)]


def test_when_nobody_is_missing_nobody_waits() -> None:
    cluster = play(grace=1000.0)
    for step in range(1, 4):
        for peer in (C, A, B):
            assert cluster.state.training.step == step - 1
            cluster.answers(peer)
        assert cluster.state.training.step == step


def test_without_grace_the_first_with_new_weights_makes_an_update_with_all_that_waited() -> None:
    cluster = play(grace=0.0)
    for peer in (A, A, B, C, A):
        cluster.answers(peer)
    assert [note["learners"] for note in cluster.notes] == [1.0, 1.0, 3.0]
    staleness = [note["staleness"] for note in cluster.notes]
    assert staleness == [(0.0,), (0.0,), (2.0, 2.0, 0.0)]


def test_the_grace_begins_with_the_quorum() -> None:
    cluster = play(grace=0.4, quorum=2)
    cluster.answers(A)
    passes(cluster, 0.5)
    assert cluster.state.training.step == 0
    cluster.answers(B)
    passes(cluster, 0.3)
    assert cluster.state.training.step == 0
    passes(cluster, 0.2)
    assert [note["learners"] for note in cluster.notes] == [2.0]


def test_a_lost_learner_holds_nobody_up_and_comes_back_with_another_worker() -> None:
    cluster = play(grace=0.08)
    cluster.do(Disconnected(A))
    cluster.answers(B)
    assert cluster.replica(B) == 0
    cluster.answers(C)
    passes(cluster, 0.09)
    cluster.answers(B)
    cluster.answers(C)
    passes(cluster, 0.09)
    assert [note["learners"] for note in cluster.notes] == [2.0, 2.0]
    assert [note["staleness"] for note in cluster.notes] == [(0.0, 0.0), (1.0, 0.0)]


def test_one_worker_lets_the_free_learner_begin_again_before_the_stale_ones_are_merged() -> None:
    cluster = play(grace=0.0)
    cluster.do(Disconnected(B))
    cluster.do(Disconnected(C))
    for _ in range(7):
        cluster.answers(A)
    assert [note["learners"] for note in cluster.notes] == [1.0, 3.0, 1.0]
    assert [note["staleness"] for note in cluster.notes] == [(0.0,), (1.0, 1.0, 0.0), (0.0,)]


def test_gathered_rounds_count_as_undone_until_their_update_is_made() -> None:
    config = settings(STEPS, BATCH, replicas=2, inner_optimizer=SGD)
    driver = RoundDriver(DecoupledDiLoCo(H), config, initial_state(config, CORPUS))
    first, second = driver.begin(2, 2)
    results = []
    for opened in (first, second):
        vector = np.full(SIZE, float(opened.number + 1))
        part = opened.round.parts()[0]
        results.append([Result(part, np.ones(opened.round.count), vector, opened.number)])
    closed = driver.close(first.number, results[0], more=True)
    assert (closed.gathered, closed.done) == (True, None)
    assert sorted(driver.undone) == [0, 1]
    assert driver.begin(2, 1) == []
    huge = [replace(results[1][0], vector=np.full(SIZE, 1e308))]
    with pytest.raises(ArithmeticError):
        driver.close(second.number, huge)
    assert sorted(driver.undone) == [0, 1]
    assert driver.close(second.number, results[1]).done is driver.state
    expected = Outer().step(start(config), np.full(SIZE, 1.5))
    assert np.allclose(driver.state.params, expected, rtol=0.0, atol=1e-12)
    assert driver.undone == []


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"quorum": "0"}, "steps and quorum must be at least 1"),
        ({"grace": "-1"}, "grace must be a number of seconds"),
        ({"grace": "nan"}, "grace"),
        ({"merge": "sum"}, "merge must be radial or mean"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(option: dict[str, str], reason: str) -> None:
    with pytest.raises(StrategyError, match=reason):
        load_strategy("decoupled-diloco", option)
