"""``easgd`` against a plain reading of arXiv 1412.6651."""

from __future__ import annotations

import pytest

from coordinator.core.inputs import Disconnected
from microgpt.numerics.vectors import Vector
from microgpt.strategies.base import StrategyError
from microgpt.strategies.easgd import EASGD
from microgpt.strategies.parts import settled
from microgpt.strategies.registry import load_strategy
from tests.coordinator.core.replica_play import ReplicaPlay
from tests.toy_problem import close, mean_gradient, settings, start, train

A, B = b"A", b"B"
STEPS, BATCH = 9, 6
RATE = 0.5


class Reading:
    """The centre and the replicas' own weights, as the paper has them."""

    def __init__(self, replicas: int, tau: int, beta: float) -> None:
        begin = start(settings(STEPS, BATCH))
        self.centre, self.own = begin, [begin] * replicas
        self.tau, self.alpha, self.each = tau, beta / replicas, BATCH // replicas

    def exchange(self, replica: int, seen: Vector, version: int, first: int) -> None:
        """tau steps of a replica that has seen this centre, of so many exchanges."""
        x = self.own[replica]
        for step in range(self.tau):
            rate = RATE * (1 - (version + step / self.tau) / STEPS)
            x = x - rate * mean_gradient(x, first + step * self.each, self.each)
        pull = self.alpha * (x - seen)
        self.own[replica] = x - pull
        self.centre = self.centre + pull


@pytest.mark.parametrize(("replicas", "tau", "beta"), [(1, 1, 0.9), (2, 3, 0.9), (3, 2, 0.5)])
def test_replicas_and_centre_pull_at_each_other(replicas: int, tau: int, beta: float) -> None:
    """In one process the replicas take turns."""
    config = settings(STEPS, BATCH, replicas=replicas, inner_optimizer=f"sgd:{RATE}")
    reading = Reading(replicas, tau, beta)
    versions = [reading.centre]
    states = train(EASGD(steps=tau, beta=beta), config)
    for number, state in enumerate(states):
        version = max(0, number - replicas + 1)
        first = number * tau * BATCH // replicas
        reading.exchange(number % replicas, versions[version], version, first)
        versions.append(reading.centre)
        assert close(state.params, reading.centre)


def test_the_weights_of_a_replica_are_its_own_whoever_computes_them() -> None:
    config = settings(STEPS, BATCH, replicas=2, inner_optimizer=f"sgd:{RATE}")
    play = ReplicaPlay(config, EASGD(steps=2))
    reading = Reading(2, 2, 0.9)
    versions = [reading.centre]
    play.joins(A, B)
    opened = {0: (0, 0), 1: (0, 6)}  # version and first document of each replica's round
    documents = 12
    replicas = []
    for peer in (A, A, B, B, B):
        if play.state.training.step == 3:  # replica 0 has done two tasks with A
            play.do(Disconnected(A))
        replica = play.replica(peer)
        version, first = opened[replica]
        reading.exchange(replica, versions[version], version, first)
        versions.append(reading.centre)
        play.answers(peer)
        opened[replica], documents = (len(versions) - 1, documents), documents + 6
        assert close(play.state.training.params, reading.centre)
        replicas.append(replica)
    assert replicas == [0, 0, 1, 1, 0]


def test_alone_with_the_strongest_spring_it_is_plain_descent() -> None:
    """p = 1 and beta = 1: the centre comes to where the replica is, and the replica to the centre.

    One goes by alpha = 1 of the whole way, to the bit; so each is at the other's place, and after
    two exchanges the centre has made the steps of plain descent from its own gradient's weights.
    """
    config = settings(STEPS, BATCH, replicas=1, inner_optimizer=f"sgd:{RATE}")
    centre = own = start(config)
    for number, state in enumerate(train(EASGD(steps=1, beta=1.0), config)):
        stepped = own - RATE * (1 - number / STEPS) * mean_gradient(own, number * BATCH, BATCH)
        centre, own = stepped, centre
        assert close(state.params, centre)


def test_the_inner_optimizer_is_plain_sgd_unless_the_run_names_one() -> None:
    config = settings(STEPS, BATCH)
    assert settled(config.distribution, EASGD()).inner_optimizer == EASGD.inner
    named = settings(STEPS, BATCH, inner_optimizer="adamw")
    assert settled(named.distribution, EASGD()).inner_optimizer == "adamw"


@pytest.mark.parametrize(
    ("option", "reason"),
    [({"steps": "0"}, "steps must be at least 1"), ({"beta": "0"}, "beta must lie in")],
)
def test_options_that_cannot_be_are_one_sentence(option: dict[str, str], reason: str) -> None:
    with pytest.raises(StrategyError, match=reason):
        load_strategy("easgd", option)
