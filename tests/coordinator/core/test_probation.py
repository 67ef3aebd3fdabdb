"""Newcomers prove themselves on copies; nothing that a step needs is given to them before."""

from __future__ import annotations

from coordinator.core.inputs import Disconnected, Judged, Tick
from coordinator.core.judging import TRIAL_JUDGE_SECONDS
from microgpt.protocol import messages
from tests.coordinator.core.test_coordinator_state import EPOCH, RUN, A, B, C, Play, expected, wait
from tests.coordinator.core.test_cross_check import ZEROS

STEPS = 12


def proven(play: Play) -> list[bytes]:
    return [peer for peer, worker in play.state.workers.items() if worker.proven]


def step(play: Play, *peers: bytes) -> None:
    """Let these workers answer what they have, until the step in hand is over."""
    before = len(play.done)
    for _ in range(20):
        for peer in peers:
            if play.state.workers[peer].in_flight and len(play.done) == before:
                play.answers(peer)
    assert len(play.done) > before


def test_the_first_answers_prove_whoever_gives_them() -> None:
    play = Play(batch_size=2, steps=STEPS)
    play.joins(A, B)
    assert proven(play) == []
    assert play.task(A) != play.task(B), "real work for everybody"
    play.answers(A)
    play.answers(B)
    assert proven(play) == [A, B]
    assert len(play.done) == 1


def test_a_newcomer_gets_a_copy_and_then_work_of_its_own() -> None:
    play = Play(batch_size=4, steps=STEPS, shard_size=None)
    play.joins(A)
    step(play, A)
    play.joins(B)
    step(play, A)
    assert play.done[-1]["shards"] == 1, "cut for who is proven"
    play.says(B, play.answer(play.task(B)))
    assert proven(play) == [A, B], "also when the step is over"
    step(play, A, B)
    step(play, A, B)
    assert play.done[-1]["shards"] > 1
    assert play.task(A).start != play.task(B).start


def test_a_trial_that_is_faster_than_the_original_waits_for_it() -> None:
    play = Play(batch_size=1, steps=STEPS)
    play.joins(A)
    step(play, A)
    play.joins(B)
    assert play.task(B) == play.task(A)
    play.answers(B)
    assert len(play.done) == 1, "what a newcomer says counts for nothing"
    assert proven(play) == [A]
    play.answers(A)
    assert len(play.done) == 2
    assert proven(play) == [A, B]


def test_a_trial_counts_however_many_steps_later_it_is_answered() -> None:
    play = Play(batch_size=1, steps=100)
    play.joins(A)
    step(play, A)
    play.joins(B)
    old = play.task(B)
    for _ in range(50):
        step(play, A)
    play.says(B, play.answer(old))
    assert proven(play) == [A, B]


def test_however_many_are_lazy_no_step_waits_for_them() -> None:
    play = Play(batch_size=4, steps=STEPS)
    lazy = [b"lazy %d" % number for number in range(45)]
    play.joins(A, B)
    step(play, A, B)
    play.joins(*lazy)
    while play.state.closing is None:
        step(play, A, B)
    assert {record["seconds"] for record in play.done} == {0.0}, "no time has passed"
    assert {len(play.got(peer, messages.Task)) for peer in lazy} == {1}
    assert play.state.training.params.tobytes() == expected(play.config)


def test_when_the_last_proven_one_is_gone_everybody_works() -> None:
    play = Play(batch_size=2, steps=STEPS)
    play.joins(A)
    step(play, A)
    play.joins(B)
    play.answers(B)
    play.do(Disconnected(A))
    step(play, B)
    assert proven(play) == [B]


def test_who_is_late_proves_itself_anew_and_more_often_each_time() -> None:
    play = Play(batch_size=2, steps=200)
    play.joins(A, B)
    step(play, A, B)
    for trials in (1, 2, 4):
        late = play.task(A)
        wait(play, 0.25, A, B)
        while play.state.workers[B].in_flight and play.task(B) != late:
            play.answers(B)
            play.do(Tick(), after=0.05)
        wait(play, 0.5, A, B)
        assert proven(play) == [B], "B had to stand in for it"
        step(play, B)
        asked = 0
        while A not in proven(play) and asked < 10:
            asked += 1
            play.answers(A)
            step(play, *proven(play))
        assert asked == trials
        step(play, A, B)
    assert play.state.workers[A].falls == 4


def test_the_only_proven_worker_does_not_hold_up_the_others_for_ever() -> None:
    play = Play(batch_size=1, steps=STEPS)
    play.joins(A)
    step(play, A)
    play.joins(B)
    play.answers(B)  # a trial, with nothing to compare it with
    wait(play, 1.0, A, B)
    play.answers(B)
    assert len(play.done) == 2


def test_a_newcomer_that_contradicts_is_judged() -> None:
    play = Play(batch_size=1, steps=STEPS)
    play.joins(A)
    step(play, A)
    play.joins(B)
    play.answers(B, gradient=ZEROS)
    play.answers(A)
    assert len(play.questions) == 1
    step(play, A)
    assert len(play.done) == 3, "nothing waits for the verdict"
    play.judges()
    assert list(play.state.workers) == [A]


def test_a_newcomer_that_is_right_is_believed() -> None:
    play = Play(batch_size=1, steps=STEPS)
    play.joins(A)
    play.answers(A, gradient=ZEROS)  # nobody else is there to see
    play.joins(B)
    play.answers(B)
    play.answers(A, gradient=ZEROS)
    step(play, A)
    play.judges()
    assert list(play.state.workers) == [B]
    assert proven(play) == [B]


def test_a_claimed_failure_on_a_trial_delays_nothing() -> None:
    play = Play(batch_size=1, steps=STEPS)
    play.joins(A)
    step(play, A)
    play.joins(B)
    task = play.task(B)
    play.says(B, messages.Failure(RUN, EPOCH, task.step, task.start, "because", round=task.round))
    step(play, A)
    step(play, A)
    play.judges()
    assert list(play.state.workers) == [A]


def test_newcomers_cannot_keep_judges_busy() -> None:
    play = Play(batch_size=1, steps=400)
    play.joins(A)
    step(play, A)
    for number in range(40):
        liar = b"liar %d" % number
        play.joins(liar)
        play.answers(liar, gradient=ZEROS)
        step(play, A)
        if play.state._judging.case is not None:
            play.do(Judged(None, "no memory"))
    assert len(play.questions) == 1
    liars = [b"liar %d" % number for number in range(40)]
    wait(play, TRIAL_JUDGE_SECONDS, A, *liars)
    for liar in liars:
        play.answers(liar, gradient=ZEROS)
    step(play, A)
    assert len(play.questions) == 2
    assert proven(play) == [A]


def test_agreeing_liars_expel_nobody_honest() -> None:
    play = Play(batch_size=1, steps=2, verify_fraction=1.0)
    play.joins(A, B, C)
    play.answers(A, gradient=ZEROS)
    play.answers(B)
    play.answers(C, gradient=ZEROS) if play.state.workers[C].in_flight else None
    play.judges()
    assert B in play.state.workers
    assert A not in play.state.workers
