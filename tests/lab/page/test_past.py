"""Windows and rounds are found in a long record as if all of it were read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.core.events import Outcome, RoundClosed
from lab.event_reader import read_events
from lab.page import record_search
from lab.page.board import plain_span
from lab.page.follower import Follower
from lab.page.record_search import NotRecordedError
from lab.page.rounds import round_tree
from lab.page.windows import spans_between
from lab.report.spans import Span, Tracker
from tests.lab.page import records
from tests.lab.page.records import BEGIN, STEP
from tests.marks import soak

SECOND = BEGIN + 1000.0  # when the second epoch begins


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Follower:
    """Two epochs, of 1,000 and 2,000 steps, in a file of 3 MB: the first was killed."""
    folder = records.write(
        tmp_path_factory.mktemp("run"),
        records.epoch(1, 1000, BEGIN, steps=2500),
        records.epoch(501, 2500, SECOND, end=Outcome.DONE, steps=2500),
    )
    follower = Follower(folder)
    follower.poll(SECOND)
    return follower


@pytest.fixture
def closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little more is read than what is looked for."""
    monkeypatch.setattr(record_search, "BLOCK", 4096)
    for module in ("windows", "rounds"):
        monkeypatch.setattr(f"lab.page.{module}.LOOK", 8192)


@pytest.mark.usefixtures("closely")
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        soak(0.0, BEGIN), soak(BEGIN, BEGIN + 0.5), (BEGIN + 4.003, BEGIN + 4.2),
        soak(BEGIN + 9.9, SECOND), (BEGIN + 9.5, SECOND + 0.1), soak(SECOND + 19.5, SECOND + 30),
        soak(SECOND + 30, SECOND + 31),
    ],
)  # fmt: skip
def test_a_window_has_what_the_whole_record_has_there(
    run: Follower, begin: float, end: float
) -> None:
    everything = [
        thing for thing in Tracker().follow(read_events(run.path)) if isinstance(thing, Span)
    ]
    expected = [
        plain_span(span)
        for span in everything
        if span.end >= begin and span.begin <= end and span.outcome != "open"
    ]
    found = spans_between(run.path, run.epochs, begin, end)
    assert found == {"spans": expected, "truncated": False}


def test_a_wide_window_is_cut_off(run: Follower, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.page.windows.MOST_SPANS", 100)
    found = spans_between(run.path, run.epochs, 0.0, SECOND)
    assert (len(found["spans"]), found["truncated"]) == (100, True)
    assert found["spans"][0][2] == BEGIN + STEP + 0.001


@pytest.mark.usefixtures("closely")
@pytest.mark.parametrize(
    ("epoch", "number", "begin"),
    [(1, 0, BEGIN), (1, 990, BEGIN), (2, 0, SECOND), (2, 1777, SECOND)],
)
def test_a_round_tells_who_computed_what_and_how_it_was_added(
    run: Follower, epoch: int, number: int, begin: float
) -> None:
    found = round_tree(run.path, run.epochs, epoch, number, summed=True)
    at = begin + (number + 1) * STEP
    shards = found.pop("shards")
    step = number + (501 if epoch == 2 else 1)
    assert found == {
        "epoch": epoch, "round": number, "version": step - 1, "evaluation": False,
        "documents": 24, "tree": [0, 1], "counted": [0, 1], "outcome": "applied",
    }  # fmt: skip
    assert [(s["start"], s["count"], s["name"], s["outcome"], s["kind"]) for s in shards] == [
        (0, 16, "ada", "answered", "work"),
        (16, 8, "bob", "answered", "work"),
    ]
    times = [(s["begin"], s["computing"], s["end"]) for s in shards]
    assert [t for row in times for t in row] == pytest.approx(
        [at + 0.001, at + 0.002, at + 0.006, at + 0.001, at + 0.002, at + 0.004], abs=1e-6
    )


def test_a_backup_stands_beside_the_first(run: Follower) -> None:
    shards = round_tree(run.path, run.epochs, 2, 19, summed=True)["shards"]
    assert [(s["start"], s["name"], s["kind"], s["outcome"]) for s in shards] == [
        (0, "ada", "work", "answered"), (0, "bob", "backup", "dropped"),
        (16, "bob", "work", "answered"),
    ]  # fmt: skip


def test_where_nothing_is_summed_there_is_no_tree(run: Follower) -> None:
    assert round_tree(run.path, run.epochs, 1, 5, summed=False)["tree"] is None


@pytest.mark.parametrize(
    ("epoch", "number", "text"),
    [(0, 1, "no epoch 0"), (3, 1, "no epoch 3"), (1, 1000, "is not in the record")],
)
def test_what_is_not_there_is_told(run: Follower, epoch: int, number: int, text: str) -> None:
    with pytest.raises(NotRecordedError, match=text):
        round_tree(run.path, run.epochs, epoch, number, summed=True)


def test_a_record_without_shards_says_how_to_get_them(tmp_path: Path) -> None:
    few = [
        recorded
        for recorded in records.epoch(1, 3, BEGIN)
        if type(recorded.event).__name__ not in ("Assigned", "Answered")
    ]
    follower = Follower(records.write(tmp_path / "run", few))
    follower.poll(SECOND)
    with pytest.raises(NotRecordedError, match="recorded by --events full"):
        round_tree(follower.path, follower.epochs, 1, 1, summed=True)
    assert spans_between(follower.path, follower.epochs, 0.0, SECOND)["spans"] == []


def test_a_record_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotRecordedError, match="cannot be read: No such file"):
        spans_between(tmp_path, [], 0.0, 1.0)


def test_what_was_added_as_it_came_is_shown_so(tmp_path: Path) -> None:
    events = [
        each._replace(event=replace(each.event, counted=(1, 0)))
        if isinstance(each.event, RoundClosed)
        else each
        for each in records.epoch(1, 3, BEGIN)
    ]
    follower = Follower(records.write(tmp_path, events, steps=3))
    follower.poll(BEGIN)
    found = round_tree(follower.path, follower.epochs, 1, 1, summed=True)
    assert (found["tree"], found["counted"]) == ([1, 0], [1, 0])
