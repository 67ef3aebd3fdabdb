"""Conditions in virtual time: what they do to a run, and that its promises hold all the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import log

import pytest

from lab.condition_texts import read_conditions, with_policy
from lab.conditions import Conditions
from lab.simulation.arithmetic import STAND_IN, same_state
from lab.simulation.command import main
from lab.simulation.plan import Plan, make_plan
from lab.simulation.play import Result, play
from lab.simulation.setting import Setting
from microgpt.distribution import Distribution
from microgpt.strategies.base import Strategy
from microgpt.strategies.local_sgd import LocalSGD
from microgpt.strategies.sync import Sync
from microgpt.support.cli import UserError
from tests.marks import soak

HARD = read_conditions(
    5,
    link=["latency=20ms,jitter=10ms,loss=1%", "worker=1:latency=50ms,bandwidth=1Mbit"],
    slow=["worker=2:3x"],
    fail=["mtbf=3s,mttr=200ms"],
)


def calm(seed: int, slots: int, steps: int = 6) -> Plan:
    """A schedule in which nothing goes wrong by itself, of eight documents a step."""
    plan = make_plan(seed, slots, 0.0)
    return replace(
        plan, steps=steps, batch_size=8, document_seconds=0.01, faults=(), heals_at=0.0,
        byzantine=None, verify_fraction=0.0, eval_every=0, stale=0.0, twice=0.0,
    )  # fmt: skip


def under(plan: Plan, **texts: Sequence[str]) -> Result:
    result = play(plan, STAND_IN, trace=True, conditions=read_conditions(5, **texts))
    assert not result.problem
    return result


@pytest.mark.parametrize(
    ("strategy", "distribution"),
    [
        (Sync(), Distribution()),
        (Sync(), Distribution(replicas=3, compress="topk:0.3", shard_by="length")),
        (LocalSGD(steps=2), Distribution(replicas=3)),
    ],
    ids=["sync", "sync of replicas", "local-sgd"],
)
@pytest.mark.parametrize("schedules", [6, soak(25)])
def test_schedules_under_hard_conditions_end_with_the_bits_of_the_quiet_run(
    strategy: Strategy, distribution: Distribution, schedules: int
) -> None:
    for seed in range(schedules):
        result = play(
            make_plan(seed, None, 0.1),
            STAND_IN,
            strategy=strategy,
            distribution=distribution,
            conditions=HARD,
        )
        assert not result.problem, f"seed {seed}"


def test_a_run_under_conditions_is_a_function_of_its_seed() -> None:
    one, same, other = (
        play(calm(seed, 3), STAND_IN, trace=True, conditions=HARD) for seed in (1, 1, 2)
    )
    assert one.trace == same.trace != other.trace
    assert any("is killed" in line for line in one.trace + other.trace)


def test_every_step_takes_a_round_trip() -> None:
    quick, far = under(calm(1, 1)), under(calm(1, 1), link=["latency=500ms"])
    assert far.virtual_seconds > 6 * 2 * 0.5 > quick.virtual_seconds


def test_a_narrow_link_takes_as_long_as_its_bytes() -> None:
    plan = replace(calm(1, 1), codec=True)
    wide, narrow = under(plan, link=["bandwidth=8Mbit"]), under(plan, link=["bandwidth=8kbit"])
    weights = 8 * 102  # bytes of the 102 parameters of the simulated model, six times each way
    assert narrow.virtual_seconds > 12 * weights / 1000 > wide.virtual_seconds


def test_what_is_lost_comes_late() -> None:
    sure, lossy = under(calm(1, 1), link=["loss=0%"]), under(calm(1, 1), link=["loss=50%"])
    assert lossy.virtual_seconds > sure.virtual_seconds + 1.0


def test_a_slow_worker_does_fewer_documents() -> None:
    alike, slow = under(calm(1, 2, 20)), under(calm(1, 2, 20), slow=["worker=2:8x"])
    assert alike.documents["worker-2"] > alike.documents["worker-1"] / 2
    assert slow.documents["worker-2"] < slow.documents["worker-1"] / 2


def test_workers_fail_and_come_back() -> None:
    quiet = under(calm(1, 2, 20))
    failing = under(calm(1, 2, 20), fail=["worker=2:mtbf=300ms,mttr=100ms"])
    killed = [line for line in failing.trace if "is killed" in line]
    assert len(killed) >= 3
    assert all("worker-2." in line for line in killed)
    assert not [line for line in quiet.trace if "is killed" in line]


@pytest.mark.parametrize(
    ("policy", "stopped", "least"), [("replace", 1, 0.0), ("elastic", 3, 0.0), ("restart", 3, 0.5)]
)
def test_who_is_stopped_with_a_worker_that_fails(policy: str, stopped: int, least: float) -> None:
    """All of three and the coordinator go on from the last checkpoint, when it is wanted."""
    plan = replace(calm(1, 3, 20), checkpoint_every=4, start_seconds=0.2)
    conditions = with_policy(read_conditions(3, fail=["worker=2:mtbf=1s,mttr=500ms"]), policy)
    result = play(plan, STAND_IN, trace=True, conditions=conditions)
    assert not result.problem
    lines = [(float(line.split()[0]), line) for line in result.trace]
    killed = [(at, line) for at, line in lines if "worker-" in line and "is killed" in line]
    fails = [at for at, line in killed if "worker-2." in line]
    assert fails
    assert {sum(at == time for time, _ in killed) for at in fails} == {stopped}
    begun = [at for at, line in lines if "starts epoch" in line]
    assert len(begun) == (1 if stopped == 1 else 1 + len(fails))
    for failed, again in zip(fails, begun[1:], strict=False):
        assert again == pytest.approx(failed + least + 0.2, abs=1e-3)


def test_who_is_back_before_the_coordinator_does_not_look_for_it_all_the_time() -> None:
    """Of two that fail, one after the other, the first comes back while all are being started."""
    plan = replace(calm(1, 3, 20), checkpoint_every=4, start_seconds=0.5, hesitation=1e-6)
    fails = ["worker=1:mtbf=1s,mttr=400ms", "worker=2:mtbf=1s,mttr=400ms"]
    conditions = with_policy(read_conditions(3, fail=fails), "elastic")
    result = play(plan, STAND_IN, trace=True, conditions=conditions)
    assert not result.problem
    assert result.epochs >= 3
    assert result.events < 20_000, "a thousand looks a second at most"


def test_with_a_snapshot_of_each_task_nothing_is_done_again() -> None:
    conditions = read_conditions(3, fail=["mtbf=1s,mttr=100ms"])
    tasks, ends = [], []
    for every in (0, 1):
        plan = replace(calm(3, 3, 24), snapshot_every=every, most_queued=1000)
        more = LocalSGD(steps=2), Distribution(replicas=3), conditions
        result = play(plan, STAND_IN, None, True, *more)
        assert not result.problem
        assert result.final is not None
        ends.append(result.final)
        sent = [line for line in result.trace if " -> " in line and "ReplicaTask" in line]
        killed = [line for line in result.trace if "is killed" in line and "worker" in line]
        assert len(killed) > 5
        tasks.append(len(sent))
    assert same_state(*ends)
    assert tasks[1] <= 3 * 24 + 2 * len(killed) < tasks[0], "a task is given again if it is lost"


def trained(aggregate: str, *lies: str, strategy: Strategy = Sync()) -> Result:  # noqa: B008
    """Five workers, five replicas, eighty updates of a tiny transformer."""
    conditions = read_conditions(5, byzantine=lies) if lies else Conditions()
    distribution = Distribution(replicas=5, aggregate=aggregate)
    setting = Setting(5, 80, 20, strategy, distribution, conditions)
    plan = replace(setting.plan(1), faults=(), heals_at=0.0, byzantine=None, eval_every=0)
    result = play(plan, "tape", None, False, strategy, distribution, conditions)
    assert not result.problem
    return result


def loss(result: Result) -> float:
    assert result.final is not None
    return result.final.losses[-1]


def test_krum_trains_among_liars_and_the_mean_does_not() -> None:
    honest, chance = loss(trained("mean")), log(6)  # of six tokens
    assert honest < 1.3
    assert loss(trained("mean", "worker=2:noise")) > chance - 0.1
    for lie in ("noise", "sign-flip"):
        assert loss(trained("krum", f"worker=2:{lie}")) < 1.4


def test_a_run_with_a_liar_is_a_function_of_its_seed_and_not_the_honest_one() -> None:
    one, same, honest = (
        trained("mean", "worker=2:alie"), trained("mean", "worker=2:alie"), trained("mean")
    )  # fmt: skip
    assert one.final is not None
    assert same.final is not None
    assert honest.final is not None
    assert same_state(one.final, same.final)
    assert not same_state(one.final, honest.final)


def test_the_command_plays_under_conditions_and_says_how_to_play_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    size = ["--workers", "2", "--steps", "3", "--batch-size", "4", "--seed", "5"]
    conditions = ["--link", "latency=5ms", "--slow", "worker=2:2x"]
    more = ["--replicas", "2", "--shard-by", "length", "--schedules", "3"]
    assert main.main([*size, *conditions, *more], standalone_mode=False) == 0
    assert "every one ended with the bits of the quiet run" in capsys.readouterr().out
    with pytest.raises(UserError, match="there is no worker '3': they are numbered 1 to 2"):
        main.main([*size, "--slow", "worker=3:2x"], standalone_mode=False)
    never = ["--fail", "mtbf=100ms,mttr=1s", "--link", "latency=1s"]  # no answer comes in time
    assert main.main([*size, *never, "--schedules", "1"], standalone_mode=False) == 1
    again = " ".join(["--seed 5 --workers 2 --steps 3 --batch-size 4", *never])
    assert f"{again} --engine stand-in --trace" in capsys.readouterr().out
