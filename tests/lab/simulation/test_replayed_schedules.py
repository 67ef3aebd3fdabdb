"""Schedules of faults under strategies whose timing decides: an exact function of the seed, and the
record of each leads to the same bits again. And proof that this can fail.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from coordinator.core.events import EventBase, RoundClosed, RoundOpened, Started
from lab.simulation.arithmetic import STAND_IN, reference_run
from lab.simulation.event_file import EventFile
from lab.simulation.plan import make_plan
from lab.simulation.play import Result, _until_the_end, play
from lab.simulation.processes import VirtualCoordinator
from lab.simulation.replayed import what_differs
from lab.simulation.world import World
from microgpt.distribution import Distribution
from microgpt.strategies.base import Promise, Strategy
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.registry import STRATEGIES
from microgpt.strategies.sync import Sync
from tests.marks import soak
from tests.strategies_of_users import FirstHalf, OneEach

KNOWN: dict[str, Strategy] = {name: kind() for name, kind in STRATEGIES.items()}
TIMED: dict[str, Strategy] = {
    "OneEach": OneEach(bound=2),
    "FirstHalf": FirstHalf(),
    **{name: made for name, made in KNOWN.items() if made.promise is Promise.REPLAYABLE},
}
REPLICAS = Distribution(replicas=4)


def run(seed: int, strategy: Strategy, codec: float = 0.02, *, trace: bool = False) -> Result:
    replicas = REPLICAS if type(strategy) in STRATEGIES.values() else Distribution()
    plan = make_plan(seed, None, codec)
    return play(plan, STAND_IN, trace=trace, strategy=strategy, distribution=replicas)


@pytest.mark.timeout(900)  # of a crowded machine; half a minute of one core for the many
@pytest.mark.parametrize("schedules", [3, soak(500)])
@pytest.mark.parametrize("name", TIMED)
def test_the_record_of_a_schedule_leads_to_the_same_bits(name: str, schedules: int) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    print(f"schedules {first} to {first + schedules - 1}")
    for seed in range(first, first + schedules):
        assert run(seed, TIMED[name]).problem == "", f"{name}, seed {seed}"


@pytest.mark.parametrize("name", TIMED)
def test_a_schedule_is_an_exact_function_of_its_seed(name: str) -> None:
    for seed in range(2):
        one, other = (run(seed, TIMED[name], 1.0, trace=True) for _ in range(2))
        assert one.trace == other.trace
        assert one.trace


@pytest.mark.parametrize(
    ("strategy", "distribution"),
    [
        (Sync(), Distribution()),
        (Sync(), Distribution(replicas=3, compress="topk:0.1")),
        (LocalSGD(steps=2), REPLICAS),
    ],
)
def test_exact_strategies_are_replayed_as_well(strategy: Any, distribution: Distribution) -> None:
    for seed in range(10):
        plan = make_plan(seed, None, 0.0)
        size = plan.steps, plan.batch_size, STAND_IN, plan.eval_every
        world = World(plan, reference_run(*size, strategy, distribution), None, trace=False)
        _until_the_end(world)
        assert what_differs(world) == ""


# The check can fail: mutants

ADD = EventFile.add


def save_before_it_is_written(self: VirtualCoordinator, save: Any) -> None:
    self._writer.submit(save)


def changed(kind: type[EventBase], change: Callable[[Any], dict[str, Any]]) -> Any:
    def add(self: EventFile, event: EventBase) -> None:
        ADD(self, replace(event, **change(event)) if isinstance(event, kind) else event)

    return add


#: (what is replaced, where; by what; which strategy; seeds of which at least one catches it)
MUTANTS: dict[str, tuple[Any, str, Any, str, list[int]]] = {
    "a checkpoint is written before the rounds that have led to it": (
        VirtualCoordinator, "_submit", save_before_it_is_written, "OneEach", [493, 707],
    ),
    "it is not recorded which shards counted": (
        EventFile, "add", changed(RoundClosed, lambda e: {"counted": (), "results": e.shards}),
        "FirstHalf", [1, 3],
    ),
    "it is not recorded with how many documents an epoch begins": (
        EventFile, "add", changed(Started, lambda e: {"next_document": 0}), "OneEach", [56],
    ),
    "other documents are recorded": (
        EventFile, "add", changed(RoundOpened, lambda e: {"first": max(0, e.first - 1)}),
        "OneEach", [0, 1],
    ),
    "it is not recorded that a step was evaluated": (
        EventFile, "add", changed(RoundOpened, lambda e: {"evaluation": False}),
        "OneEach", [2, 3],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_record_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, by, strategy, seeds = MUTANTS[name]
    assert [run(seed, TIMED[strategy]).problem for seed in seeds] == [""] * len(seeds)
    monkeypatch.setattr(where, what, by)
    assert any(run(seed, TIMED[strategy]).problem for seed in seeds)
