"""What a board makes of the records of a run: all of it decided by what stands in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from coordinator.core.events import (
    Closing,
    Event,
    Finished,
    Joined,
    Left,
    Lost,
    Outcome,
    Ready,
    Recorded,
    Started,
    StrategyNumbers,
    TensorNorms,
    WorkerPulse,
)
from coordinator.core.level import Level
from lab.page.board import MOST_MARKS, Board
from lab.page.metric_lines import StepLine, step_lines
from lab.page.prometheus import metrics_of
from tests.lab.page import records
from tests.lab.page.records import BEGIN


def board_of(*parts: Iterable[Recorded], steps: int = 0) -> Board:
    board = Board()
    for recorded in (each for part in parts for each in part):
        board.take(recorded)
    for line in step_lines(records.metrics(1, steps).encode(), "here", pytest.fail):
        board.add_step(line)
    return board


def at(time: float, event: Event, step: int = 0) -> Recorded:
    return Recorded(BEGIN + time, step, event)


def pulse(worker: int, time: float, documents: int, computing: float, waited: float) -> Recorded:
    return at(
        time, WorkerPulse(worker, "ada", 1, documents, 9, 100, 200, computing, waited, 0.002, 0.1)
    )


START = [
    at(0.0, Started(3, "run", "epoch", 0, 1000, Level.FULL, 0)),
    at(0.1, Joined(1, "ada", "tape", "10.0.0.7")),
    at(0.2, Ready(1, "ada")),
]


def test_a_snapshot_has_all_and_is_json() -> None:
    snapshot = board_of(records.epoch(1, 100, BEGIN, end=Outcome.DONE), steps=100).snapshot(BEGIN)
    assert json.loads(json.dumps(snapshot)) == snapshot
    assert snapshot["steps"]["step"] == [*range(1, 101)]
    assert snapshot["steps"]["documents"][-1] == 2400
    assert snapshot["steps"]["sent"][-1] == 1000
    assert snapshot["steps"]["time"][:2] == pytest.approx([BEGIN + 0.016, BEGIN + 0.026])
    assert [v[:2] for v in snapshot["validations"]] == [[50, 2.5], [100, 2.5]]
    assert len(snapshot["spans"]) == 210  # two shards a step, and ten backups
    assert snapshot["spans"][0][:2] == [1, 2]
    assert snapshot["rounds_recorded"] is True
    kinds = [mark["kind"] for mark in snapshot["marks"]]
    assert kinds == ["started", "joined", "joined", *["dropped"] * 10, "finished"]
    state = snapshot["state"]
    assert (state["phase"], state["reason"], state["step"]) == ("finished", "that is all", 100)
    assert state["documents_per_second"] == pytest.approx(24 / 0.006)
    assert (state["bytes_sent_per_step"], state["bytes_received_per_step"]) == (10.0, 20.0)


def test_news_tell_each_thing_once() -> None:
    board = board_of(records.epoch(1, 10, BEGIN), steps=10)
    news = dict(board.news(BEGIN))
    assert {*news} == {"marks", "steps", "spans", "state", "workers"}
    assert len(news["spans"]) == 21
    assert board.news(BEGIN) == []
    for recorded in records.step_events(11, 10):
        board.take(recorded._replace(time=BEGIN + 0.11 + recorded.time))
    (line,) = step_lines(records.metrics(11, 11).encode(), "here", pytest.fail)
    board.add_step(line)
    news = dict(board.news(BEGIN + 0.2))
    assert {*news} == {"steps", "spans"}  # state and workers are told twice a second
    assert news["steps"]["step"] == [11]
    assert {*dict(board.news(BEGIN + 1.0))} == {"state", "workers"}


def test_a_phase_is_told_at_once() -> None:
    board = board_of(START)
    board.news(BEGIN)
    board.take(at(0.3, Finished(Outcome.FAILED, "no gradient is finite")))
    state = dict(board.news(BEGIN + 0.01))["state"]
    assert (state["phase"], state["reason"]) == ("failed", "no gradient is finite")


@pytest.mark.parametrize(
    ("events", "phase"),
    [
        ([], "waiting"), (START[:2], "waiting"), (START, "running"),
        ([*START, at(1, Lost(1, "ada", 2))], "waiting"),
        ([*START, at(1, Closing(Outcome.STOPPED, "Ctrl-C"))], "running"),
        ([*START, at(1, Finished(Outcome.STOPPED, "Ctrl-C"))], "stopped"),
        ([*START, at(1, Finished(Outcome.STOPPED, "Ctrl-C")), *START], "running"),
    ],
)  # fmt: skip
def test_phases(events: list[Recorded], phase: str) -> None:
    assert board_of(events).snapshot(BEGIN + 2)["state"]["phase"] == phase


def test_workers_are_told_by_their_pulses() -> None:
    board = board_of(START, [pulse(1, 1.0, 100, 0.5, 0.75), pulse(1, 2.0, 164, 1.0, 1.5)])
    (row,) = board.snapshot(BEGIN + 2.1)["workers"]
    assert row == {
        "epoch": 1, "worker": 1, "name": "ada", "engine": "tape", "host": "10.0.0.7",
        "state": "computing", "documents_per_second": 64.0, "documents": 164, "in_flight": 1,
        "silent_for": 0.1, "round_trip": 0.002, "bytes_sent": 100, "bytes_received": 200,
        "computing": 0.5, "wire": 0.25, "waiting": 0.25, "frozen": False, "slowness": 1.0,
        "cut": False,
    }  # fmt: skip


def test_workers_of_records_without_pulses_are_told_by_their_shards() -> None:
    board = board_of(records.epoch(1, 200, BEGIN))
    ada, bob = board.snapshot(BEGIN + 2.01)["workers"]
    assert (ada["documents"], bob["documents"]) == (3200, 1600)
    assert ada["documents_per_second"] == pytest.approx(1600, rel=0.05)
    assert (ada["computing"], ada["wire"]) == pytest.approx((0.4, 0.1), rel=0.1)
    board.roster.partial = True
    assert board.snapshot(BEGIN)["workers"][0]["documents"] is None


def test_who_has_gone_is_shown_for_a_while_and_not_in_the_next_epoch() -> None:
    gone = [at(1, Lost(1, "ada", 2)), at(2, Joined(2, "bob", "tape")), at(3, Left(2, "bob", 0))]
    board = board_of(START, gone)
    rows = [(row["name"], row["state"]) for row in board.snapshot(BEGIN)["workers"]]
    assert rows == [("bob", "left"), ("ada", "lost")]
    board.take(START[0])
    assert board.snapshot(BEGIN)["workers"] == []


def test_norms_and_numbers_are_the_newest() -> None:
    told: list[Event] = [
        TensorNorms(3, ("wte",), (), (0.5,)),
        StrategyNumbers(3, {"outer_step": 0.25}, {"staleness": {"0": 4, "1": 2}}),
    ]
    board = board_of(START, [at(1, event) for event in told])
    snapshot = board.snapshot(BEGIN)
    assert snapshot["tensors"] == {"step": 3, "names": ["wte"], "gradient": None, "update": [0.5]}
    numbers = {"step": 3, "numbers": {"outer_step": 0.25},
               "histograms": {"staleness": {"0": 4, "1": 2}}}  # fmt: skip
    assert snapshot["numbers"] == numbers
    news = dict(board.news(BEGIN))
    assert (news["tensors"], news["numbers"]) == (snapshot["tensors"], numbers)


def test_a_long_run_stays_bounded() -> None:
    board = board_of(START)
    for step in range(1, 60_001):
        board.add_step(StepLine(step, 3.0, 0.001, 32, 10, 20, 2, 0.01, 2.0))
        if step % 20 == 0:
            board.take(at(step, Lost(1, "ada", 0), step))
            board.take(at(step, Joined(1, "ada", "tape"), step))
    snapshot = board.snapshot(BEGIN)
    assert len(snapshot["steps"]["step"]) <= 4001
    assert snapshot["steps"]["documents"][-1] == 32 * 60_000
    assert len(snapshot["validations"]) <= 2000
    assert len(snapshot["marks"]) == MOST_MARKS
    assert len(snapshot["workers"]) <= 33
    sizes = {name: len(json.dumps(data)) for name, data in board.news(BEGIN)}
    assert max(sizes.values()) < 300_000, sizes


def test_steps_that_begin_anew_want_a_snapshot() -> None:
    board = board_of(START, steps=10)
    board.forget_steps()
    assert board.anew
    assert board.snapshot(BEGIN)["steps"]["step"] == []


def test_numbers_for_prometheus_have_units() -> None:
    board = board_of(START, [pulse(1, 1.0, 100, 0.5, 0.75)], steps=50)
    board.begin({"id": "a1", "name": 'a "run"\n', "strategy": "sync", "promise": "exact"}, 9, False)
    text = metrics_of(board).decode()
    for line in (
        'microgpt_run_info{id="a1",name="a \\"run\\"\\n",promise="exact",strategy="sync"} 1.0',
        'microgpt_phase{phase="running"} 1.0', "microgpt_steps 50.0",
        "microgpt_steps_planned 1000.0", "microgpt_loss_nats 2.04",
        "microgpt_validation_loss_nats 2.5", "microgpt_documents_total 1200.0",
        "microgpt_sent_bytes_total 500.0", 'microgpt_workers{state="ready"} 1.0',
        'microgpt_worker_computing_seconds_total{name="ada",worker="1"} 0.5',
        'microgpt_worker_documents_total{name="ada",worker="1"} 100.0',
        "# TYPE microgpt_step_seconds_total counter",
    ):  # fmt: skip
        assert line in text.splitlines(), text


def at_rate(rate: float) -> dict[str, Any]:
    """The state of a run of so many steps per second, a second after its last step."""
    board = board_of(START)
    for step in range(1, 101):
        board.take(at(step / rate, START[2].event, step))
        board.add_step(StepLine(step, 3.0, 1 / rate, 32, 10, 20, 2, 0.01, None))
    return dict(board.snapshot(BEGIN + 100 / rate)["state"])


@pytest.mark.parametrize("rate", [0.5, 20.0])
def test_rates_and_the_time_that_is_left(rate: float) -> None:
    state = at_rate(rate)
    assert state["steps_per_second"] == pytest.approx(rate)
    assert state["documents_per_second"] == pytest.approx(32 * rate)
    assert state["seconds_left"] == pytest.approx(900 / rate)
