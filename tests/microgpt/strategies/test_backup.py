"""``backup`` against a plain reading of arXiv 1604.00981, and with answers in every order."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.core.actions import Finish
from microgpt.protocol import messages
from microgpt.strategies.backup import Backup
from microgpt.strategies.base import StrategyError
from microgpt.strategies.registry import load_strategy
from microgpt.strategies.sync import Sync
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import close, mean_gradient, same_bits, settings, start, train

PLAIN = "sgd:0.5"
PEERS = [b"A", b"B", b"C", b"D"]


def test_the_first_parts_make_the_update_and_the_others_are_used_up() -> None:
    """One process has all answers at once: the first three parts, of two documents each."""
    config = settings(5, 6, replicas=3, outer_optimizer=PLAIN)
    params, states = start(config), train(Backup(b=1), config)
    for step, state in enumerate(states):
        rate = 0.5 * (1 - step / 5)
        params = params - rate * mean_gradient(params, 8 * step, 6)
        assert close(state.params, params)
        assert state.next_document == 8 * (step + 1)


@pytest.mark.parametrize("order", [(0, 1, 2), (3, 1, 0), (2, 3, 1)])
def test_whoever_answers_late_is_dropped(order: tuple[int, ...]) -> None:
    config = settings(1, 6, replicas=3, outer_optimizer=PLAIN)
    play = ReplicaPlay(config, Backup(b=1))
    play.joins(*PEERS)
    parts = [play.replica(peer) for peer in PEERS]
    assert parts == [0, 1, 2, 3]
    for place in order:
        assert play.state.closing is None
        play.answers(PEERS[place])
    assert play.state.closing == Finish("done", "all 1 steps are done")
    each = [mean_gradient(start(config), 2 * place, 2) for place in order]
    expected = start(config) - 0.5 * np.mean(each, axis=0)
    assert close(play.state.training.params, expected)
    assert play.notes[0]["late"] == tuple(float(part) for part in {0, 1, 2, 3} - set(order))


def test_a_late_worker_goes_on_with_the_round_of_now() -> None:
    play = ReplicaPlay(settings(2, 6, replicas=3, outer_optimizer=PLAIN), Backup(b=1))
    play.joins(*PEERS)
    for peer in PEERS[1:]:
        play.answers(peer)
    before = play.state.training.params.tobytes()
    assert play.task(PEERS[0]).step == 0
    play.answers(PEERS[0])
    assert play.state.training.params.tobytes() == before
    assert play.task(PEERS[0]).step == 1
    assert len(play.got(PEERS[0], messages.Task)) == 2


def test_a_newcomer_whose_trial_is_overtaken_is_given_no_other_before_it_answers() -> None:
    play = ReplicaPlay(settings(9, 6, replicas=3, outer_optimizer=PLAIN), Backup(b=1))
    play.joins(*PEERS)
    for peer in PEERS:
        play.answers(peer)
    newcomer = b"E"
    play.joins(newcomer)
    assert play.replica(newcomer) == 0, "A's part, on trial"
    for _ in range(3):
        step = play.state.training.step
        while play.state.training.step == step:
            busy = [peer for peer in PEERS[1:] if play.state.workers[peer].in_flight]
            play.answers(busy[0])
        assert len(play.got(newcomer, messages.Task)) == 1
    play.answers(newcomer)
    assert list(play.state.workers) == [*PEERS, newcomer]
    assert len(play.got(newcomer, messages.Task)) == 2


@pytest.mark.parametrize("compress", ["", "topk:0.1"])
def test_without_parts_to_spare_it_has_the_bits_of_sync(compress: str) -> None:
    config = settings(5, 7, replicas=3, compress=compress)
    assert same_bits(train(Backup(b=0), config), train(Sync(), config))


def test_it_has_as_many_replicas_as_any_strategy_if_nobody_says_so() -> None:
    plain, named = (settings(4, 8, replicas=replicas) for replicas in (0, 4))
    assert same_bits(train(Backup(), plain), train(Backup(), named))


def test_a_rule_chooses_among_the_parts_that_were_answered() -> None:
    config = settings(1, 5, replicas=5, aggregate="krum:f=1", outer_optimizer=PLAIN)
    play = ReplicaPlay(config, Backup(b=1))
    play.joins(*PEERS, b"E", b"F")
    for peer in (b"F", b"B", b"C", b"D", b"E"):  # not part 0
        play.answers(peer)
    (rejected,) = (note["rejected"] for note in play.notes)
    taken = {1, 2, 3, 4, 5} - set(rejected)
    assert len(taken) == 1
    expected = start(config) - 0.5 * mean_gradient(start(config), int(taken.pop()), 1)
    assert close(play.state.training.params, expected)


def test_less_than_no_part_to_spare_is_one_sentence() -> None:
    with pytest.raises(StrategyError, match="b must be at least 0"):
        load_strategy("backup", {"b": "-1"})
