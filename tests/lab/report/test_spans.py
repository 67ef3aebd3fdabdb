"""Who had which shard, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from coordinator.core.events import (
    Answered,
    Assigned,
    Dropped,
    DropReason,
    Event,
    Failed,
    Finished,
    Joined,
    Lost,
    Outcome,
    Purpose,
    Ready,
    Recorded,
)
from lab.report.spans import Lane, Mark, Span, Tracker
from lab.report.timeline import BARS, read_timeline, summaries
from tests.lab.report.directories import BEGUN, make_run, started, write_events

Told = tuple[float, Event]


def given(round: int, start: int = 0, worker: int = 1, purpose: Purpose = Purpose.WORK) -> Event:
    return Assigned(round, round, start, 2, False, worker, f"w{worker}", purpose)


def answer(round: int, start: int = 0, worker: int = 1, seconds: float = 0.5) -> Event:
    return Answered(round, round, start, 2, False, worker, f"w{worker}", False, seconds, 1.0)


def things(*told: Told) -> tuple[list[Span], list[Mark]]:
    tracker = Tracker()
    found = [*tracker.follow(Recorded(at, 0, event) for at, event in told)]
    spans = [thing for thing in found if isinstance(thing, Span)]
    return spans, [thing for thing in found if isinstance(thing, Mark)]


def short(spans: Sequence[Span]) -> list[tuple[float, float, float | None, str]]:
    return [(span.begin, span.end, span.computing, span.outcome) for span in spans]


def test_an_answer_ends_a_span_and_its_engine_was_at_work_before() -> None:
    spans, _ = things((0.0, started()), (1.0, given(0)), (3.0, answer(0)))
    assert short(spans) == [(1.0, 3.0, 2.5, "answered")]
    assert spans[0].lane == Lane(1, 1)


def test_engines_do_one_shard_after_the_other() -> None:
    told = [(1.0, given(0)), (1.0, given(0, 2)), (2.0, answer(0)), (2.25, answer(0, 2))]
    spans, _ = things((0.0, started()), *told)
    assert short(spans) == [(1.0, 2.0, 1.5, "answered"), (1.0, 2.25, 2.0, "answered")]
    liar = answer(0, seconds=9e9)  # no engine was at work before it had the shard
    assert short(things((0.0, started()), (1.0, given(0)), (2.0, liar))[0])[0][2] == 1.0


def test_what_comes_of_a_shard_is_told() -> None:
    late = Dropped(0, 0, 0, 2, False, 1, "w1", DropReason.LATE)
    broken = Failed(0, 0, 0, 2, False, 1, "w1", "x")
    done = Finished(Outcome.DONE, "x")
    for event, outcome in (
        (late, "dropped"), (broken, "failed"), (Lost(1, "w1", 1), "lost"), (done, "open"),
        (started(), "open"),
    ):  # fmt: skip
        spans, _ = things((0.0, started()), (1.0, given(0)), (2.0, event))
        end = 1.0 if event == started() else 2.0
        assert short(spans) == [(1.0, end, None, outcome)]
    assert short(things((0.0, started()), (1.0, given(0)))[0]) == [(1.0, 1.0, None, "open")]


def test_a_worker_that_is_lost_loses_its_own_shards_alone() -> None:
    told = [(1.0, given(0)), (1.0, given(0, 2, worker=2)), (2.0, Lost(1, "w1", 1))]
    spans, marks = things((0.0, started()), (0.5, Joined(1, "w1", "tape")), *told)
    assert [(span.lane.number, span.outcome) for span in spans] == [(1, "lost"), (2, "open")]
    assert [mark.lane for mark in marks] == [None, Lane(1, 1), Lane(1, 1)]
    assert marks[1].text == "w1 has joined (tape engine)"


def test_kinds_of_work_are_told_apart() -> None:
    told = [(1.0, given(0)), (1.0, given(1, purpose=Purpose.BACKUP)), (1.0, given(2))]
    spans, _ = things((0.0, started()), *told)
    assert [span.kind for span in spans] == ["work", "backup", "work"]


def steady(seconds: int, begin: float = 0.0) -> Iterator[Told]:
    """A shard in each second, whose engine takes half of it."""
    yield begin, started()
    yield begin, Joined(1, "w1", "tape")
    yield begin + 1.0, Ready(1, "w1")
    for second in range(1, seconds):
        yield begin + second, given(second)
        yield begin + second + 1.0, answer(second)


def test_a_window_is_cut_out(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_events(path, [*steady(50)])
    timeline = read_timeline(path, 10.0, 3.0)
    assert [span.begin - BEGUN for span in timeline.spans] == [10.0, 11.0, 12.0, 13.0]
    assert (timeline.first - BEGUN, timeline.last - BEGUN) == (10.0, 13.0)
    (worker,) = summaries(timeline)
    assert (worker.documents, worker.computing, worker.busy) == (6, 0.5, 1.0)


def test_it_begins_when_a_worker_is_ready_and_ends_with_too_many_bars(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_events(path, [*steady(3 * BARS), (3.0 * BARS, Finished(Outcome.DONE, "x"))])
    timeline = read_timeline(path, None, 1e6)
    assert timeline.first - BEGUN == 1.0
    assert len(timeline.spans) == BARS
    assert timeline.last - BEGUN == BARS + 1.0
    assert [mark.text for mark in timeline.marks][-1] == "x"


def test_lines_outside_the_window_are_not_read(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a")
    write_events(path, [*steady(9)])
    file = path / "events.jsonl"
    with open(file, "a") as opened:
        opened.write('{"kind": "assigned", "time": 1800000000.0, "odd": 1}\n')
    assert read_timeline(path, None, 3.0).problem == ""
    with open(file, "a") as opened:
        opened.write('{"kind": "waiting", "time": 1800000000.0, "odd": 1}\n')
    timeline = read_timeline(path, None, 3.0)
    assert timeline.problem.startswith(f"{file}, line 21: waiting has other fields")
    assert len(timeline.spans) == 3  # what was over when the odd line came


def test_a_run_without_events_has_an_empty_timeline(tmp_path: Path) -> None:
    timeline = read_timeline(tmp_path, None, 1.0)
    assert timeline.problem == f"{tmp_path}/events.jsonl cannot be read: No such file or directory"
    assert timeline.lanes == []
