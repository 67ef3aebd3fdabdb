"""The record of events: in order, whole, off the hot path; and its reader."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from coordinator.core.event_json import EventError, to_json
from coordinator.core.events import (
    SCHEMA,
    DetailEnded,
    EventBase,
    Joined,
    Level,
    Lost,
    Recorded,
    RoundOpened,
    Started,
    StepDone,
    Waiting,
)
from coordinator.run import event_log
from coordinator.run.event_log import EventLog, Limit
from lab.event_reader import EventReader, read_events

BEGUN = Recorded(0.5, 0, Started(SCHEMA, "run", "epoch", 0, 5, Level.FULL))


def joined(number: int) -> Recorded:
    return Recorded(float(number), 0, Joined(number, f"worker-{number}", "tape"))


class Disk:
    """Stands for the file: takes so many bytes, and nothing while it hangs."""

    def __init__(self, room: int = 10**9) -> None:
        self.room, self.data = room, b""
        self.goes_on, self.asked = threading.Event(), threading.Event()
        self.goes_on.set()

    def write(self, data: bytes) -> int:
        self.asked.set()
        assert self.goes_on.wait(60.0)
        if not self.room:
            raise OSError(28, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        self.data += part
        return len(part)

    def close(self) -> None:
        """Nothing."""

    def kinds(self) -> list[str]:
        return [json.loads(line)["kind"] for line in self.data.splitlines()]


def on(disk: Disk, tmp_path: Path) -> EventLog:
    log = EventLog(tmp_path / "events.jsonl")
    log._file._file.close()
    log._file._file = disk  # type: ignore[assignment]
    return log


def test_all_that_was_added_is_there_in_order_when_it_is_closed(tmp_path: Path) -> None:
    log, expected = EventLog(tmp_path / "events.jsonl"), [BEGUN, *map(joined, range(1, 5000))]
    for number, recorded in enumerate(expected):
        log.add(recorded)
        if number % 7 == 0:
            log.settle()  # as the loop does, and the thread writes meanwhile
    log.close()
    assert read_events(tmp_path) == expected


def test_what_was_added_is_in_the_file_soon_without_anybody_asking(tmp_path: Path) -> None:
    disk = Disk()
    log = on(disk, tmp_path)
    log.add(BEGUN)
    assert disk.asked.wait(60.0)
    log.close()
    assert disk.kinds() == ["started"]


def test_a_full_disk_is_one_warning_and_costs_no_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disk = Disk(room=20)
    log = on(disk, tmp_path)
    for number in range(1, 100):
        log.add(joined(number))
        log._flush()
        log.settle()
    shown = capsys.readouterr()
    assert shown.err.count("warning: ") == 1
    assert "events.jsonl cannot be written: No space left on device" in shown.err
    disk.room = 10**9
    log.add(joined(100))
    log.close()
    assert "is written again" in capsys.readouterr().out
    assert [json.loads(line)["worker"] for line in disk.data.splitlines()] == [*range(1, 101)]


def test_a_disk_that_hangs_holds_nobody_up_and_what_is_too_much_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MOST_WAITING", 100)
    monkeypatch.setattr(event_log, "AT_ONCE", 0)
    disk = Disk()
    disk.goes_on.clear()
    log = on(disk, tmp_path)
    log.add(BEGUN)
    assert disk.asked.wait(60.0)  # the thread hangs in the first write
    for number in range(1, 151):
        log.add(joined(number))
        log.settle()
    log.add(Recorded(151.0, 0, Lost(1, "worker-1", 0)))
    disk.goes_on.set()
    disk.asked.clear()
    assert disk.asked.wait(60.0)  # the hundred that have waited
    log.add(Recorded(152.0, 0, Waiting(0)))
    log.close()
    lines = [json.loads(line) for line in disk.data.splitlines()]
    told = [(line["left_out"], line["number"]) for line in lines if line["kind"] == "left_out"]
    assert disk.kinds() == ["started", *["joined"] * 100, "left_out", "left_out", "waiting"]
    assert told == [("joined", 50), ("lost", 1)]


def test_closing_does_not_wait_for_ever_for_a_disk_that_hangs(tmp_path: Path) -> None:
    disk = Disk()
    disk.goes_on.clear()
    log = on(disk, tmp_path)
    log.add(BEGUN)
    log.close(timeout=0.1)
    assert log._thread.is_alive()
    disk.goes_on.set()
    log._thread.join(60.0)
    assert disk.kinds() == ["started"]


# --- the reader ----------------------------------------------------------------------------------


def write(folder: Path, *events: EventBase | str) -> None:
    lines = [e if isinstance(e, str) else to_json(Recorded(1.0, 0, e)) for e in events]  # type: ignore[arg-type]
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))


def test_a_reader_reads_on_and_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    reader = EventReader(tmp_path)
    assert reader.read() == []
    first, second = to_json(BEGUN), to_json(joined(1))
    path = tmp_path / "events.jsonl"
    path.write_text(f"{first}\n{second[:20]}")
    assert reader.read() == [BEGUN]
    assert reader.read() == []
    path.write_text(f"{first}\n{second}\n")
    assert reader.read() == [joined(1)]


def test_a_file_of_a_later_version_is_refused_in_one_line(tmp_path: Path) -> None:
    later = to_json(BEGUN).replace(f'"schema": {SCHEMA}', f'"schema": {SCHEMA + 1}')
    write(tmp_path, BEGUN.event, Waiting(0), later)
    says = rf"events\.jsonl, line 3: it is of version {SCHEMA + 1} of the events' form, and this"
    with pytest.raises(EventError, match=says) as caught:
        read_events(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_without_a_version_is_refused(tmp_path: Path) -> None:
    write(tmp_path, Waiting(0))
    with pytest.raises(EventError, match="line 1: it does not begin with the version of its form"):
        read_events(tmp_path)


def test_what_was_added_is_in_the_file_when_flush_returns(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    for number in range(1, 200):
        log.add(joined(number))
        log.flush()  # while the thread writes, too
        assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == number
    log.close()


def added(path: Path, limit: Limit, number: int) -> list[Recorded]:
    """What is recorded of so many pairs of events, of which the second is a shard's."""
    log = EventLog(path / "events.jsonl", limit)
    log.add(BEGUN)
    for each in range(number):
        log.add(joined(each))
        log.add(Recorded(2.0, each, RoundOpened(each, each, False, 0, 32)))
        log.add(Recorded(2.0, each, StepDone(each, 2.5, 0.1, 2)))
        log.flush()
    log.close()
    return read_events(path)


@pytest.mark.parametrize("level", [Level.SUMMARY, Level.ROUNDS])
def test_past_its_limit_a_record_goes_on_with_less_and_says_so(
    tmp_path: Path, level: Level
) -> None:
    found = added(tmp_path, Limit(5000, level), 100)
    (place,) = [at for at, each in enumerate(found) if isinstance(each.event, DetailEnded)]
    assert found[place].event == DetailEnded(5000, level)
    kinds = {type(each.event) for each in found[place + 1 :]}
    assert kinds == ({Joined, RoundOpened} if level is Level.ROUNDS else {Joined})
    assert sum(isinstance(each.event, Joined) for each in found) == 100
    before = sum(len(to_json(each)) + 1 for each in found[:place])
    assert 5000 <= before < 5500
    # The next epoch begins behind the limit.
    again = added(tmp_path, Limit(5000, level), 2)[len(found) :]
    assert [type(each.event) for each in again][:3] == [Started, DetailEnded, Joined]
