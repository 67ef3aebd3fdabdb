"""A run directory is followed whatever becomes of its files, and no more is read than is told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.events import SCHEMA, Level, Outcome, Recorded, Started
from lab.page import follower as following
from lab.page.follower import QUIET, Follower
from tests.lab.page import records
from tests.lab.page.records import BEGIN

NOW = BEGIN + 100.0


def steps(follower: Follower) -> list[int]:
    return [row.step for row in follower.board.series.thinned()]


def state(follower: Follower) -> dict[str, Any]:
    return dict(follower.board.snapshot(NOW)["state"])


def add(path: Path, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)


def test_what_is_written_is_shown_as_it_comes(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert not follower.poll(NOW)
    assert state(follower)["phase"] == "waiting"
    events = records.lines(records.epoch(1, 3, BEGIN))
    half = len(events) // 2
    (tmp_path / "config.json").write_text(records.config())
    (tmp_path / "events.jsonl").write_text(events[:half])
    assert follower.poll(NOW)  # what ran is known now: all is told anew
    (tmp_path / "metrics.jsonl").write_text(records.metrics(1, 2)[:-30])
    add(tmp_path / "events.jsonl", events[half:])
    assert not follower.poll(NOW)
    assert steps(follower) == [1]  # the line of the second is half written
    assert len(follower.board.snapshot(NOW)["spans"]) == 6
    assert follower.complaints == []


def test_a_coordinator_that_comes_back_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 20, BEGIN), steps=20)
    follower = Follower(run)
    follower.poll(NOW)
    assert steps(follower)[-1] == 20
    (run / "metrics.jsonl").write_text(records.metrics(1, 10))  # cut back, and some done again
    add(run / "metrics.jsonl", records.metrics(11, 12))
    add(run / "events.jsonl", records.lines(records.epoch(11, 12, BEGIN + 50)))
    assert follower.poll(NOW)
    snapshot = follower.board.snapshot(NOW)
    assert snapshot["steps"]["step"] == [*range(1, 13)]
    assert snapshot["steps"]["documents"][-1] == 24 * 12
    times = snapshot["steps"]["time"]
    assert times[:1] + times[-1:] == pytest.approx([BEGIN + 0.016, BEGIN + 50.026])
    assert {row["epoch"] for row in snapshot["workers"]} == {2}
    assert [epoch.schema for epoch in follower.epochs] == [SCHEMA, SCHEMA]


def test_a_folder_that_another_run_begins_in_is_shown_anew(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 20, BEGIN), steps=20)
    follower = Follower(run)
    follower.poll(NOW)
    for name in ("events.jsonl", "metrics.jsonl"):
        (run / name).unlink()
    records.write(run, records.epoch(1, 2, BEGIN + 80), steps=2)
    assert follower.poll(NOW)
    assert steps(follower) == [1, 2]
    assert len(follower.board.snapshot(NOW)["spans"]) == 4


@pytest.mark.parametrize("name", ["config.json", "events.jsonl", "metrics.jsonl"])
@pytest.mark.parametrize("garbage", [b"garbage\n", b"\x00\xff\n", b"[" * 100_000 + b"\n", b"{}\n"])
def test_garbage_is_one_sentence_and_the_rest_is_shown(
    tmp_path: Path, name: str, garbage: bytes
) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 3, BEGIN), steps=3)
    path = run / name
    lines = path.read_bytes().splitlines(True)
    path.write_bytes(b"".join([*lines[:2], garbage, *lines[2:]]) if len(lines) > 1 else garbage)
    follower = Follower(run)
    follower.poll(NOW)
    follower.poll(NOW)
    (told,) = follower.complaints
    assert name in told
    assert len(told.splitlines()) == 1
    assert state(follower)["problem"] == told
    assert steps(follower) == [1, 2, 3]
    assert len(follower.board.snapshot(NOW)["spans"]) == 6


def test_garbage_without_end_is_told_a_hundred_times_at_most(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 3, BEGIN), steps=3)
    add(run / "events.jsonl", "".join(f'{{"kind": "k{number}"}}\n' for number in range(500)))
    follower = Follower(run)
    follower.poll(NOW)
    assert len(follower.complaints) == 100


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "events.jsonl")
    (tmp_path / "metrics.jsonl").mkdir()
    follower = Follower(tmp_path)
    follower.poll(NOW)
    assert [text.partition(" cannot")[0] for text in follower.complaints] == [
        str(tmp_path / "events.jsonl"), str(tmp_path / "metrics.jsonl"),
    ]  # fmt: skip


def test_a_summary_has_no_shards_and_says_so(tmp_path: Path) -> None:
    few = [each for each in records.epoch(1, 3, BEGIN) if each.event.recorded_at is Level.SUMMARY]
    few[0] = Recorded(BEGIN, 0, Started(SCHEMA, "run", "epoch", 0, 1000, Level.SUMMARY))
    follower = Follower(records.write(tmp_path / "it", few, steps=3))
    follower.poll(NOW)
    snapshot = follower.board.snapshot(NOW)
    assert (snapshot["rounds_recorded"], snapshot["spans"]) == (False, [])
    assert snapshot["steps"]["step"] == [1, 2, 3]


def test_of_a_long_record_the_last_shards_are_shown_and_all_news(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "RECENT", 20_000)
    run = records.write(
        tmp_path / "it", records.epoch(1, 1000, BEGIN, end=Outcome.DONE), steps=1000
    )
    follower = Follower(run)
    follower.poll(NOW, watched=False)
    assert follower.board.snapshot(NOW)["spans"] == []  # they are left for the first viewer
    follower.poll(NOW)
    snapshot = follower.board.snapshot(NOW)
    assert 10 <= len(snapshot["spans"]) <= 60
    assert snapshot["spans"][-1][7] == 999
    assert [mark["kind"] for mark in snapshot["marks"]][:3] == ["started", "joined", "joined"]
    assert snapshot["state"]["phase"] == "finished"
    assert snapshot["workers"][0]["documents"] is None  # as not all shards were seen
    assert snapshot["steps"]["step"] == [*range(1, 1001)]


def test_who_is_silent_and_holds_no_lock_was_killed(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 3, BEGIN), steps=3)
    follower = Follower(run)
    follower.poll(NOW)
    assert state(follower)["phase"] == "killed"  # at the first look, for who looks but once
    events: list[Recorded] = [*records.epoch(4, 5, BEGIN + 60)]
    add(run / "events.jsonl", records.lines(events))
    follower.poll(NOW + 0.2)
    assert state(follower)["phase"] == "running"
    follower.poll(NOW + QUIET)
    assert state(follower)["phase"] == "running"
    follower.poll(NOW + QUIET + 0.3)
    assert state(follower)["phase"] == "killed"


def test_a_record_of_settings_that_is_mended_is_no_problem_any_more(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 3, BEGIN), steps=3)
    (run / "config.json").write_text("{")
    follower = Follower(run)
    follower.poll(NOW)
    assert state(follower)["problem"] == f"{run / 'config.json'} is not JSON"
    assert not follower.poll(NOW)
    assert state(follower)["problem"] != ""
    (run / "mended").write_text(records.config())
    (run / "mended").replace(run / "config.json")
    follower.poll(NOW)
    assert state(follower)["problem"] == ""
    assert follower.board.run["id"] == "run"
