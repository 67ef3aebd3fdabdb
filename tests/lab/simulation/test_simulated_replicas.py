"""The simulator with replicas: fresh schedules for every exact strategy, rule and compressor.

Snapshots come every third task here, so that the short runs of schedules have some. The mutants
break what is kept of replicas in one way each; the unbroken code survives the same seeds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from coordinator.core import work_order
from coordinator.core.replicas import Replicas
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import Plan, make_plan
from lab.simulation.play import Result, play
from microgpt.compression.registry import COMPRESSORS
from microgpt.distribution import Distribution
from microgpt.replicas.state import ReplicaLog
from microgpt.strategies.base import Promise, Strategy
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.noise_scale import NoiseScale
from microgpt.strategies.registry import STRATEGIES, load_strategy, name_of
from microgpt.strategies.replica_clocks import ReplicaClocks
from microgpt.strategies.sync import Sync
from tests.marks import soak

FED = Distribution(3, compress="topk:0.3")
KRUM = 5  # replicas that it needs

SETTINGS: dict[str, tuple[Strategy, Distribution]] = {
    **{
        f"sync, {name}": (
            Sync(),
            Distribution(3, compress=name),
        )
        for name in COMPRESSORS
    },
    "sync, no feedback": (Sync(), Distribution(3, compress="powersgd", error_feedback=False)),
    "sync, replicas": (Sync(), Distribution(4)),
    "sync, krum": (Sync(), Distribution(KRUM, aggregate="krum")),
    "sync, centered-clip": (Sync(), Distribution(3, aggregate="centered-clip", compress="qsgd")),
    "noise-scale": (NoiseScale(shards=3), Distribution()),
    "noise-scale, replicas": (NoiseScale(), Distribution(3)),
    "local-sgd": (LocalSGD(2), Distribution(3)),
    "diloco": (DiLoCo(3), Distribution(2)),
    "diloco, powersgd": (DiLoCo(2), Distribution(2, compress="powersgd")),
}


@pytest.fixture(autouse=True)
def frequent_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_order, "SNAPSHOT_EVERY", 3)


def plans(name: str, first: int) -> Iterator[Plan]:
    """Schedules from a seed on, in which there is a document for each replica."""
    seed = first
    while True:
        plan = make_plan(seed, None, 0.02)
        if "krum" not in name or plan.batch_size >= KRUM:
            yield plan
        seed += 1


def run(plan: Plan, name: str, trace: bool = False) -> Result:
    strategy, distribution = SETTINGS[name]
    return play(plan, STAND_IN, trace=trace, strategy=strategy, distribution=distribution)


@pytest.mark.parametrize("schedules", [3, soak(500)])
@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.timeout(900)  # of a crowded machine
def test_fresh_schedules_end_with_the_bits_of_the_quiet_run(name: str, schedules: int) -> None:
    first = random.SystemRandom().randrange(1 << 40)
    for _, plan in zip(range(schedules), plans(name, first), strict=False):
        assert run(plan, name).problem == "", f"seed {plan.seed} of {name}"


@pytest.mark.parametrize(
    ("seed", "name"),
    [
        # A late task and a late welcome made a worker forget what it had been given.
        (866225241537, "sync, randomk"),
        # A state that was told again for a task under way was taken for that of the next one.
        (1056637195709, "sync, sign"),
        # With snapshots every second task: a late copy of a welcome answered another Hello.
        (86647685369, "sync, powersgd"),
    ],
)
def test_what_one_schedule_in_thousands_has_found(
    seed: int, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "powersgd" in name:
        monkeypatch.setattr(work_order, "SNAPSHOT_EVERY", 2)
    assert run(make_plan(seed, None, 0.02), name).problem == ""


@pytest.mark.parametrize("seed", [897014827446, 314153046313, 314153046501])
def test_a_number_beyond_belief_is_looked_at_before_it_is_kept_for_an_update(seed: int) -> None:
    """In an update of several rounds nobody would know who has brought it."""
    strategy = load_strategy("decoupled-diloco")
    plan = make_plan(seed, None, 0.02)
    assert play(plan, STAND_IN, strategy=strategy, distribution=Distribution(4)).problem == ""


def test_every_exact_strategy_is_played() -> None:
    exact = {name for name in STRATEGIES if load_strategy(name).promise is Promise.EXACT}
    assert {name_of(strategy) for strategy, _ in SETTINGS.values()} == exact


def test_the_same_seed_plays_the_same_schedule() -> None:
    for seed in range(5):
        one, other = (
            run(make_plan(seed, None, 1.0), "diloco, powersgd", trace=True) for _ in range(2)
        )
        assert one.trace == other.trace
        assert one.trace


# Mutants

CLOSED, BEFORE, RESTORE, FREEZE = (
    Replicas.closed, Replicas.before, Replicas.restore, Replicas.freeze
)  # fmt: skip
SENT, OPENED, SETTLE, BEGIN = Replicas.sent, Replicas.opened, Replicas.settle, RoundDriver.__init__


def count_snapshots_at_once(self: Replicas, *arguments: Any) -> None:
    CLOSED(self, *arguments)
    SETTLE(self)


def do_nothing_again(self: Replicas, *arguments: Any) -> Any:
    return BEFORE(self, *arguments)[:1]


def never_tell_a_state(self: Replicas, *arguments: Any) -> Any:
    return []


def forget_the_snapshots(self: Replicas, logs: Any, *arguments: Any) -> None:
    RESTORE(self, [ReplicaLog(log.replica) for log in logs], *arguments)


def begin_all_clocks_anew(self: RoundDriver, *arguments: Any, **more: Any) -> None:
    BEGIN(self, *arguments, **more)
    self._clocks = ReplicaClocks((), self.config.steps)


def save_what_is_open(self: Replicas, undone: Collection[int]) -> Any:
    return FREEZE(self, ())


def trust_that_all_is_known(
    self: Replicas, worker: Any, order: Any, shard: Any, **more: Any
) -> Any:
    """Also by a worker that is welcomed anew, or has never had the replica."""
    assignment = order.assignments.get(shard)
    if assignment is not None:
        past = self._pasts[assignment.replica]
        worker.replicas[assignment.replica] = past, assignment.clock
    return SENT(self, worker, order, shard, **more)


def keep_old_tasks(self: Replicas) -> None:
    """A snapshot counts, and the tasks before it are done once more."""
    tasks = {replica: [*since] for replica, since in self._since.items()}
    SETTLE(self)
    self._since = tasks


def forget_tasks_of_the_step(self: Replicas, order: Any, first: int) -> None:
    OPENED(self, order, first)
    for since in self._since.values():
        del since[:-2]


#: (what is replaced, where; by what; seeds of which at least one catches it with ``FED``)
MUTANTS: dict[str, tuple[Any, str, Any, list[int]]] = {
    "a snapshot counts before its step is over": (
        Replicas,
        "closed",
        count_snapshots_at_once,
        [5046],
    ),
    "nothing is done again": (Replicas, "before", do_nothing_again, [1, 3]),
    "no state is told": (Replicas, "before", never_tell_a_state, [1, 3]),
    "a restarted coordinator knows no snapshot": (
        Replicas,
        "restore",
        forget_the_snapshots,
        [56, 112],
    ),
    "a restarted coordinator's replicas begin anew": (
        RoundDriver,
        "__init__",
        begin_all_clocks_anew,
        [56, 112],
    ),
    "a checkpoint has what is open": (Replicas, "freeze", save_what_is_open, [16, 26]),
    "a worker is thought to know all": (Replicas, "sent", trust_that_all_is_known, [1, 3]),
    "tasks before a snapshot are saved with it": (Replicas, "settle", keep_old_tasks, [0, 1]),
    "tasks are forgotten before there is a snapshot": (
        Replicas,
        "opened",
        forget_tasks_of_the_step,
        [1, 3],
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_what_is_broken_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, by, seeds = MUTANTS[name]
    problems = [run(make_plan(seed, None, 0.0), "sync, topk").problem for seed in seeds]
    assert problems == [""] * len(seeds), "unbroken, all is well"
    monkeypatch.setattr(where, what, by)
    assert any(run(make_plan(seed, None, 0.0), "sync, topk").problem for seed in seeds)


def anywhere(self: Replicas, *arguments: Any) -> None:
    """No replica has a home."""


def nobody_has_more(self: Replicas, peer: bytes, other: bytes) -> int:
    """No replica moves to a worker that has fewer."""
    return 0


@pytest.mark.parametrize(("what", "by"), [("home", anywhere), ("surplus", nobody_has_more)])
def test_where_a_replica_is_computed_is_no_matter_of_bits(
    what: str, by: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Replicas, what, by)
    for seed in range(20):
        assert run(make_plan(seed, None, 0.0), "diloco, powersgd").problem == ""
