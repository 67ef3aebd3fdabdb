"""Whom the coordinator believes, and what nobody can make it do."""

from __future__ import annotations

import numpy as np

from coordinator.core.action_buffer import MOST_OF_A_KIND
from coordinator.core.event_text import describe
from coordinator.core.events import Cause, Difference, Expelled, LeftOut
from coordinator.core.inputs import Judged, Misbehaved, Saved, StopRequested, Tick
from microgpt.numerics.vectors import vector_to_map
from microgpt.protocol import messages
from tests.coordinator.core.test_coordinator_state import (
    EPOCH,
    RUN,
    SHAPES,
    A,
    B,
    C,
    Play,
    expected,
    pretend,
)

ZEROS = vector_to_map(0.0 * pretend([[0]]), SHAPES)
NAN_LOSS = "the loss is nan"


def fails(play: Play, peer: bytes) -> None:
    task = play.task(peer)
    failure = messages.Failure(RUN, EPOCH, task.step, task.start, NAN_LOSS, round=task.round)
    play.says(peer, failure)


def test_a_failure_alone_does_not_end_the_run_when_another_can_compute() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A, B)
    fails(play, A)
    assert play.state.closing is None
    play.answers(B)  # its own shard, which proves it; then it is asked for the other's
    assert play.task(B).start == 0
    play.answers(B)
    assert play.questions == [], "a newcomer's claim costs no judge where a proven worker answers"
    assert [worker.proven for worker in play.state.workers.values()] == [False, True]
    play.do(Saved(1))
    assert play.finish is not None
    assert play.finish.outcome == "done"
    assert play.state.training.params.tobytes() == expected(play.config)


def test_failures_of_two_workers_end_the_run_if_the_judge_finds_the_same() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    fails(play, A)
    assert play.questions == [], "another worker is asked first"
    fails(play, B)
    assert play.state.closing is None
    assert play.kinds().count("judge_asked") == 1
    play.judge_fails("the loss is inf")
    assert play.state.closing is not None
    assert play.state.closing.outcome == "failed"
    assert "the loss is inf" in play.state.closing.reason
    assert len(play.questions) == 1


def test_failures_that_are_invented_cost_those_who_claim_them() -> None:
    play = Play(batch_size=1, steps=2)
    play.joins(A, B, C)
    fails(play, A)
    fails(play, B)
    play.judges()
    assert list(play.state.workers) == [C]
    assert len(play.done) == 1, "with what the judge has computed"
    play.finishes_with(C)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_an_answer_against_two_failures_is_not_believed_before_the_verdict() -> None:
    play = Play(batch_size=1, steps=3)
    play.joins(A, B, C)
    fails(play, A)
    fails(play, B)
    play.answers(C)
    assert list(play.state.workers) == [A, B, C]
    assert play.done == []
    play.judges()
    assert list(play.state.workers) == [C]
    play.finishes_with(C)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_a_verdict_shows_who_has_lied_with_failures_and_with_numbers() -> None:
    play = Play(batch_size=1, steps=3)
    play.joins(A, B, C)
    fails(play, A)
    fails(play, B)
    play.answers(C, gradient=ZEROS)
    play.judges()
    assert play.state.workers == {}
    assert len(play.done) == 1, "with what the judge has computed"
    last = play.events(Expelled)[-1]
    assert last.cause is Cause.WRONG
    assert "come to something else when computed by the coordinator" in last.reason
    assert play.state.closing is None


def test_a_failure_counts_when_the_second_worker_is_gone() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    fails(play, A)
    play.says(B, messages.Goodbye(RUN, EPOCH))
    play.judge_fails(NAN_LOSS)
    assert play.state.closing is not None
    assert NAN_LOSS in play.state.closing.reason


def test_a_failure_counts_where_no_judge_can_be_had() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A)
    fails(play, A)
    play.do(Judged(None, "it takes longer than 300 s"))
    assert play.state.closing is not None
    assert NAN_LOSS in play.state.closing.reason
    assert "it could not be computed here: it takes longer than 300 s" in play.state.closing.reason


def test_a_failure_at_what_nobody_asked_is_nothing() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A, B)
    for step, document in ((0, 1), (0, 99), (7, 0)):
        play.says(A, messages.Failure(RUN, EPOCH, step, document, NAN_LOSS, round=0))
    assert play.state.closing is None
    assert list(play.state.workers) == [A, B]


def test_where_two_workers_contradict_each_other_the_judge_decides() -> None:
    play = Play(batch_size=1, steps=2, verify_fraction=1.0)
    play.joins(A, B)
    play.answers(A)
    play.answers(B, gradient=ZEROS)
    assert play.done == [], "nothing doubtful is trained on"
    play.do(Tick(), after=0.2)
    assert len(play.questions) == 1, "it is asked once"
    play.judges()
    assert list(play.state.workers) == [A]
    play.finishes_with(A)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_two_workers_that_contradict_each_other_without_a_judge_stop_the_run_loudly() -> None:
    play = Play(batch_size=1, steps=2, verify_fraction=1.0)
    play.joins(A, B)
    play.answers(A)
    play.answers(B, gradient=ZEROS)
    play.do(Judged(None, "no memory"))
    assert play.state.closing is not None
    assert play.state.closing.outcome == "failed"
    for name in ("A", "B", "no other worker", "no memory"):
        assert name in play.state.closing.reason
    play.do(Saved(0))
    assert play.finish == play.state.closing


