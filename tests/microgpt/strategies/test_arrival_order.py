"""Shards added up in the order in which they were answered: other bits, and the record has them."""

from __future__ import annotations

from itertools import permutations
from random import Random

import numpy as np
import pytest

from coordinator.core.events import Level, RoundClosed
from lab.replay.record import ReplayError
from microgpt.optim.reduction import Shard
from microgpt.strategies.arrival_order import ArrivalOrder, running_sum
from microgpt.strategies.base import Result
from microgpt.strategies.sync import Sync
from tests.coordinator.core.test_coordinator_state import A, B, C
from tests.lab.replay.test_player import Run, closed, same
from tests.lab.replay.test_strategies_of_timing import replay, run

PEERS = A, B, C, b"D"


def answered_by(*order: bytes, shard_size: int = 1, steps: int = 2) -> Run:
    """Four documents a step, each peer has a shard; all of them answer in this order."""
    strategy = ArrivalOrder()
    play = Run(strategy, shard_size=shard_size, steps=steps, events=Level.FULL)
    play.joins(*sorted(order))
    play.finishes_with(*order)
    return play


def in_order(shards: int) -> Run:
    """The same with ``sync``."""
    play = Run(Sync(), shard_size=4 // shards, steps=2)
    play.joins(*PEERS[:shards])
    play.finishes_with(*PEERS[:shards])
    return play


@pytest.mark.parametrize("order", [*permutations(range(3))])
def test_the_sum_is_taken_from_left_to_right(order: tuple[int, ...]) -> None:
    numbers = [1e16, 1.0, -1e16]
    results = [Result(Shard(n, 1), np.zeros(1), np.array([numbers[n]])) for n in order]
    total = 0.0
    for place in order:
        total += numbers[place]
    assert running_sum(results).tolist() == [total]
    assert results[0].vector.tolist() == [numbers[order[0]]], "nothing is added in place"


def test_who_answers_first_decides_the_bits() -> None:
    runs = [answered_by(*order) for order in permutations(PEERS)]
    sums = {play.state.training.params.tobytes() for play in runs}
    assert len(sums) > 1
    for play in runs[::5]:
        assert same(play.replay()[-1], play.state.training)


def test_the_record_says_in_which_order_shards_came() -> None:
    play = answered_by(C, A, b"D", B)
    told = [event for event in play.rounds() if isinstance(event, RoundClosed)]
    assert [(event.shards, event.counted) for event in told] == [(4, (2, 0, 3, 1))] * 2


def test_in_the_order_of_shards_it_is_said_as_well() -> None:
    told = answered_by(*PEERS).rounds()
    assert {event.counted for event in told if isinstance(event, RoundClosed)} == {(0, 1, 2, 3)}


@pytest.mark.parametrize("counted", [(0, 0, 3, 1), (2, 0, 3), (2, 0, 3, 4)])
def test_a_record_that_cannot_be_is_refused(counted: tuple[int, ...]) -> None:
    play = answered_by(C, A, b"D", B)
    with pytest.raises(ReplayError, match=r"^line 3, step 1: (a|the) shards? of round|^line 3"):
        play.replay([*map(closed(counted=counted), play.rounds())])


@pytest.mark.parametrize("shards", [1, 2])
def test_up_to_two_shards_have_the_bits_of_sync(shards: int) -> None:
    peers = PEERS[:shards]
    play = answered_by(*reversed(peers), shard_size=4 // shards)
    assert same(play.state.training, in_order(shards).state.training)


@pytest.mark.parametrize("compress", ["", "int8"])
def test_parts_of_replicas_are_added_as_they_come_and_the_record_has_the_bits(
    compress: str,
) -> None:
    finals = []
    for seed in range(3):
        cluster = run(ArrivalOrder(), Random(seed), compress)
        ours, again = cluster.state.training, replay(cluster, ArrivalOrder())
        assert (ours.step, ours.losses) == (12, again.losses)
        assert ours.params.tobytes() == again.params.tobytes()
        finals.append(ours.params)
    assert len({x.tobytes() for x in finals}) == 3, "timing decides"
    assert max(float(np.abs(x - finals[0]).max()) for x in finals) < 1e-9
