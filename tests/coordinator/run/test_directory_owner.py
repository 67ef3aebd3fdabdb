"""One owner of a run directory, who deletes nothing that was there before."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.core.event_json import from_json
from coordinator.core.events import CheckpointsVanished, Recorded
from coordinator.run.directory_owner import (
    OwnedRunDir,
    RunDirectoryError,
    check_free,
    find_run_dir,
    link_latest,
    new_run_dir,
)
from coordinator.run.run_directory import RunDirectory
from microgpt.support.cli import UserError


def tree(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*"))


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    with OwnedRunDir.take(tmp_path):
        with pytest.raises(RunDirectoryError, match="another coordinator is writing to"):
            OwnedRunDir.take(tmp_path)
        assert tree(tmp_path) == []
    with OwnedRunDir.take(tmp_path):
        pass


def test_a_lock_is_handed_down(tmp_path: Path) -> None:
    with OwnedRunDir.take(tmp_path) as supervisor:
        handed = os.dup(supervisor.descriptor)
        with OwnedRunDir.take(tmp_path, handed) as coordinator:
            assert coordinator.descriptor == handed
        with pytest.raises(RunDirectoryError, match="another coordinator is writing to"):
            OwnedRunDir.take(tmp_path)


@pytest.mark.parametrize("bad", [-1, 10**6, 2**40])
def test_a_lock_of_something_else_is_no_lock(tmp_path: Path, bad: int) -> None:
    with OwnedRunDir.take(tmp_path):
        with pytest.raises(RunDirectoryError, match="another coordinator is writing to"):
            OwnedRunDir.take(tmp_path, bad)
        elsewhere = os.open("/", os.O_RDONLY)
        with pytest.raises(RunDirectoryError, match="another coordinator is writing to"):
            OwnedRunDir.take(tmp_path, elsewhere)
        os.close(elsewhere)


def test_a_directory_that_was_deleted_and_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with OwnedRunDir.take(path) as first:
        handed = os.dup(first.descriptor)
        first.keep()
        path.rmdir()
        with OwnedRunDir.take(path, handed) as second:
            second.keep()
            assert second.descriptor != handed
        os.close(handed)
    assert path.is_dir()


def test_a_failed_start_takes_back_what_it_has_made_and_no_more(tmp_path: Path) -> None:
    with OwnedRunDir.take(tmp_path / "a" / "b" / "run"):
        assert tree(tmp_path) == ["a", "a/b", "a/b/run"]
    assert tree(tmp_path) == []

    (tmp_path / "run" / "logs").mkdir(parents=True)
    (tmp_path / "run" / "endpoint").write_text("mine")
    with OwnedRunDir.take(tmp_path / "run") as owned:
        for name in ("endpoint", "logs", "logs/new", "deep", "deep/file"):
            owned.will_make(tmp_path / "run" / name)
        (tmp_path / "run" / "deep").mkdir()
        (tmp_path / "run" / "deep" / "file").touch()
        (tmp_path / "run" / "deep" / "theirs").touch()
        (tmp_path / "run" / "logs" / "new").touch()
    assert tree(tmp_path / "run") == ["deep", "deep/theirs", "endpoint", "logs"]


def test_what_has_begun_is_kept(tmp_path: Path) -> None:
    with OwnedRunDir.take(tmp_path / "run") as owned:
        owned.keep()
    assert tree(tmp_path) == ["run"]


def test_a_new_directory_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with OwnedRunDir.new() as owned:
        assert tree(tmp_path) == ["runs", str(owned.path)]
    assert tree(tmp_path) == []
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(RunDirectoryError, match="cannot write to runs/"):
        new_run_dir()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 300, "File name too long"), ("loop", "symbolic links"), ("file", "Not a directory"),
     ("file/below", "Not a directory"), ("dangling/below", "No such file|Not a directory|exists")],
)  # fmt: skip
def test_what_cannot_be_a_run_directory(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "file").touch()
    before = tree(tmp_path)
    with pytest.raises(RunDirectoryError, match=f"cannot write to .*: .*({reason})"):
        OwnedRunDir.take(tmp_path / name)
    assert tree(tmp_path) == before


def test_which_directory_the_flags_name(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "one"
    (run / "checkpoints").mkdir(parents=True)
    step = run / "checkpoints" / "step-00000005.msgpack"
    step.touch()
    latest = tmp_path / "runs" / "latest"
    latest.symlink_to("one")
    assert find_run_dir(None, None) is None
    assert find_run_dir(None, "auto") is None
    for resume in (run, step, run / "checkpoints", latest):
        assert find_run_dir(None, str(resume)) == run
    assert find_run_dir(latest, "auto") == run
    assert find_run_dir(tmp_path / "other", str(run)) == tmp_path / "other"
    for missing in (tmp_path / "missing", tmp_path / ("x" * 300)):
        with pytest.raises(UserError, match="there is no such file or directory"):
            find_run_dir(None, str(missing))


def recorded(path: Path, run: str = "r") -> None:
    (path / "config.json").write_text(json.dumps({"run": run, "training": {}}))


def saved(path: Path) -> None:
    (path / "checkpoint.msgpack").touch()


def step_alone(path: Path) -> None:
    (path / "checkpoints").mkdir()
    (path / "checkpoints" / "step-00000000.msgpack").touch()


def users(name: str) -> Callable[[Path], None]:
    return lambda path: (path / name).symlink_to("nowhere")


@pytest.mark.parametrize(
    ("content", "run", "complaint"),
    [
        (lambda path: None, None, ""),
        (lambda path: None, "r", ""),
        (recorded, None, ""),  # of a run that was killed before it had saved anything
        (recorded, "r", ""),
        (recorded, "other", "holds the record of another run: choose another --run-dir"),
        (saved, None, "holds a run already: --resume .* goes on with it"),
        (saved, "r", "holds a run already: --resume .* goes on with it"),
        (step_alone, None, "holds a run already"),
        (users("config.json"), None, "config.json is of no run"),
        (users("endpoint"), "r", "endpoint is of no run"),
        (users("metrics.jsonl"), None, "metrics.jsonl is of no run"),
        (users("letters.txt"), None, ""),
        (lambda path: (path / "config.json").write_text("[" * 100_000), None, "is of no run"),
        (
            lambda path: (path / "config.json").write_text('{"run": 3, "training": 4}'),
            None,
            "is of",
        ),
    ],
)
def test_a_directory_that_holds_something_else(
    tmp_path: Path, content: Callable[[Path], None], run: str | None, complaint: str
) -> None:
    content(tmp_path)
    before = tree(tmp_path)
    if complaint:
        with pytest.raises(RunDirectoryError, match=complaint):
            check_free(tmp_path, run)
    else:
        check_free(tmp_path, run)
    assert tree(tmp_path) == before


# runs/latest


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("one", "two"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    return tmp_path / "runs"


def test_latest_is_replaced_where_it_is_a_link(runs: Path) -> None:
    for name in ("one", "two"):
        link_latest(runs / name)
        assert os.readlink(runs / "latest") == name
    (runs / "latest").unlink()
    (runs / "latest").symlink_to("latest")
    link_latest(runs / "one")
    assert os.readlink(runs / "latest") == "one"
    assert tree(runs) == ["latest", "one", "two"]


@pytest.mark.parametrize("kind", ["directory", "file"])
def test_latest_is_left_where_it_is_none(
    runs: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    latest = runs / "latest"
    if kind == "file":
        latest.write_text("mine")
    else:
        (latest / "mine").mkdir(parents=True)
    before = tree(runs)
    link_latest(runs / "one")
    assert tree(runs) == before
    assert capsys.readouterr().out.splitlines() == [f"{latest} is no link, and is left as it is"]
    link_latest(latest)
    assert tree(runs) == before
    assert capsys.readouterr().out == ""


def test_a_file_system_without_links(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*given: object, **more: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "symlink", refuse)
    link_latest(runs / "one")
    assert tree(runs) == ["one", "two"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("runs/latest cannot point to this run: Operation not permitted")


# The record in it


def test_a_full_disk_is_no_hindrance_to_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with OwnedRunDir.take(tmp_path) as owned:
        record = RunDirectory(owned, {"epoch": 1}, 0)
        record.endpoint("tcp://127.0.0.1:1")
        for step in range(1, 8):
            record.step({"step": step})
        record.close()
        owned.keep()
    before = tree(tmp_path)

    def full(path: Path, data: bytes) -> int:
        path.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with OwnedRunDir.take(tmp_path) as owned:
        record = RunDirectory(owned, {"epoch": 2}, 5)
        record.endpoint("tcp://127.0.0.1:1")
        record.step({"step": 6})
        record.close()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("config.json cannot be written: No space left on device")
    assert tree(tmp_path) == before
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6]

    with (
        pytest.raises(RunDirectoryError, match=r"cannot write to .*: No space left"),
        OwnedRunDir.take(tmp_path / "new") as owned,
    ):
        RunDirectory(owned, {"epoch": 1}, 0)
    assert tree(tmp_path) == before, "a run that never began leaves nothing"


def test_names_that_are_not_utf_8_are_noted_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"r\xfcn")
    with OwnedRunDir.take(tmp_path / name) as owned:
        record = RunDirectory(owned, {"run_dir": str(owned.path)}, 0)
        told = Recorded(1.0, 0, CheckpointsVanished(name, 1))
        record.event(told)
        record.close()
        config = json.loads((owned.path / "config.json").read_text(encoding="utf-8"))
        assert config == {"run_dir": str(tmp_path / name)}
        read = from_json((owned.path / "events.jsonl").read_bytes())
        assert read == told._replace(event=CheckpointsVanished(r"r\udcfcn", 1))
