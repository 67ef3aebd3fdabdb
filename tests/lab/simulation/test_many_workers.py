"""What the coordinator does with an answer does not grow with the number of workers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from coordinator.core import probation
from coordinator.core.membership import Worker
from coordinator.core.scheduler import Scheduler
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import Plan, make_plan
from lab.simulation.play import play


def calm(workers: int, steps: int) -> Plan:
    """All workers are there from the start, and nothing goes wrong."""
    plan = make_plan(1, workers, 0.0)
    return replace(
        plan, steps=steps, batch_size=workers, document_seconds=0.02, shard_size=1, faults=(),
        heals_at=0.0, byzantine=None, verify_fraction=0.0, eval_every=0, stale=0.0, twice=0.0,
        hesitation=1e-6,
    )  # fmt: skip


def test_idle_workers_are_counted_right_whatever_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    counted, quickly = list[int](), Scheduler._num_idle

    def checked(self: Scheduler, workers: Mapping[bytes, Worker]) -> int:
        number = quickly(self, workers)
        staff = self.probation.staff(workers)
        proven = {peer: worker for peer, worker in workers.items() if worker.proven}
        assert staff == (proven or workers)
        assert number == sum(not worker.in_flight for worker in staff.values())
        counted.append(number)
        return number

    monkeypatch.setattr(Scheduler, "_num_idle", checked)
    for seed in range(20):
        assert not play(make_plan(seed, None, 0.0), STAND_IN).problem
    assert max(counted) > 1


def test_workers_are_looked_at_one_by_one_only_when_they_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks, divided = list[int](), probation._divided

    def counting(workers: Mapping[bytes, Worker]) -> object:
        looks.append(len(workers))
        return divided(workers)

    monkeypatch.setattr(probation, "_divided", counting)
    numbers = []
    for steps in (8, 16):
        assert not play(calm(40, steps), STAND_IN).problem
        numbers.append(len(looks))
        looks.clear()
    assert numbers[0] == numbers[1] > 0