def test_a_lie_that_comes_to_light_too_late_is_reported_and_judged() -> None:
    play = Play(batch_size=2, steps=3)
    play.joins(A, B)
    play.answers(A)
    play.answers(B)
    play.answers(B)
    play.do(Tick(), after=0.2)
    assert play.kinds().count("backed_up") == 1, "A is slow with its next shard"
    assert play.task(B) == play.task(A)
    play.answers(A, gradient=ZEROS)
    assert len(play.done) == 2, "the first answer wins where nothing is verified"
    play.answers(B)
    (told,) = play.events(Difference)
    assert told.applied, "late, but said"
    assert describe(told).endswith("the step is applied already")
    assert play.questions[-1].task.step == 1
    play.judges()
    assert list(play.state.workers) == [B]


def test_lies_of_a_step_in_hand_are_done_again() -> None:
    play = Play(batch_size=2, steps=1, verify_fraction=1.0, shard_size=1)
    play.joins(A)
    play.answers(A, gradient=ZEROS)
    play.joins(B, C)  # each computes the first document again, or the second
    play.answers(next(p for p in (B, C) if play.got(p, messages.Task)))
    play.judges()
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
    play.says(A, messages.Heartbeat(RUN, "another epoch", ready=True))
    assert play.got(A, messages.Reregister) == [], "the welcome may be under way"
    for _ in range(5):
        play.do(Tick(), after=0.2)
    play.says(A, messages.Heartbeat(RUN, "another epoch", ready=True))
    assert len(play.got(A, messages.Reregister)) == 1


def test_a_clock_that_goes_back_or_far_ahead_harms_nobody() -> None:
    play = Play()
    play.joins(A, B)
    for jump in (-1000.0, 0.1, 1e9, 0.1, -5.0):
        play.do(Tick(), after=jump)
    assert list(play.state.workers) == [A, B]
    for _ in range(20):
        play.do(Tick(), after=0.2)
    assert play.state.workers == {}, "silence is noticed all the same"


HUGE = vector_to_map(np.full_like(pretend([[0]]), 1e200), SHAPES)  # its square is not finite


def test_a_number_that_no_checkpoint_can_hold_costs_the_one_who_has_invented_it() -> None:
    play = Play(batch_size=4, steps=2)
    play.joins(A, B, C)
    play.answers(A, gradient=HUGE)
    assert not play.state.workers[A].proven, "numbers that prove nothing"
    for peer in (B, C, A):
        play.answers(peer)
    assert play.done == []
    play.finishes_with(B, C)
    assert play.questions == [], "proven workers have computed what a newcomer had invented"
    assert play.state.training.params.tobytes() == expected(play.config)


def test_two_who_invent_huge_numbers_and_a_loss() -> None:
    play = Play(batch_size=4, steps=1)
    play.joins(A, B, C, b"D")
    play.answers(A, gradient=HUGE)
    play.answers(B, losses=np.full(1, 1.7e308).tobytes())
    play.answers(C, losses=np.full(1, 1.7e308).tobytes())
    play.answers(b"D")
    play.finishes_with(b"D")
    assert play.questions == []
    assert play.state.training.params.tobytes() == expected(play.config)


def test_numbers_that_are_really_infinite_end_the_run_before_the_step_is_recorded() -> None:
    play = Play(batch_size=2)
    play.joins(A)
    play.answers(A, gradient=HUGE)
    play.answers(A)
    play.judges(gradient=HUGE)
    assert play.done == []
    assert len(play.questions) == 1, "no other answer can make that finite"
    assert play.state.closing is not None
    assert "infinite" in play.state.closing.reason
    assert play.state.training.step == 0


def test_an_invented_loss_of_held_out_documents() -> None:
    play = Play(batch_size=2, steps=1, held_out=0.25, eval_every=1)
    play.joins(A, B)
    play.answers(A)
    play.answers(B)
    first, second = play.task(A), play.task(B)
    assert not first.training
    play.says(A, play.answer(first, losses=np.full(first.count, 1.7e308).tobytes()))
    play.says(B, play.answer(second, losses=np.full(second.count, 1.7e308).tobytes()))
    for _ in range(6):
        if play.questions[-1:] and play.state.closing is None:
            play.judges()
        for peer in (A, B):
            if peer in play.state.workers and play.state.workers[peer].in_flight:
                play.answers(peer, losses=np.full(play.task(peer).count, 1.7e308).tobytes())
    assert play.state.workers == {}
    play.joins(C)
    play.finishes_with(C)
    assert play.done[0]["validation_loss"] == 3.0


def test_joining_and_leaving_forever_fills_no_disk() -> None:
    play = Play()
    for _ in range(3 * MOST_OF_A_KIND):
        play.joins(A)
        play.says(A, messages.Goodbye(RUN, EPOCH))
    assert play.kinds().count("joined") == MOST_OF_A_KIND
    play.do(Tick())
    for _ in range(60):
        play.do(Tick(), after=0.2)
    play.joins(A)
    left_out = {event.left_out: event.number for event in play.events(LeftOut)}
    assert left_out == dict.fromkeys(("joined", "ready", "left", "waiting"), 2 * MOST_OF_A_KIND) | {
        "waiting": 2 * MOST_OF_A_KIND + 1
    }
    assert play.kinds().count("joined") == MOST_OF_A_KIND + 1
    assert len(play.state.workers) == 1


def test_stopping_does_not_save_twice_what_is_being_saved() -> None:
    play = Play()
    assert play.saves == [0]
    play.do(StopRequested())
    assert play.saves == [0]
    play.do(Saved(0))
    assert play.finish is not None
    assert play.finish.outcome == "stopped"
