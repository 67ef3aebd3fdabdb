"""``ssp`` by the clocks of Ho et al. 2013."""

from __future__ import annotations

import pytest

from microgpt.strategies.base import StrategyError
from microgpt.strategies.registry import load_strategy
from microgpt.strategies.ssp import CLOCKS, SSP
from microgpt.strategies.sync import Sync
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import close, mean_gradient, same_bits, settings, start, train

A, B = b"A", b"B"
BATCH = 4


@pytest.mark.parametrize("s", [0, 1, 3])
def test_a_replica_is_at_most_so_far_ahead_when_it_begins(s: int) -> None:
    play = ReplicaPlay(settings(60, BATCH, replicas=2), SSP(s=s))
    play.joins(A, B)
    for number in range(s + 1):
        assert play.state.workers[A].in_flight, f"after {number} updates"
        play.answers(A)
    assert not play.state.workers[A].in_flight, "it waits for the slowest"
    play.answers(B)
    assert play.state.workers[A].in_flight
    assert play.state.training.slots[CLOCKS].tolist() == [s + 1.0, 1.0]
    assert [note["clock_spread"] for note in play.notes] == [*range(1, s + 2), s]


def test_updates_are_those_of_the_weights_that_were_read() -> None:
    config = settings(4, BATCH, replicas=2, outer_optimizer="sgd:0.5")
    play = ReplicaPlay(config, SSP(s=1))
    play.joins(A, B)
    params = [start(config)]
    for peer, place, version in ((A, 0, 0), (A, 2, 1), (B, 1, 0), (A, 3, 3)):
        gradient = mean_gradient(params[version], place * BATCH, BATCH)
        params.append(params[-1] - 0.5 * (1 - (len(params) - 1) / 4) * gradient)
        play.answers(peer)
        assert close(play.state.training.params, params[-1])
    assert [note["staleness"] for note in play.notes] == [0.0, 0.0, 2.0, 0.0]


def test_lock_step_in_one_process() -> None:
    """With s = 0 the replicas take turns: none begins before all have ended."""
    config = settings(6, BATCH, replicas=3, outer_optimizer="sgd:0.5")
    versions = [start(config)]
    for step in range(6):
        then = versions[step - step % 3]
        gradient = mean_gradient(then, step * BATCH, BATCH)
        versions.append(versions[-1] - 0.5 * (1 - step / 6) * gradient)
    states = train(SSP(s=0), config)
    assert all(close(state.params, v) for state, v in zip(states, versions[1:], strict=True))
    assert states[-1].slots[CLOCKS].tolist() == [2.0, 2.0, 2.0]


def test_one_replica_has_the_bits_of_sync() -> None:
    one, plain = settings(5, 6, replicas=1), settings(5, 6)
    assert same_bits(train(SSP(s=0), one), train(Sync(), plain))


def test_the_clocks_go_on_from_a_checkpoint() -> None:
    config = settings(60, BATCH, replicas=2)
    play = ReplicaPlay(config, SSP(s=1))
    play.joins(A, B)
    play.answers(A)
    again = ReplicaPlay(config, SSP(s=1), play.state.training)
    again.joins(A, B)
    again.answers(A)
    assert not again.state.workers[A].in_flight


def test_a_negative_bound_is_one_sentence() -> None:
    with pytest.raises(StrategyError, match="s must be at least 0"):
        load_strategy("ssp", {"s": "-1"})
