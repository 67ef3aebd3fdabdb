"""Whom the coordinator believes, and what nobody can make it do."""

from __future__ import annotations

import numpy as np

from coordinator.events import Misbehaved, Saved, StopRequested, Tick
from coordinator.outbox import NOTES
from microgpt import messages
from microgpt.vectors import vector_to_map
from tests.test_coordinator_state import LIFE, RUN, SHAPES, A, B, C, Play, expected, pretend

ZEROS = vector_to_map(0.0 * pretend([[0]]), SHAPES)
NAN_LOSS = "the loss is nan"


def fails(play: Play, peer: bytes) -> None:
    task = play.task(peer)
    play.says(peer, messages.Failure(RUN, LIFE, task.step, task.start, NAN_LOSS))


def test_a_failure_alone_does_not_end_the_run_when_another_can_compute() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A, B)
    fails(play, A)
    assert play.state.closing is None
    play.answers(B)  # its own shard; then it is asked for the other's
    assert play.task(B).start == 0
    play.answers(B)
    assert [m.reason for m in play.got(A, messages.Refuse)] != []
    assert list(play.state.workers) == [B]
    play.do(Saved(1))
    assert play.finish is not None
    assert play.finish.outcome == "done"
    assert play.state.training.params.tobytes() == expected(play.config)


def test_a_failure_that_a_second_worker_confirms_ends_the_run() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    fails(play, A)
    assert play.state.closing is None
    fails(play, B)
    assert play.state.closing is not None
    assert play.state.closing.outcome == "failed"
    assert NAN_LOSS in play.state.closing.reason


def test_a_failure_counts_when_the_second_worker_is_gone() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    fails(play, A)
    play.says(B, messages.Goodbye(RUN, LIFE))
    assert play.state.closing is not None
    assert NAN_LOSS in play.state.closing.reason


def test_a_failure_at_what_nobody_asked_is_nothing() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A, B)
    for step, document in ((0, 1), (0, 99), (7, 0)):
        play.says(A, messages.Failure(RUN, LIFE, step, document, NAN_LOSS))
    assert play.state.closing is None
    assert list(play.state.workers) == [A, B]


def test_two_workers_that_contradict_each_other_stop_the_run_loudly() -> None:
    play = Play(batch_size=1, steps=2, verify_fraction=1.0)
    play.joins(A, B)
    play.answers(A)
    play.answers(B, gradient=ZEROS)
    assert play.done == [], "nothing doubtful is trained on"
    assert play.state.closing is not None
    assert play.state.closing.outcome == "failed"
    for name in ("A", "B", "no other worker"):
        assert name in play.state.closing.reason
    play.do(Saved(0))
    assert play.finish == play.state.closing


def test_a_lie_that_comes_to_light_too_late_is_reported() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A)
    play.answers(A, gradient=ZEROS)  # a lie that nobody verifies
    play.joins(B, C)
    for _ in range(10):  # A is slow with its next shard; B and C look for themselves
        for peer in (A, B, C):
            play.says(peer, messages.Heartbeat(RUN, LIFE, ready=True))
        play.do(Tick(), after=0.2)
    assert play.kinds().count("backup") == 1
    helper = next(peer for peer in (B, C) if play.got(peer, messages.Task))
    play.answers(A, gradient=ZEROS)
    assert len(play.done) == 1, "the first answer wins where nothing is verified"
    play.answers(helper)
    assert play.kinds().count("difference") == 1, "late, but said"
    assert "the step is applied already" in next(
        note.text for note in play.notes if note.kind == "difference"
    )


def test_lies_of_a_step_in_hand_are_done_again() -> None:
    play = Play(batch_size=2, steps=1, verify_fraction=1.0, shard_size=1)
    play.joins(A)
    play.answers(A, gradient=ZEROS)
    play.joins(B, C)  # each gives a second opinion on the first document, or on the second
    play.finishes_with(B, C)
    assert list(play.state.workers) == [B, C]
    assert play.state.training.params.tobytes() == expected(play.config)


def test_who_is_cut_off_stays_out() -> None:
    play = Play()
    play.joins(A)
    play.do(Misbehaved(A, "nonsense"))
    play.joins(A)
    assert play.state.workers == {}
    assert [m.reason for m in play.got(A, messages.Refuse)] == ["nonsense", "nonsense"]


def test_an_answer_that_nobody_asked_for() -> None:
    play = Play(batch_size=4, shard_size=1)
    play.joins(A, B)
    task = play.task(A)
    play.says(A, play.answer(task, start=3))
    assert list(play.state.workers) == [B]
    play.says(B, play.answer(play.task(B), step=1))
    assert play.state.workers == {}


def test_a_late_answer_of_a_worker_that_was_given_up_counts() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A)
    task = play.task(A)
    play.do(Tick(), after=0.1)
    play.joins(A)  # a new connection
    play.says(A, play.answer(task))
    assert len(play.done) == 1


def test_who_has_missed_the_welcome_is_asked_again_after_a_while() -> None:
    play = Play()
    play.joins(A)
    play.says(A, messages.Heartbeat(RUN, "another life", ready=True))
    assert play.got(A, messages.Introduce) == [], "the welcome may be under way"
    for _ in range(5):
        play.do(Tick(), after=0.2)
    play.says(A, messages.Heartbeat(RUN, "another life", ready=True))
    assert len(play.got(A, messages.Introduce)) == 1


def test_a_clock_that_goes_back_or_far_ahead_harms_nobody() -> None:
    play = Play()
    play.joins(A, B)
    for jump in (-1000.0, 0.1, 1e9, 0.1, -5.0):
        play.do(Tick(), after=jump)
    assert list(play.state.workers) == [A, B]
    for _ in range(20):
        play.do(Tick(), after=0.2)
    assert play.state.workers == {}, "silence is noticed all the same"


def test_numbers_that_no_checkpoint_can_hold_end_the_run_before_the_step_is_recorded() -> None:
    play = Play(batch_size=1)
    play.joins(A)
    huge = vector_to_map(np.full_like(pretend([[0]]), 1e200), SHAPES)
    play.answers(A, gradient=huge)  # finite, but its square is not
    assert play.done == []
    assert play.state.closing is not None
    assert "infinite" in play.state.closing.reason
    assert play.state.training.step == 0


def test_joining_and_leaving_forever_fills_no_disk() -> None:
    play = Play()
    for _ in range(3 * NOTES):
        play.joins(A)
        play.says(A, messages.Goodbye(RUN, LIFE))
    assert play.kinds().count("joined") == NOTES
    play.do(Tick())
    for _ in range(60):
        play.do(Tick(), after=0.2)
    play.joins(A)
    (left_out,) = (note for note in play.notes if note.kind == "left_out")
    assert left_out.details["joined"] == 2 * NOTES
    assert play.kinds().count("joined") == NOTES + 1
    assert len(play.state.workers) == 1


def test_stopping_does_not_save_twice_what_is_being_saved() -> None:
    play = Play()
    assert play.saves == [0]
    play.do(StopRequested())
    assert play.saves == [0]
    play.do(Saved(0))
    assert play.finish is not None
    assert play.finish.outcome == "stopped"
