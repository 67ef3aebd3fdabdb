"""The pulses of workers: what they count, when they are told, and when they are not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from coordinator.core.events import EventBase, Joined, Level, Lost, WorkerPulse
from coordinator.core.inputs import Disconnected, Peer, Received, StopRequested, Tick
from coordinator.core.tally import Tally, Traffic
from microgpt.protocol import messages
from tests.coordinator.core.test_coordinator_state import A, B, Play

PATIENT: dict[str, Any] = {"worker_timeout": 1000.0, "events": Level.ROUNDS}


def play(**policy: Any) -> Play:
    return Play(batch_size=4, shard_size=2, steps=100, **{**PATIENT, **policy})


def answers(play: Play, peer: Peer, after: float, seconds: float) -> None:
    """The worker answers ``after`` its last sign, of which its engine took ``seconds``."""
    play.now += after
    play.answers(peer, seconds=seconds)


def about(event: EventBase) -> Any:
    """The event with its seconds rounded to nanoseconds."""
    assert isinstance(event, WorkerPulse)
    names = ("computing", "waited", "round_trip", "silent")
    return replace(event, **{name: round(getattr(event, name), 9) for name in names})


def test_a_pulse_counts_what_a_worker_has_done_and_what_went_over_its_connection() -> None:
    counted = {A: Traffic(1000, 500), B: Traffic(7, 8)}
    there = play(traffic=counted.get)
    there.joins(A, B)  # both have a shard of the first step
    there.do(Tick())
    assert there.events(WorkerPulse) == [
        WorkerPulse(1, "A", 1, 0, 0, 1000, 500, 0.0, 0.0, 0.0, 0.0),
        WorkerPulse(2, "B", 1, 0, 0, 7, 8, 0.0, 0.0, 0.0, 0.0),
    ]
    answers(there, A, 0.25, 0.125)
    answers(there, B, 0.125, 0.25)  # the step is done; both have the next
    answers(there, A, 0.0625, 0.015625)
    counted[A] = Traffic(1001, 501)
    there.do(Tick(), 0.0625)  # half a second after the first pulse
    assert there.events(WorkerPulse)[2:] == [
        # It had nothing to do from 0.25 to 0.375, and from 0.4375 on.
        WorkerPulse(1, "A", 0, 4, 2, 1001, 501, 0.140625, 0.3125, 0.046875, 0.0625),
        WorkerPulse(2, "B", 1, 2, 1, 7, 8, 0.25, 0.5, 0.125, 0.125),
    ]
    there.do(Tick(), 0.5)
    assert there.events(WorkerPulse)[4:] == [
        # The round trip is that of the answers since the last pulse.
        WorkerPulse(1, "A", 0, 4, 2, 1001, 501, 0.140625, 0.3125, 0.0, 0.5625),
        WorkerPulse(2, "B", 1, 2, 1, 7, 8, 0.25, 1.0, 0.0, 0.625),
    ]


def test_pulses_are_told_twice_a_second_however_often_it_ticks() -> None:
    there = play()
    there.joins(A)
    for _ in range(40):
        there.do(Tick(), 0.0625)
    assert len(there.events(WorkerPulse)) == 5  # in 2.5 seconds


def test_of_many_workers_there_are_at_most_32_a_second() -> None:
    there = play()
    there.joins(*(b"%d" % number for number in range(64)))
    for _ in range(64):
        there.do(Tick(), 0.0625)
    assert len(there.events(WorkerPulse)) == 128  # in 4 seconds


@pytest.mark.parametrize("level", [Level.SUMMARY, Level.ROUNDS, Level.FULL])
def test_there_are_none_in_a_summary(level: Level) -> None:
    there = play(events=level)
    there.joins(A)
    answers(there, A, 0.25, 0.125)
    there.do(Tick(), 1.0)
    there.do(Disconnected(A), 1.0)
    pulses = len(there.events(WorkerPulse))
    assert pulses == (0 if level is Level.SUMMARY else 2)


def test_who_goes_has_a_last_pulse_right_before_with_what_was_last_counted() -> None:
    counted = {A: Traffic(1000, 500)}
    there = play(traffic=counted.get)
    there.joins(A)
    there.do(Tick())
    answers(there, A, 0.125, 0.0625)
    del counted[A]  # its connection is gone when we hear of it
    there.do(Disconnected(A), 0.0625)
    pulse, lost = there.told[-3:-1]
    assert pulse == WorkerPulse(1, "A", 1, 2, 1, 1000, 500, 0.0625, 0.1875, 0.0625, 0.0625)
    assert lost == Lost(1, "A", 1)


def test_who_was_never_ready_has_none() -> None:
    there = play()
    there.says(A, messages.Hello("", "", "A", "stub", ""))
    there.do(Tick(), 1.0)
    there.do(Disconnected(A))
    assert there.events(WorkerPulse) == []


def test_when_the_run_ends_there_is_a_last_pulse_of_each_and_no_more() -> None:
    there = play(traffic={A: Traffic(1, 2), B: Traffic(3, 4)}.get)
    there.joins(A, B)
    answers(there, A, 0.125, 0.125)
    there.do(StopRequested())
    last = there.events(WorkerPulse)
    assert [(event.name, event.answers, event.bytes_sent) for event in last] == [
        ("A", 1, 1), ("B", 0, 3),
    ]  # fmt: skip
    for _ in range(10):
        there.do(Tick(), 0.25)
    there.says(A, messages.Goodbye("run", "epoch"))
    there.do(Disconnected(B))
    assert there.events(WorkerPulse) == last


def test_waiting_is_what_somebody_had_work_in_whatever_became_of_the_work() -> None:
    there = play()
    there.joins(A, B)
    there.do(Tick(), 0.25)
    task = there.task(A)
    failure = messages.Failure(
        "run", "epoch", task.step, task.start, "by chance", True, round=task.round
    )
    there.do(Received(A, failure), 0.125)
    there.do(Tick(), 0.25)
    waited = [event.waited for event in there.events(WorkerPulse) if event.name == "A"]
    assert waited == sorted(waited), "a total never falls"
    assert waited[0] == 0.25


def test_an_engine_is_not_believed_to_have_worked_longer_than_it_could() -> None:
    tally = Tally()
    tally.answered(4, 1e9, 10.0, 10.5)
    assert (tally.computing, tally.waited, tally.round_trip) == (0.5, 0.5, 0.0)


def test_work_that_overlaps_counts_once() -> None:
    tally = Tally()
    tally.answered(1, 0.5, 1.0, 2.0)
    tally.answered(1, 0.5, 1.0, 2.5)  # given together with the first
    tally.answered(1, 0.5, 4.0, 5.0)
    assert (tally.answers, tally.documents, tally.waited) == (3, 3, 2.5)
    assert tally.round_trip == 0.5


def test_the_host_of_a_hello_is_told() -> None:
    there = play()
    there.do(Received(A, messages.Hello("", "", "A", "stub", ""), "10.0.0.7"))
    assert there.events(Joined) == [Joined(1, "A", "stub", "10.0.0.7")]
