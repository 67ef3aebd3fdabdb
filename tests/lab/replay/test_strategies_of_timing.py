"""Strategies whose timing decides, played again from what the coordinator tells."""

from __future__ import annotations

from random import Random

import pytest

from coordinator.core.events import SCHEMA, Level, Recorded, RoundClosed, RoundOpened, Started
from coordinator.core.inputs import Tick
from lab.replay.player import Training, play
from lab.replay.record import legs, read
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.backup import Backup
from microgpt.strategies.base import Strategy
from microgpt.strategies.decoupled_diloco import DecoupledDiLoCo
from microgpt.strategies.easgd import EASGD
from microgpt.strategies.ssp import SSP
from microgpt.training import TrainingState, initial_state
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import CORPUS, Pull, settings

PEERS = [b"A", b"B", b"C"]


def run(strategy: Strategy, order: Random, compress: str) -> ReplicaPlay:
    """A run in which anybody answers at any time."""
    config = settings(12, 6, replicas=4, compress=compress)
    cluster = ReplicaPlay(config, strategy, events=Level.FULL)
    cluster.joins(*PEERS)
    while cluster.state.closing is None:
        busy = [peer for peer in PEERS if cluster.state.workers[peer].in_flight]
        if busy and order.random() < 0.8:
            cluster.answers(order.choice(busy))
        cluster.do(Tick(), after=order.uniform(0.0, 0.1))
    return cluster


def replay(cluster: ReplicaPlay, strategy: Strategy) -> TrainingState:
    told = [event for event in cluster.told if isinstance(event, RoundOpened | RoundClosed)]
    begun = Started(SCHEMA, "run", "epoch", 0, cluster.config.steps, Level.ROUNDS, 0)
    numbered = enumerate([begun, *told], 1)
    epochs = read((line, Recorded(0.0, 0, event)) for line, event in numbered)
    training = Training(cluster.config, CORPUS, Pull(), strategy)
    start = initial_state(cluster.config, CORPUS)
    return [*play(training, legs(epochs, exact=False), start)][-1]


@pytest.mark.parametrize("compress", ["", "topk:0.1"])
@pytest.mark.parametrize(
    "strategy",
    [
        Backup(b=2), Async(bound=2), Async(damping="dc"), SSP(s=1), EASGD(steps=2),
        DecoupledDiLoCo(steps=2), DecoupledDiLoCo(steps=2, quorum=2, grace=0.02),
        DecoupledDiLoCo(steps=2, grace=0.0),
    ],
    ids=str,
)  # fmt: skip
def test_the_record_gives_the_bits_again(strategy: Strategy, compress: str) -> None:
    finals = []
    for seed in range(3):
        cluster = run(strategy, Random(seed), compress)
        ours, again = cluster.state.training, replay(cluster, strategy)
        for state in (ours, again):
            assert state.step == 12
        assert ours.params.tobytes() == again.params.tobytes()
        assert ours.losses == again.losses
        assert ours.next_document == again.next_document
        assert {k: x.tobytes() for k, x in ours.slots.items()} == {
            k: x.tobytes() for k, x in again.slots.items()
        }
        finals.append(ours.params.tobytes())
    assert len(set(finals)) == 3, "timing decides"
