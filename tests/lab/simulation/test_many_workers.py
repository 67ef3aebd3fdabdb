"""What the coordinator does with an answer does not grow with the number of workers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner

from coordinator.core import probation
from coordinator.core.level import Level
from coordinator.core.membership import Worker
from coordinator.core.round_closer import RoundCloser
from coordinator.core.rounds import Rounds
from coordinator.core.scheduler import Scheduler
from lab.simulation import network
from lab.simulation.arithmetic import STAND_IN, same_state
from lab.simulation.command import main
from lab.simulation.plan import Plan, make_plan
from lab.simulation.play import play
from microgpt.distribution import Distribution
from microgpt.protocol import messages
from microgpt.strategies.registry import load_strategy


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


def test_where_only_answers_are_waited_for_nothing_else_could_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits, only_waits = list[bool](), RoundCloser.only_waits
    plans = [make_plan(seed, None, 0.0) for seed in range(40)]

    def noting(self: RoundCloser) -> bool:
        waits.append(only_waits(self))
        return waits[-1]

    monkeypatch.setattr(RoundCloser, "only_waits", noting)
    short = [play(plan, STAND_IN, trace=True).trace for plan in plans]
    monkeypatch.setattr(RoundCloser, "only_waits", lambda self: False)
    assert short == [play(plan, STAND_IN, trace=True).trace for plan in plans]
    assert sum(waits) > 100


def test_what_is_told_does_not_change_what_is_decided() -> None:
    played = [
        play(replace(make_plan(3, 60, 0.0), events=level), STAND_IN)
        for level in (Level.FULL, Level.SUMMARY)
    ]
    full, summary = played
    assert (full.problem, summary.problem) == ("", "")
    assert (full.messages, full.virtual_seconds) == (summary.messages, summary.virtual_seconds)
    assert full.final is not None
    assert summary.final is not None
    assert same_state(full.final, summary.final)
    assert sum(full.documents.values()) >= 3 * 60
    assert not summary.documents


def test_rounds_of_replicas_are_cut_once_however_many_workers_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = Counter[str]()
    for name in ("prepared", "_cut"):
        monkeypatch.setattr(Rounds, name, counted(made, name, getattr(Rounds, name)))
    strategy, distribution = load_strategy("decoupled-diloco", {}), Distribution(20)
    plan = calm(20, 6)
    assert not play(plan, STAND_IN, strategy=strategy, distribution=distribution).problem
    assert made["_cut"] == made["prepared"] >= 20


def counted(made: Counter[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    def counting(*arguments: Any) -> Any:
        made[name] += 1
        return call(*arguments)

    return counting


def test_weights_are_packed_once_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Counter[str]()

    def encoding(message: messages.Message) -> bytes:
        made[type(message).__name__] += 1
        return messages.encode(message)

    monkeypatch.setattr(network, "encode", encoding)
    result = play(replace(calm(20, 6), codec=True), STAND_IN)
    assert result.problem == ""
    assert made["Weights"] == 6
    assert made["ShardResult"] >= 6 * 20


def test_what_timing_decides_is_recorded_of_very_many_workers_too() -> None:
    plan = replace(make_plan(3, 60, 0.0), events=Level.SUMMARY)
    assert play(plan, STAND_IN, strategy=load_strategy("async", {})).problem == ""


def test_very_many_workers_are_not_told_of_one_by_one() -> None:
    run = CliRunner().invoke(
        main, ["--workers", "60", "--schedules", "1", "--seed", "4", "--trace"]
    )
    told = CliRunner().invoke(
        main,
        ["--workers", "60", "--schedules", "1", "--seed", "4", "--events", "full", "--trace"],
    )
    assert (run.exit_code, told.exit_code) == (0, 0)
    assert "(assigned)" not in run.output
    assert "(assigned)" in told.output
    assert run.output.splitlines()[-1] == told.output.splitlines()[-1]
