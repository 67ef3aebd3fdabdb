"""The aggregator's decisions: events in, actions out, and not a socket in sight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from aggregator.state import ENGINE, NO_REPLICAS, Listen
from coordinator.core import inputs
from coordinator.core.actions import Judge
from coordinator.core.events import Cause, Expelled, OtherPlatform, Silent
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    Failure,
    Goodbye,
    Heartbeat,
    Hello,
    ReplicaTask,
    Reregister,
    ShardResult,
    Status,
    Stop,
    Task,
    TaskAhead,
    Weights,
    Welcome,
)
from tests.aggregator_play import (
    DOCUMENTS,
    EPOCH,
    MODEL,
    RUN,
    WELCOME,
    Play,
    one_by_one,
    params,
    task,
    vector,
    weights,
    welcomed,
)
from worker import state as upwards

A, B, C, D = b"A", b"B", b"C", b"D"


def ready(play: Play) -> list[bool]:
    return [heartbeat.ready for heartbeat in play.told(Heartbeat)]


def epoch_below(play: Play) -> str:
    crew = play.state.crew
    assert crew is not None
    return crew.epoch


# --- coming in -----------------------------------------------------------------------------------


def test_it_offers_itself_as_an_aggregator_and_is_ready_when_a_worker_is() -> None:
    play = Play()
    (hello,) = play.told(Hello)
    assert (hello.name, hello.engine, hello.libm) == ("anna", ENGINE, "digest")
    play.parent(WELCOME)
    assert play.events(Listen) == [Listen(MODEL.to_dict(), {})]
    assert ready(play) == []
    play.join(A)
    assert ready(play) == [True]
    assert [status.text for status in play.told(Status)] == ["1 worker computes for it"]


def test_a_worker_that_comes_before_the_parent_has_said_anything_hears_nothing() -> None:
    play = Play()
    play.child(A, Hello("", "", "a", "tape", "digest"))
    assert play.below == {}


def test_workers_hear_the_parents_model_and_an_epoch_of_this_aggregators_life() -> None:
    play = Play()
    play.parent(WELCOME)
    play.child(A, Hello("", "", "a", "tape", "digest", 3))
    (welcome,) = play.below[A]
    assert welcome == Welcome(RUN, "epoch.life.1", 1, WELCOME.seconds, MODEL.to_dict(), {}, 3)


def test_the_number_of_workers_is_told_but_not_all_the_time() -> None:
    play = welcomed(A, B, C)
    play.do(upwards.Tick(), after=0.5)
    assert [status.text for status in play.told(Status)] == ["1 worker computes for it"]
    play.do(upwards.Tick(), after=0.5)
    play.do(upwards.Tick(), after=0.5)
    assert [status.text for status in play.told(Status)][1:] == ["3 workers compute for it"]


def test_a_worker_on_another_platform_is_told_of_at_the_parent() -> None:
    play = welcomed()
    play.child(A, Hello("", "", "anna's", "tape", "another digest"))
    assert len(play.events(OtherPlatform)) == 1
    (status,) = play.told(Status)
    assert "anna's" in status.text


# --- work ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("peers", [[A], [A, B], [A, B, C], [A, B, C, D]])
@pytest.mark.parametrize(("start", "count"), [(0, 8), (8, 8), (8, 5), (4, 3), (6, 1)])
def test_the_answer_is_the_node_of_the_batchs_tree(
    peers: list[bytes], start: int, count: int
) -> None:
    play = welcomed(*peers)
    play.parent(weights(), task(start=start, count=count, round=7))
    play.work(*peers)
    (answer,) = play.told(ShardResult)
    losses, gradient = one_by_one(params(), DOCUMENTS[start : start + count])
    assert (answer.run, answer.epoch, answer.round, answer.step) == (RUN, EPOCH, 7, 0)
    assert (answer.start, answer.count, answer.training) == (start, count, True)
    assert answer.losses == np.array(losses).tobytes()
    assert vector(answer).tobytes() == gradient.tobytes()


def test_the_losses_of_held_out_documents_are_put_together() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task(count=6, training=False))
    play.work(A, B)
    (answer,) = play.told(ShardResult)
    assert answer.losses == np.array(one_by_one(params(), DOCUMENTS[:6])[0]).tobytes()
    assert (answer.gradient, answer.training) == ({}, False)


def test_weights_go_to_each_worker_once_and_are_one_message() -> None:
    play = welcomed(A, B)
    play.parent(weights(3), task(0, 3), task(1, 3, start=8))
    sent = {A: [*play.below[A]], B: [*play.below[B]]}
    play.work(A, B)
    assert len(play.told(ShardResult)) == 2
    first = [[m for m in sent[peer] if isinstance(m, Weights)] for peer in (A, B)]
    assert [len(each) for each in first] == [1, 1]
    assert first[0][0] is first[1][0]
    assert first[0][0].weights == weights(3).weights


def test_a_task_that_is_told_ahead_is_told_on_and_only_weights_are_missing_then() -> None:
    play = welcomed(A, B)
    for step in range(3):  # so that both are proven
        play.parent(weights(step), task(step, step))
        play.work(A, B)
    play.parent(weights(3), task(3, 3))
    now = task(4, 4)
    where = now.run, now.epoch, now.step, now.start, now.count
    play.parent(TaskAhead(*where, now.tokens, now.lengths, round=now.round))
    assert any(isinstance(m, TaskAhead) for m in play.below[A])
    play.work(A, B)
    play.parent(weights(4))
    for peer in (A, B):
        assert [type(message) for message in play.below[peer]] == [Weights]
    play.work(A, B)
    answer = play.told(ShardResult)[-1]
    assert (answer.round, answer.step) == (4, 4)
    assert vector(answer).tobytes() == one_by_one(params(4), DOCUMENTS[:8])[1].tobytes()


# --- workers that go -----------------------------------------------------------------------------


def test_the_part_of_a_worker_that_dies_goes_to_another_one() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task())
    play.do(inputs.Disconnected(A))
    play.work(B)
    (answer,) = play.told(ShardResult)
    assert vector(answer).tobytes() == one_by_one(params(), DOCUMENTS[:8])[1].tobytes()


def test_a_worker_that_is_silent_is_given_up_and_its_part_done() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task())
    play.child(B, *play.answers(B))
    for _ in range(30):
        play.do(upwards.Tick(), after=0.1)
        play.child(B, Heartbeat(RUN, epoch_below(play), ready=True))
    play.work(B)
    assert len(play.told(ShardResult)) == 1


def test_without_a_worker_it_begins_again_not_ready_and_goes_on_when_one_comes() -> None:
    play = welcomed(A)
    play.parent(weights(), task())
    play.do(inputs.Disconnected(A))
    assert [hello.attempt for hello in play.told(Hello)] == [0], "it may come back"
    play.do(upwards.Tick(), after=WELCOME.seconds)
    assert [hello.attempt for hello in play.told(Hello)] == [0, 1]
    play.up.clear()
    play.parent(replace(WELCOME, attempt=1))
    assert ready(play) == []
    play.join(B)
    assert ready(play) == [True]
    play.parent(weights(1), task(1, 1))
    play.work(B)
    (answer,) = play.told(ShardResult)
    assert answer.round == 1


def test_what_the_last_worker_had_in_hand_counts_if_it_comes_back_soon() -> None:
    play = welcomed(A)
    play.parent(weights(), task())
    (answer,) = play.answers(A)
    for _ in range(21):  # it is silent for too long
        play.do(upwards.Tick(), after=0.1)
    assert play.events(Silent)
    play.join(A)
    play.child(A, answer)
    (sum_of_all,) = play.told(ShardResult)
    assert vector(sum_of_all).tobytes() == one_by_one(params(), DOCUMENTS[:8])[1].tobytes()


# --- answers that do not count -------------------------------------------------------------------


def test_stale_and_duplicate_answers_are_dropped() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task())
    a, b = play.answers(A), play.answers(B)
    play.child(A, *a, *a)
    play.parent(weights(1))
    play.child(B, *b)
    assert len(play.told(ShardResult)) == 1
    play.parent(task(1, 1))
    play.child(A, *a)
    play.child(B, *b)
    assert len(play.told(ShardResult)) == 1
    assert play.events(Expelled) == []
    play.work(A, B)
    answer = play.told(ShardResult)[-1]
    assert vector(answer).tobytes() == one_by_one(params(1), DOCUMENTS[:8])[1].tobytes()


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"losses": bytes(8)}, Cause.MALFORMED),
        ({"gradient": {}}, Cause.MALFORMED),
        ({"gradient": {"wte": bytes(8)}}, Cause.MALFORMED),
        ({"losses": np.full(4, np.nan).tobytes()}, Cause.MALFORMED),
        ({"start": 2}, Cause.NOT_ASKED),
        ({"round": 99}, Cause.NOT_ASKED),
    ],
)
def test_who_answers_what_cannot_be_is_cut_off_and_its_part_done_by_another(
    change: dict[str, object], cause: Cause
) -> None:
    play = welcomed(A, B)
    play.parent(weights(), task())
    (answer,) = play.answers(A)
    play.child(A, replace(answer, **change))  # type: ignore[arg-type]  # fields of an answer
    assert [event.cause for event in play.events(Expelled)] == [cause]
    play.work(B)
    (answer,) = play.told(ShardResult)
    assert vector(answer).tobytes() == one_by_one(params(), DOCUMENTS[:8])[1].tobytes()


def test_a_document_that_two_cannot_compute_is_judged_and_then_told_to_the_parent() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task(start=8, round=5))
    below = epoch_below(play)
    for peer in (A, B, A, B):  # each of its own part, then of the other's
        for message in [*play.below[peer]]:
            if isinstance(message, Task):
                failure = Failure(RUN, below, 0, message.start + 1, "overflow", round=0)
                play.child(peer, failure)
        play.below[peer].clear()
    (question, *_) = play.events(Judge)
    place = question.task.start + 1
    play.do(inputs.Judged(Failure(RUN, below, 0, place, "overflow", round=0)))
    (failure,) = play.told(Failure)
    assert failure == Failure(RUN, EPOCH, 0, 8 + place, "overflow", round=5)
    assert play.told(ShardResult) == []


# --- the parent ----------------------------------------------------------------------------------


def test_in_a_new_epoch_of_the_parent_workers_are_called_in_again() -> None:
    play = welcomed(A)
    play.parent(weights(), task())
    (answer,) = play.answers(A)
    play.parent(replace(WELCOME, epoch="later"))
    assert ready(play) == [True]  # not in the new epoch
    assert [type(m) for m in play.below[A]] == [Reregister]
    play.child(A, answer)
    play.below[A].clear()
    play.join(A)
    assert ready(play) == [True, True]
    assert play.told(ShardResult) == []
    play.parent(weights(2, "later"), task(0, 2, epoch="later"))
    play.work(A)
    (answer,) = play.told(ShardResult)
    assert (answer.epoch, answer.step) == ("later", 2)


def test_an_epoch_that_comes_again_is_another_one_to_the_workers() -> None:
    play = welcomed(A)
    play.parent(weights(), task())
    (answer,) = play.answers(A)
    for epoch in ("later", EPOCH):  # the second one by a welcome that was late
        play.parent(replace(WELCOME, epoch=epoch))
        play.below[A].clear()
        play.join(A)
    play.parent(weights(), task(count=4))
    play.child(A, answer)
    assert play.events(Expelled) == []
    play.work(A)
    (answer,) = play.told(ShardResult)
    assert answer.count == 4


def test_the_end_of_the_run_goes_on_to_the_workers() -> None:
    play = welcomed(A)
    play.parent(Stop(RUN, EPOCH, "all is done"))
    assert play.events(upwards.Leave) == [upwards.Leave("done", "all is done")]
    assert [type(m) for m in play.below[A]] == [Stop]
    play.child(B, Hello("", "", "b", "tape", "digest"))  # comes too late
    assert [type(m) for m in play.below[B]] == [Welcome, Stop]


def test_who_stops_it_does_not_stop_its_workers() -> None:
    play = welcomed(A)
    play.below[A].clear()
    play.do(upwards.StopRequested())
    assert isinstance(play.up[-1], Goodbye)
    assert [leave.outcome for leave in play.events(upwards.Leave)] == ["left"]
    assert not play.below[A]


def test_work_for_replicas_is_refused_with_what_to_do() -> None:
    play = welcomed(A)
    plain = task()
    where = plain.run, plain.epoch, plain.step, plain.start, plain.count
    replica = ReplicaTask(
        *where, plain.tokens, plain.lengths, round=0, replica=0, clock=0, steps=2, elastic=0.0,
        updates=4, snapshot=False, redo=False,
    )  # fmt: skip
    play.parent(weights(), replica)
    assert isinstance(play.up[-1], Goodbye)
    assert play.events(upwards.Leave) == [upwards.Leave("refused", NO_REPLICAS)]


def test_work_that_is_malformed_is_the_parents_fault() -> None:
    play = welcomed(A)
    with pytest.raises(ValueError, match="8 documents instead of 7"):
        play.parent(weights(), replace(task(), count=7))


def test_the_messages_are_those_of_the_protocol() -> None:
    play = welcomed(A, B)
    play.parent(weights(), task())
    sent = [message for queue in play.below.values() for message in queue]
    play.work(A, B)
    for message in [*sent, *play.up]:
        assert messages.decode(messages.encode(message), longest_list=0) == message
