"""Evaluation on held-out documents: ordinary work, between two steps, that decides nothing."""

from __future__ import annotations

import signal
from typing import Any

import numpy as np
import pytest

from coordinator.core.actions import Finish
from coordinator.core.event_text import describe
from coordinator.core.events import Difference
from coordinator.core.inputs import Disconnected, Saved, StopRequested, Tick
from microgpt.checkpoint import format as checkpoint_format
from microgpt.engine.answering import documents_of
from microgpt.protocol import messages
from microgpt.training import Validation
from tests.conftest import Reference
from tests.coordinator.core.test_coordinator_state import EPOCH, RUN, A, B, C, Play
from tests.coordinator.core.test_cross_check import ZEROS
from tests.processes import NAMES, TINY, Lab
from tests.system.test_system_workers import ends_alike

HELD_OUT = 0.25


def tasks(play: Play, peer: bytes, *, training: bool) -> list[messages.Task]:
    return [task for task in play.got(peer, messages.Task) if task.training == training]


def test_held_out_documents_are_evaluated_as_ordinary_work() -> None:
    play = Play(steps=4, eval_every=2, held_out=HELD_OUT)
    play.joins(A, B)
    play.finishes_with(A, B)
    given = [task for peer in (A, B) for task in tasks(play, peer, training=False)]
    assert {task.step for task in given} == {2, 4}
    for step in (2, 4):
        held = sorted((t.start, [*documents_of(t)]) for t in given if t.step == step)
        documents = [list(document) for _, part in held for document in part]
        assert documents == [document[:3] for document in play.corpus.validation]
    assert [record.get("validation_loss") for record in play.done] == [None, 4.0, None, 6.0]
    assert play.done[1]["validation_seconds"] >= 0.0
    assert play.state.training.validation == Validation(4, 6.0)
    assert play.finish == Finish("done", "all 4 steps are done")


def test_nothing_that_is_held_out_is_trained_on() -> None:
    play = Play(steps=30, held_out=HELD_OUT)
    play.joins(A)
    play.finishes_with(A)
    trained = {tuple(d) for task in tasks(play, A, training=True) for d in documents_of(task)}
    assert trained.isdisjoint(map(tuple, play.corpus.validation))
    assert len(play.corpus.validation) > 0


def test_the_last_step_is_evaluated_whatever_its_number() -> None:
    play = Play(steps=3, eval_every=100, held_out=HELD_OUT)
    play.joins(A)
    play.finishes_with(A)
    assert [record.get("validation_loss") for record in play.done] == [None, None, 5.0]


def test_the_next_step_needs_no_weights_that_the_evaluation_has_sent() -> None:
    play = Play(steps=2, batch_size=1, eval_every=1, held_out=HELD_OUT)
    play.joins(A)
    play.finishes_with(A)
    assert [weights.step for weights in play.got(A, messages.Weights)] == [0, 1, 2]


def in_evaluation(**policy: Any) -> Play:
    """A run whose first step waits for its evaluation, by A and B."""
    play = Play(steps=3, batch_size=2, eval_every=1, held_out=HELD_OUT, **policy)
    play.joins(A, B)
    for peer in (A, B, A, B):
        if play.task(peer).training:
            play.answers(peer)
    assert [play.task(peer).training for peer in (A, B)] == [False, False]
    assert play.done == []
    return play


def test_a_worker_that_is_lost_in_an_evaluation() -> None:
    play = in_evaluation()
    play.do(Disconnected(A))
    assert "lost" in play.kinds()
    play.finishes_with(B)
    assert [record["validation_loss"] for record in play.done] == [3.0, 4.0, 5.0]


def test_a_slow_worker_is_helped_in_an_evaluation() -> None:
    play = in_evaluation()
    while not play.task(B).training and play.task(B).start != play.task(A).start:
        play.answers(B)
        for _ in range(10):
            play.do(Tick(), after=0.1)
            for peer in (A, B):
                play.says(peer, messages.Heartbeat(RUN, EPOCH, ready=True))
    play.answers(B)
    assert "backed_up" in play.kinds()
    assert len(play.done) == 1


def test_late_answers_are_for_the_phase_that_they_name() -> None:
    play = in_evaluation(verify_fraction=0.0)
    late = play.answer(play.task(A))
    play.do(Disconnected(A))
    while len(play.done) == 0:
        play.answers(B)
    assert play.task(B).step == late.step, "the step after the evaluation has the same number"
    play.joins(A)
    play.says(A, late)
    assert "expelled" not in play.kinds()
    play.finishes_with(A, B)
    assert [record["loss"] for record in play.done] == [1.0, 1.0, 1.0]


def test_answers_with_a_gradient_nobody_wants_are_malformed() -> None:
    play = in_evaluation()
    play.answers(A, gradient=ZEROS)
    assert "expelled" in play.kinds()
    play.joins(C)
    play.finishes_with(B, C)
    assert [record["validation_loss"] for record in play.done] == [3.0, 4.0, 5.0]


