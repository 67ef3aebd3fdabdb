"""Options of strategies whose timing decides, and compression under them, in schedules of faults.

``test_replayed_schedules`` plays each of these strategies as it is by default.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lab.simulation.arithmetic import STAND_IN
from lab.simulation.disk import Disk
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


#: The disk is full between a step's file and ``checkpoint.msgpack``, so the run begins again before
#: that step; ``checkpoint.msgpack`` is damaged, and the coordinator killed while it writes another.
GIVEN_UP = 333950389313


@pytest.mark.parametrize("real_files", [False, True])
def test_no_epoch_goes_on_from_a_checkpoint_of_an_attempt_that_was_given_up(
    tmp_path: Path, real_files: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, folder = make_plan(GIVEN_UP, None, 0.02), tmp_path if real_files else None
    strategy, distribution = SSP(s=0), Distribution(compress="qsgd")
    result = play(plan, STAND_IN, folder, strategy=strategy, distribution=distribution)
    assert (result.problem, result.epochs) == ("", 3)

    monkeypatch.setattr(Disk, "go_on", Disk.newest)
    result = play(plan, STAND_IN, strategy=strategy, distribution=distribution)
    assert result.problem == "step 5 has another loss in the replay of the record"
