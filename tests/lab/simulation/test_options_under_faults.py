"""Options of strategies whose timing decides, and compression under them, in schedules of faults.

``test_replayed_schedules`` plays each of these strategies as it is by default.
"""

from __future__ import annotations

import random

import pytest

from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import make_plan
from lab.simulation.play import play
from microgpt.distribution import Distribution
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.backup import Backup
from microgpt.strategies.base import Strategy
from microgpt.strategies.decoupled_diloco import DecoupledDiLoCo
from microgpt.strategies.ssp import SSP
from tests.marks import soak


@pytest.mark.parametrize("schedules", [5, soak(500)])
@pytest.mark.parametrize(
    ("strategy", "distribution"),
    [
        (Backup(b=2), Distribution(replicas=3, compress="topk:0.1")),
        (Async(bound=0, damping="dc"), Distribution(replicas=3)),
        (SSP(s=0), Distribution(compress="qsgd")),
        (DecoupledDiLoCo(2, quorum=3, grace=0.3), Distribution(compress="topk:0.1")),
    ],
    ids=str,
)
@pytest.mark.timeout(900)  # of a crowded machine
def test_fresh_schedules_keep_every_promise(
    strategy: Strategy, distribution: Distribution, schedules: int
) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    for seed in range(first, first + schedules):
        plan = make_plan(seed, None, 0.02)
        result = play(plan, STAND_IN, strategy=strategy, distribution=distribution)
        assert result.problem == "", f"schedule {seed}"
