"""``async`` against plain readings of its papers, and with answers in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from coordinator.core.inputs import Disconnected
from microgpt.numerics.vectors import Vector
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.base import StrategyError
from microgpt.strategies.registry import load_strategy
from microgpt.strategies.sync import Sync
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import SIZE, close, mean_gradient, same_bits, settings, start, train

A, B, C = b"A", b"B", b"C"
STEPS, BATCH, REPLICAS = 8, 4, 3


def damped(damping: str, gradient: Vector, now: Vector, then: Vector, staleness: int) -> Vector:
    """What a gradient of ``then`` counts for ``now``."""
    if damping == "dc":
        return gradient + 0.04 * gradient * gradient * (now - then)
    return gradient / staleness if damping == "inverse" and staleness else gradient


@pytest.mark.parametrize("damping", ["none", "inverse", "dc"])
def test_each_gradient_is_an_update_with_the_weights_it_began_with(damping: str) -> None:
    """In one process the replicas take turns: from the third update on, two updates behind."""
    config = settings(STEPS, BATCH, replicas=REPLICAS, outer_optimizer="sgd:0.5")
    versions = [start(config)]
    for step in range(STEPS):
        now, staleness = versions[-1], min(step, REPLICAS - 1)
        then = versions[step - staleness]
        gradient = mean_gradient(then, step * BATCH, BATCH)
        direction = damped(damping, gradient, now, then, staleness)
        versions.append(now - 0.5 * (1 - step / STEPS) * direction)
    states = train(Async(damping=damping), config)
    assert all(close(state.params, v) for state, v in zip(states, versions[1:], strict=True))
    assert not close(states[-1].params, states[-2].params)


@pytest.mark.parametrize("damping", ["none", "inverse"])
def test_the_usual_optimizer_is_one_adam_whatever_the_damping(damping: str) -> None:
    config = settings(STEPS, BATCH, replicas=REPLICAS)
    versions, m, v = [start(config)], np.zeros(SIZE), np.zeros(SIZE)
    for step in range(STEPS):
        staleness = min(step, REPLICAS - 1)
        gradient = mean_gradient(versions[step - staleness], step * BATCH, BATCH)
        m, v = 0.85 * m + 0.15 * gradient, 0.99 * v + 0.01 * gradient**2
        there = m / (1 - 0.85 ** (step + 1)), v / (1 - 0.99 ** (step + 1))
        rate = 0.01 * (1 - step / STEPS)
        if damping == "inverse" and staleness:
            rate /= staleness
        versions.append(versions[-1] - rate * there[0] / (np.sqrt(there[1]) + 1e-8))
    states = train(Async(damping=damping), config)
    for state, expected in zip(states, versions[1:], strict=True):
        # Adam's steps are as long for a tiny gradient, and so is its rounding.
        assert np.allclose(state.params, expected, rtol=0.0, atol=1e-9)


def test_what_is_too_stale_is_dropped_and_its_documents_used_up() -> None:
    """With turns: a round of now, one that is one update behind, and one of two that is dropped."""
    config = settings(4, BATCH, replicas=REPLICAS, outer_optimizer="sgd:0.5")
    states = train(Async(bound=1), config)
    params = start(config)
    first = params - 0.5 * mean_gradient(params, 0, BATCH)
    second = first - 0.5 * (1 - 1 / 4) * mean_gradient(params, BATCH, BATCH)
    third = second - 0.5 * (1 - 2 / 4) * mean_gradient(first, 3 * BATCH, BATCH)
    assert all(
        close(state.params, expected)
        for state, expected in zip(states, (first, second, third), strict=False)
    )
    assert [state.next_document // BATCH for state in states] == [1, 2, 4, 5]


def test_one_replica_waits_for_itself_and_has_the_bits_of_sync() -> None:
    for settings_ in (settings(5, 6, replicas=1), settings(5, 6, replicas=1, compress="qsgd")):
        assert same_bits(train(Async(bound=0), settings_), train(Sync(), settings_))
    one, plain = settings(5, 6, replicas=1), settings(5, 6)
    for damping in ("none", "inverse", "dc"):
        assert same_bits(train(Async(bound=0, damping=damping), one), train(Sync(), plain))


def test_updates_are_made_in_the_order_of_answers_and_their_staleness_is_told() -> None:
    config = settings(4, BATCH, replicas=REPLICAS, outer_optimizer="sgd:0.5")
    play = ReplicaPlay(config, Async())
    play.joins(A, B, C)
    assert [play.replica(peer) for peer in (A, B, C)] == [0, 1, 2]
    params = [start(config)]
    for peer, place, version in ((C, 2, 0), (C, 3, 1), (A, 0, 0), (B, 1, 0)):
        gradient = mean_gradient(params[version], place * BATCH, BATCH)
        rate = 0.5 * (1 - (len(params) - 1) / 4)
        params.append(params[-1] - rate * gradient)
        play.answers(peer)
        assert close(play.state.training.params, params[-1])
    assert [note["staleness"] for note in play.notes] == [0.0, 0.0, 2.0, 3.0]


def test_the_round_of_a_lost_worker_is_done_by_another() -> None:
    config = settings(9, BATCH, replicas=2, outer_optimizer="sgd:0.5")
    play = ReplicaPlay(config, Async())
    play.joins(A, B)
    lost = play.task(A)
    play.do(Disconnected(A))
    play.answers(B)
    assert (play.replica(B), play.task(B).round, play.task(B).step) == (0, lost.round, 0)
    play.answers(B)
    assert [note["staleness"] for note in play.notes] == [0.0, 1.0]


def test_a_quick_worker_does_not_wait_for_work_that_lies_with_a_slow_one() -> None:
    config = settings(9, BATCH, replicas=4)
    play = ReplicaPlay(config, Async())
    play.joins(A, B)
    for peer in (A, B, A):
        play.answers(peer)
    # Replicas 0 and 2 are A's, 1 and 3 are B's; B has 3 at work, and 1 waits for it from now on.
    for _ in range(5):
        assert play.replica(A) in (0, 2)
        play.answers(A)
    assert play.replica(B) == 3


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_nobody_who_could_work_is_idle(workers: int, replicas: int) -> None:
    play = ReplicaPlay(settings(40, BATCH, replicas=replicas), Async(bound=99))
    peers = [bytes([65 + i]) for i in range(workers)]
    play.joins(*peers)
    turn = 0
    while play.state.closing is None:
        busy = [peer for peer in peers if play.state.workers[peer].in_flight]
        assert len(busy) >= min(workers, replicas)  # more: newcomers are tried out
        turn = (turn * 7 + 3) % 11
        play.answers(busy[turn % len(busy)])
    assert play.state.training.step == 40


def test_from_a_checkpoint_it_goes_on_with_new_rounds() -> None:
    config = settings(6, BATCH, replicas=2)
    play = ReplicaPlay(config, Async())
    play.joins(A, B)
    for peer in (A, A, B):
        play.answers(peer)
    middle = play.state.resumable if hasattr(play.state, "resumable") else play.state.training
    again = ReplicaPlay(config, Async(), replace(middle))
    again.joins(A)
    while again.state.closing is None:
        again.answers(A)
    assert again.state.training.step == 6
    assert again.done[0]["step"] == 4


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ({"bound": "-1"}, "bound must be at least 0"),
        ({"damping": "much"}, "damping must be one of none, inverse, dc"),
        ({"compensation": "-1"}, "compensation must be at least 0"),
    ],
)
def test_options_that_cannot_be_are_one_sentence(option: dict[str, str], reason: str) -> None:
    with pytest.raises(StrategyError, match=reason):
        load_strategy("async", option)


def test_a_rule_for_several_vectors_has_nothing_to_choose_from() -> None:
    config = settings(4, BATCH, replicas=3, aggregate="median")
    with pytest.raises(StrategyError, match="needs the vectors of several replicas at once"):
        train(Async(), config)