def test_an_answer_of_training_does_not_pass_for_one_of_an_evaluation() -> None:
    play = in_evaluation()
    play.answers(A, training=True, gradient=ZEROS)
    assert "expelled" in play.kinds(), "the step of this number has not begun"


def test_different_losses_are_reported() -> None:
    play = in_evaluation(verify_fraction=1.0)
    task = play.task(A)
    while not any(t.start == task.start for t in tasks(play, B, training=False)):
        play.answers(B)
    play.answers(A, losses=np.full(task.count, 9.0).tobytes())
    while "difference" not in play.kinds():
        play.answers(B)
    (told,) = play.events(Difference)
    assert (told.version, told.evaluation) == (1, True)
    assert "held-out documents" in describe(told)
    assert "after step 1" in describe(told)


def test_a_document_without_a_loss_ends_the_run_and_says_which() -> None:
    play = Play(steps=2, batch_size=1, eval_every=1, held_out=HELD_OUT)
    play.joins(A)
    play.answers(A)
    number = play.task(A).round
    play.says(
        A, messages.Failure(RUN, EPOCH, 1, 0, "the loss is inf", training=False, round=number)
    )
    for _ in range(10):
        play.do(Tick(), after=0.3)
    assert play.finish is None, "the word of a single worker ends no run"
    play.judge_fails("the loss is inf")
    play.do(Saved(0))
    assert play.finish is not None
    assert play.finish.outcome == "failed"
    name = play.corpus.tokenizer.decode(play.corpus.validation[0])
    assert f"after step 1, held-out document 1 ({name!r}): the loss is inf" in play.finish.reason


def test_a_stop_during_an_evaluation_leaves_the_step_undone() -> None:
    play = in_evaluation()
    play.do(StopRequested())
    play.do(Saved(0))
    assert play.finish == Finish("stopped", "stopped after step 0")
    assert play.done == [], "it will be done again, with its evaluation"


@pytest.mark.parametrize(("save_evaluated", "saves"), [(False, [0, 3, 5]), (True, [0, 2, 3, 4, 5])])
def test_each_evaluation_may_make_a_checkpoint(save_evaluated: bool, saves: list[int]) -> None:
    play = Play(
        steps=5, eval_every=2, checkpoint_every=3, save_evaluated=save_evaluated, held_out=HELD_OUT
    )
    play.joins(A)
    play.finishes_with(A)
    assert play.saves == saves


# With real processes

VALIDATED = (*TINY, "--batch-size", "4", "--validation-fraction", "0.25", "--eval-every", "4")


def test_workers_of_any_number_and_engine_find_the_same_loss(
    lab: Lab, reference: Reference
) -> None:
    found = []
    for name, more in (("one", ("1", "--engine", "tape")), ("two", ("2", "--engine", "scalar"))):
        flags = (*VALIDATED, "--steps", "10", "--data", str(lab.data), "--workers", *more)
        train = lab.train(*flags, run=f"runs/{name}")
        assert train.wait() == 0, train.err
        run = lab.run_dir(f"runs/{name}")
        expected = reference(10, 4, NAMES, 0.25)
        ends_alike(run, expected)
        assert checkpoint_format.load(run.newest).validation == expected.validation
        found.append(
            {r["step"]: r["validation_loss"] for r in run.metrics if "validation_loss" in r}
        )
        assert f"validation loss {found[-1][10]:.4f}" in train.out
    assert list(found[0]) == [4, 8, 10]
    assert found[0] == found[1]


@pytest.mark.soak
def test_a_run_that_is_resumed_goes_on_with_the_same_documents(
    lab: Lab, reference: Reference
) -> None:
    coordinator = lab.coordinator(*VALIDATED, "--steps", "40", "--data", str(lab.data))
    run = lab.run_dir()
    lab.slow_down(0.02)
    worker = lab.worker(run.endpoint())
    lab.slow_down(0.0)
    run.reaches(10)
    coordinator.send(signal.SIGINT)
    assert (coordinator.wait(), worker.wait()) == (130, 0)
    resumed = ("--resume", "runs/it", "--workers", "1", "--engine", "scalar")
    train = lab.train(*resumed, "--validation-fraction", "0.5", run="")
    assert train.wait() == 1
    assert "--validation-fraction 0.5 contradicts the checkpoint" in train.err
    train = lab.train(*resumed, "--eval-every", "4", run="")
    assert train.wait() == 0, train.err
    expected = reference(40, 4, NAMES, 0.25)
    ends_alike(run, expected)
    assert checkpoint_format.load(run.newest).validation == expected.validation
    evaluated = [record["step"] for record in run.metrics if "validation_loss" in record]
    assert evaluated == list(range(4, 41, 4))


def test_one_document_cannot_be_held_out(lab: Lab) -> None:
    lab.data.write_text("anna\n")
    train = lab.train(*VALIDATED, "--data", str(lab.data), "--workers", "1")
    assert train.wait() == 1
    assert "none to train on" in train.err
    assert "Traceback" not in train.err
