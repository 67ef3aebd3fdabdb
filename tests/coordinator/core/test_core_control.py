"""A pause, a checkpoint and another learning rate, as somebody who looks on wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from coordinator.core.events import (
    BackedUp,
    Controlled,
    ControlRefused,
    ControlVerb,
    LearningRateChanged,
    Paused,
    Resumed,
    Silent,
)
from coordinator.core.inputs import Asked, Received, Saved, StopRequested, Tick, Wish
from lab.simulation.arithmetic import DocumentByDocument, stand_in
from microgpt.config import TrainingConfig
from microgpt.distribution import Distribution
from microgpt.optim.adam import AdamConfig
from microgpt.protocol import messages
from microgpt.strategies import serial
from microgpt.strategies.async_sgd import Async
from microgpt.strategies.base import Result, Round, Strategy, View
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.easgd import EASGD
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, from_checkpoint, initial_state
from tests.coordinator.core.cluster import RUN, Cluster

A, B, C = b"A", b"B", b"C"
PAUSE, RESUME, SAVE = (Asked(wish, "page") for wish in (Wish.PAUSE, Wish.RESUME, Wish.SAVE))


def rate(value: float) -> Asked:
    return Asked(Wish.LEARNING_RATE, "page", value)


def cluster(strategy: Strategy | None = None, **more: object) -> Cluster:
    return Cluster(strategy or Sync(), Distribution(), shard_size=4, **more)  # type: ignore[arg-type]


def tasks(cluster: Cluster, peer: bytes) -> int:
    return len(cluster.got(peer, messages.Task))


def test_in_a_pause_nothing_is_given_out_and_what_is_under_way_ends_its_step() -> None:
    run = cluster()
    run.joins(A, B)
    run.runs_until(2)
    run.do(PAUSE)
    run.do(PAUSE)
    assert run.state.paused
    given = tasks(run, A) + tasks(run, B)
    run.works()
    assert run.state.training.step == 3
    run.joins(C)
    for _ in range(5):
        run.do(Tick(), 0.1)
    assert tasks(run, A) + tasks(run, B) + tasks(run, C) == given
    run.do(RESUME)
    run.do(RESUME)
    assert tasks(run, A) + tasks(run, B) > given
    assert run.events(Paused) == [Paused("page", 2)]
    (resumed,) = run.events(Resumed)
    assert (resumed.version, round(resumed.seconds, 1)) == (3, 0.5)
    assert run.ends().params.tobytes() == run.quiet()[-1].params.tobytes()


def test_what_a_worker_had_that_dies_in_a_pause_is_given_out_after_it() -> None:
    run = cluster()
    run.joins(A, B)
    run.do(PAUSE)
    given = tasks(run, B)
    run.loses(A)
    run.do(Tick(), 0.3)
    run.works()
    assert tasks(run, B) == given
    run.do(RESUME)
    assert tasks(run, B) > given
    assert run.ends().params.tobytes() == run.quiet()[-1].params.tobytes()


def test_nobody_is_helped_in_a_pause() -> None:
    run = cluster(worker_timeout=100.0)
    run.joins(A, B)
    run.runs_until(2)
    run.do(PAUSE)
    run.answers(A)
    given = tasks(run, A)
    for _ in range(60):
        run.do(Tick(), 0.1)
    assert (tasks(run, A), run.events(BackedUp)) == (given, [])
    run.do(RESUME)
    run.do(Tick(), 0.1)
    assert tasks(run, A) > given, "B has had its shard for so long"


def test_time_in_a_pause_is_not_work_and_silence_is_judged_as_ever() -> None:
    run = cluster(worker_timeout=1.0)
    run.joins(A, B)
    run.works()
    run.do(PAUSE)
    worked = run.state.times.worked
    for _ in range(50):
        run.do(Received(A, messages.Heartbeat(RUN, run.epoch, ready=True)), 0.1)
        run.do(Tick(), 0.0)
    assert run.state.times.worked == worked
    assert run.state.times.paused == pytest.approx(5.0)
    assert [event.name for event in run.events(Silent)] == ["B"], "A has been heard of"
    run.do(RESUME)
    assert run.state.times.paused == pytest.approx(5.0, abs=0.1)


def test_a_paused_run_can_be_stopped_and_its_state_is_saved() -> None:
    run = cluster()
    run.joins(A)
    run.runs_until(3)
    run.do(PAUSE)
    run.do(StopRequested())
    assert run.saved[-1].step == run.state.training.step
    told = len(run.told)
    for asked in (RESUME, SAVE, rate(0.5)):
        run.do(asked)
    assert len(run.told) == told, "it is too late for that"
    run.do(Saved(run.state.training.step))
    assert run.finish is not None
    assert run.finish.outcome == "stopped"


def test_a_checkpoint_is_saved_when_it_is_asked_for() -> None:
    run = cluster(checkpoint_every=1000)
    run.joins(A)
    run.do(Saved(0))
    run.runs_until(3)
    assert [state.step for state in run.saved] == [0]
    run.do(SAVE)
    assert [state.step for state in run.saved] == [0, 3]
    assert run.events(Controlled) == [Controlled("page", ControlVerb.SAVE, "", 1.0)]


def by_hand(config: TrainingConfig, run: Cluster, changes: dict[int, float]) -> bytes:
    """Weights of the same training, made of pieces with another setting each."""
    engine = DocumentByDocument(stand_in, config.model.block_size)
    state = initial_state(config, run.corpus)
    for version in range(config.steps):
        if version in changes:
            adam = AdamConfig(learning_rate=changes[version])
            config = replace(config, adam=adam)
        states = serial.run(Sync(), config, run.corpus, state, engine)
        state = next(iter(states))
    return state.params.tobytes()


def test_a_learning_rate_holds_from_the_next_update_on() -> None:
    run = cluster(steps=8)
    run.joins(A, B)
    run.runs_until(3)
    run.do(rate(0.5))
    assert run.events(LearningRateChanged) == []
    run.runs_until(5)
    run.do(rate(0.1))
    run.do(rate(0.02))
    last = run.ends()
    assert run.events(LearningRateChanged) == [
        LearningRateChanged("page", 3, 0.5, 0.01),
        LearningRateChanged("page", 5, 0.02, 0.5),
    ]
    assert last.learning_rate == 0.02
    assert last.params.tobytes() == by_hand(run.config, run, {3: 0.5, 5: 0.02})
    assert last.params.tobytes() != run.quiet()[-1].params.tobytes()


def test_a_step_that_is_evaluated_keeps_the_rate_it_was_made_with() -> None:
    run = cluster(steps=6, held_out=0.25, eval_every=1)
    run.joins(A)
    run.runs_until(2)
    while run.state.training.step == 2 and not run.got(A, messages.Task)[-1].training:
        run.works()
    while run.got(A, messages.Task)[-1].training:
        run.works()
    run.do(rate(0.5))  # while the evaluation of step 3 is under way
    run.ends()
    (told,) = run.events(LearningRateChanged)
    assert told.version == 3
    assert [state.learning_rate for state in run.states] == [None, None, None, 0.5, 0.5, 0.5]


def test_a_run_goes_on_from_its_checkpoint_with_the_rate_that_holds() -> None:
    run = cluster(steps=8)
    run.joins(A)
    run.runs_until(2)
    run.do(rate(0.5))
    run.runs_until(4)
    again = cluster(steps=8, training=from_checkpoint(run.checkpoint()))
    again.joins(B)
    assert again.ends().params.tobytes() == run.ends().params.tobytes()
    assert again.events(LearningRateChanged) == []


class Forgetful(Sync):
    """Makes states of its own, which have only what it knows of."""

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        after = super().update(view, round, results)
        return None if after is None else replace(after, learning_rate=None)


def test_a_strategy_of_a_users_own_need_not_know_of_it() -> None:
    run, other = cluster(Forgetful(), steps=6), cluster(steps=6)
    for each in (run, other):
        each.joins(A)
        each.do(rate(0.5))
    assert run.ends().params.tobytes() == other.ends().params.tobytes()
    assert [state.learning_rate for state in run.states] == [0.5] * 6


@pytest.mark.parametrize("strategy", [DiLoCo(), EASGD()])
def test_the_rate_of_local_steps_is_not_changed(strategy: Strategy) -> None:
    run = Cluster(strategy, Distribution(replicas=2), steps=3, batch_size=8)
    run.joins(A)
    run.do(rate(0.5))
    (told,) = run.events(ControlRefused)
    assert (told.by, told.verb) == ("page", "learning_rate")
    assert told.reason.startswith("the learning rate of local steps cannot be changed")
    assert run.ends().learning_rate is None


@pytest.mark.parametrize("value", [-0.1, float("inf")])
def test_no_learning_rate(value: float) -> None:
    run = cluster()
    run.joins(A)
    run.do(rate(value))
    (told,) = run.events(ControlRefused)
    assert told.reason.startswith("learning_rate ")


def test_an_outer_optimizer_gets_the_rate_too() -> None:
    finals = set()
    for spec in ("sgd:0.25", "sgd:1.0"):
        run = Cluster(Sync(), Distribution(outer_optimizer=spec), steps=4)
        run.joins(A)
        run.do(rate(0.25))
        finals.add(run.ends().params.tobytes())
    assert len(finals) == 1


def test_a_strategy_of_timing_takes_it_as_well() -> None:
    run = cluster(Async(), steps=6)
    run.joins(A, B)
    run.runs_until(2)
    run.do(PAUSE)
    while any(run.answers(peer) for peer in (A, B)):
        pass
    step = run.state.training.step
    run.do(rate(0.5))
    run.do(Tick(), 0.2)
    assert run.state.training.step == step
    run.do(RESUME)
    run.ends()
    assert [event.version for event in run.events(LearningRateChanged)] == [step]
