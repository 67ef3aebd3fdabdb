"""How long steps have taken, as the record says, adds up to what the run has taken."""

from __future__ import annotations

import pytest

from coordinator.core.events import Level, StepDone
from microgpt.distribution import Distribution
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.base import Strategy
from microgpt.strategies.sync import Sync
from tests.coordinator.core.cluster import Cluster

A, B, C = b"a", b"b", b"c"


@pytest.mark.parametrize("strategy", [Sync(), Async()], ids=["sync", "async"])
def test_seconds_of_all_steps_are_those_of_the_run(strategy: Strategy) -> None:
    replicas = 3 if isinstance(strategy, Async) else 0
    cluster = Cluster(strategy, Distribution(replicas=replicas), steps=40, events=Level.FULL)
    began = cluster.now
    cluster.joins(A, B, C)
    cluster.ends()
    steps = cluster.events(StepDone)
    assert len(steps) == 40
    took = cluster.now - began  # workers joining and a checkpoint included
    assert sum(step.seconds for step in steps) == pytest.approx(took, abs=0.009)
    assert took > 0.03
