"""What a real run tells of itself at each level, and that its bits do not depend on that."""

from __future__ import annotations

import signal
from collections import Counter
from dataclasses import replace

import pytest

from coordinator.core.events import (
    Answered,
    Assigned,
    Closing,
    Evaluated,
    EventBase,
    Finished,
    Joined,
    Level,
    Outcome,
    Purpose,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
    StepDone,
    TensorNorms,
    WorkerPulse,
)
from tests.conftest import Reference
from tests.processes import ENDLESS, TINY, Lab, eventually
from tests.system.test_system_workers import STEPS, ends_alike

pytestmark = pytest.mark.timeout(300)
SHARDS = 3  # of four documents each


def flags(lab: Lab, *more: str, steps: int = STEPS) -> list[str]:
    size = ("--steps", str(steps), "--batch-size", "12", "--shard-size", "4")
    return [*TINY, *size, "--data", str(lab.data), "--engine", "scalar", "--workers", "2", *more]


def test_a_full_record_tells_of_each_shard_round_and_step(lab: Lab, reference: Reference) -> None:
    train = lab.train(*flags(lab, "--events", "full"))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    ends_alike(run, reference(STEPS, 12))
    opened, closed = run.events(RoundOpened), run.events(RoundClosed)
    assert opened == [RoundOpened(n, n, False, 12 * n, 12) for n in range(STEPS)]
    applied, cut = RoundOutcome.APPLIED, (4, 4, 4)
    assert {event.workers for event in closed} <= {1, 2}
    assert [replace(event, workers=0) for event in closed] == [
        RoundClosed(n, n, False, SHARDS, SHARDS, applied, cut) for n in range(STEPS)
    ]
    done = run.events(StepDone)
    assert [(event.version, event.loss, event.seconds) for event in done] == [
        (record["step"], record["loss"], record["seconds"]) for record in run.metrics
    ]
    work = {(n, start) for n in range(STEPS) for start in (0, 4, 8)}
    answered = [event for event in run.events(Answered) if not event.trial]
    assert Counter((event.round, event.start) for event in answered) == Counter(work)
    assigned = {(e.worker, e.round, e.start): e for e in run.events(Assigned)}
    for event in run.events(Answered):
        order = assigned[event.worker, event.round, event.start]
        assert (order.purpose is Purpose.TRIAL) == event.trial
        assert (order.version, order.count, order.name) == (event.round, 4, event.name)
        assert 0.0 < event.seconds <= event.waited
    assert Counter(e.round for e in assigned.values()) >= Counter(e.round for e in answered)


@pytest.mark.soak
def test_evaluations_are_rounds_too(lab: Lab) -> None:
    held_out = ("--validation-fraction", "0.25", "--eval-every", "3")
    train = lab.train(*flags(lab, "--events", "full", *held_out))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    outcomes = [(e.version, e.outcome) for e in run.events(RoundClosed) if e.evaluation]
    assert outcomes == [(3, RoundOutcome.EVALUATED), (6, RoundOutcome.EVALUATED)]
    assert [(event.version, event.loss) for event in run.events(Evaluated)] == [
        (r["step"], r["validation_loss"]) for r in run.metrics if "validation_loss" in r
    ]


@pytest.mark.soak
def test_a_summary_leaves_out_shards_rounds_and_steps_and_has_the_same_bits(
    lab: Lab, reference: Reference
) -> None:
    train = lab.train(*flags(lab))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    ends_alike(run, reference(STEPS, 12))
    assert {each.event.recorded_at for each in run.recorded} == {Level.SUMMARY}
    assert [event.level for event in run.events(Started)] == [Level.SUMMARY]


@pytest.mark.soak
def test_the_level_is_a_variable_too(lab: Lab) -> None:
    train = lab.train(*flags(lab, steps=1), MICROGPT_EVENTS="rounds")
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    assert len(run.events(RoundClosed)) == 1
    levels = {each.event.recorded_at for each in run.recorded}
    assert levels == {Level.SUMMARY, Level.ROUNDS}
    wrong = lab.train(*flags(lab, "--events", "everything"))
    assert wrong.wait() == 2
    assert "'everything' is not one of 'summary', 'rounds', 'full'" in wrong.err


def test_workers_and_updates_are_told_of_where_rounds_are_recorded(
    lab: Lab, reference: Reference
) -> None:
    bind = ("--bind", "tcp://127.0.0.1:*")
    train = lab.train(*flags(lab, "--events", "rounds", *bind))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    ends_alike(run, reference(STEPS, 12))
    assert {event.host for event in run.events(Joined)} == {"127.0.0.1"}
    last = {event.worker: event for event in run.events(WorkerPulse)}.values()
    assert sum(event.documents for event in last) >= STEPS * 12
    for way in ("bytes_sent", "bytes_received"):
        counted = [getattr(event, way) for event in last]
        together = sum(record[way] for record in run.metrics)
        assert 0 < sum(counted) <= together
        assert sum(counted) == together or len(counted) < len(run.events(Joined))
    for event in last:
        assert 0.0 < event.computing <= event.waited
    norms = run.events(TensorNorms)
    assert (norms[0].version, norms[-1].version) == (1, STEPS)
    assert min(norms[-1].gradient + norms[-1].update) > 0.0


@pytest.mark.soak
def test_nothing_is_lost_by_a_signal_and_a_killed_epoch_is_followed_by_another(lab: Lab) -> None:
    many = flags(lab, "--events", "full", "--run-dir", "runs/it", steps=int(ENDLESS[1]))
    lab.slow_down(0.005)
    train = lab.train(*many)
    run = lab.run_dir()
    run.reaches(20)
    train.send(signal.SIGTERM)
    assert train.wait() == 128 + signal.SIGTERM
    last: list[EventBase] = [each.event for each in run.recorded]
    assert isinstance(last[-1], Finished)
    assert last[-1].outcome is Outcome.STOPPED
    assert [event.outcome for event in run.events(Closing)] == [Outcome.STOPPED]
    assert [event.version for event in run.events(StepDone)] == [*range(1, len(run.metrics) + 1)]

    done = len(run.metrics)
    again = lab.train(*many, "--resume", "auto")
    eventually(lambda: len(run.events(Started)) == 2, "the second epoch has begun")
    assert run.events(Started)[1].version == done
    again.send(signal.SIGTERM)
    again.wait()
