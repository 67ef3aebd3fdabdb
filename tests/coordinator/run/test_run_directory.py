"""What a run writes into its directory."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any, cast

import pytest

from coordinator.checkpointing.writer import CheckpointWriter, find_newest, step_path
from coordinator.core.actions import Save
from coordinator.core.events import (
    SCHEMA,
    CheckpointSaved,
    Closing,
    Event,
    Finished,
    Joined,
    Level,
    Outcome,
    Ready,
    Recorded,
    Started,
    Status,
    Waiting,
)
from coordinator.core.inputs import Saved
from coordinator.run.directory_owner import OwnedRunDir, link_latest, new_run_dir
from coordinator.run.line_file import MAX_WAITING, LineFile
from coordinator.run.run_directory import RunDirectory, fingerprint
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import Checkpoint, CheckpointError
from microgpt.training import TrainingState, from_checkpoint
from tests.conftest import Reference
from tests.processes import NAMES, RunDir

# A whole run


def test_the_files_of_a_run(saved_run: Path) -> None:
    files = {str(p.relative_to(saved_run)) for p in saved_run.rglob("*") if p.is_file()}
    assert files == {
        "checkpoint.msgpack", "checkpoints/step-00000000.msgpack",
        "checkpoints/step-00000005.msgpack", "config.json", "endpoint", "events.jsonl",
        "launch.json", "logs/worker-1.log", "metrics.jsonl",
    }  # fmt: skip
    latest = saved_run.parent / "latest"
    assert latest.is_symlink()
    assert os.readlink(latest) == saved_run.name, "relative: the folder may be moved"
    newest = (saved_run / "checkpoint.msgpack").read_bytes()
    assert newest == (saved_run / "checkpoints/step-00000005.msgpack").read_bytes()


def test_the_metrics_of_a_run(saved_run: Path, reference: Reference) -> None:
    metrics = RunDir(saved_run).metrics
    expected = reference(5, 4, four_letters=True)
    assert [r["step"] for r in metrics] == [1, 2, 3, 4, 5]
    assert [r["loss"] for r in metrics] == list(expected.losses), "every digit"
    assert [r["lr"] for r in metrics] == [0.01 * (1 - step / 5) for step in range(5)]
    for record in metrics:
        assert (record["documents"], record["workers"]) == (4, 1)
        assert 4 <= record["tokens"] <= 16
        assert record["seconds"] > 0.0
        assert record["bytes_received"] > 8 * expected.num_params
        assert record["bytes_sent"] > 8 * expected.num_params


def test_the_events_of_a_run(saved_run: Path) -> None:
    recorded = RunDir(saved_run).recorded
    kinds = [type(each.event) for each in recorded]
    assert [kind for kind in kinds if kind not in (Status, CheckpointSaved)] == [
        Started, Waiting, Joined, Ready, Closing, Finished,
    ]  # fmt: skip
    assert sum(event.number for event in RunDir(saved_run).events(CheckpointSaved)) == 2
    run = checkpoint_format.load(saved_run / "checkpoint.msgpack").run
    begun = recorded[0].event
    assert begun == Started(SCHEMA, run, cast(Started, begun).epoch, 0, 5, Level.SUMMARY)
    times = [each.time for each in recorded]
    assert times == sorted(times)
    assert (recorded[0].step, recorded[-1].step) == (0, 5)
    assert recorded[-1].event == Finished(Outcome.DONE, "all 5 steps are done")


def test_the_config_of_a_run(saved_run: Path) -> None:
    config = json.loads((saved_run / "config.json").read_text())
    saved = checkpoint_format.load(saved_run / "checkpoint.msgpack")
    assert config["run"] == saved.run
    assert config["training"] == saved.training.to_dict()
    assert config["data"] == dict(saved.data)
    text = ("\n".join(NAMES) + "\n").encode()
    assert config["data"]["sha256"] == hashlib.sha256(text).hexdigest()
    assert (config["data"]["documents"], config["data"]["bytes"]) == (len(NAMES), len(text))
    assert config["settings"]["batch_size"] == 4
    assert config["workers"] == {"number": 1, "engine": "scalar"}, "what train.py was asked for"
    assert [event.engine for event in RunDir(saved_run).events(Joined)] == ["scalar"]
    assert config["platform"] == fingerprint()
    assert config["versions"]["numpy"][0].isdigit()


def test_the_fingerprint_sees_the_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint()
    assert fingerprint() == before
    monkeypatch.setattr(math, "exp", lambda x: math.e**x)
    assert fingerprint()["libm_sha256"] != before["libm_sha256"]


# The record


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return RunDir(run_dir).metrics


def test_steps_that_will_be_done_again_are_cut_off(tmp_path: Path) -> None:
    with OwnedRunDir.take(tmp_path) as owned:
        record = RunDirectory(owned, {}, 0)
        for step in range(1, 8):
            record.step({"step": step, "loss": 0.1 * step})
        record.close()
        owned.keep()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 8, "lo')
    with OwnedRunDir.take(tmp_path) as owned:
        record = RunDirectory(owned, {"second": "epoch"}, 5)
        record.step({"step": 6, "loss": 0.5})
        record.close()
    assert [r["step"] for r in metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert metrics(tmp_path)[2]["loss"] == 0.1 * 3
    assert json.loads((tmp_path / "config.json").read_text()) == {"second": "epoch"}


def test_events_are_kept_over_epochs(tmp_path: Path) -> None:
    for epoch in ("one", "two"):
        with OwnedRunDir.take(tmp_path) as owned:
            record = RunDirectory(owned, {}, 0)
            record.event(Recorded(1.0, 0, Started(SCHEMA, "run", epoch, 0, 5, Level.FULL)))
            record.close()
            owned.keep()
        with open(tmp_path / "events.jsonl", "ab") as file:
            file.write(b'{"kind": "joi')  # it is killed while it writes
    with OwnedRunDir.take(tmp_path) as owned:
        RunDirectory(owned, {}, 0).close()
    assert [event.epoch for event in RunDir(tmp_path).events(Started)] == ["one", "two"]


class Disk:
    """Stands for the file of a LineFile on a disk with so many bytes left."""

    def __init__(self, room: int) -> None:
        self.room, self.data = room, b""

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        part = data[: self.room]
        self.room -= len(part)
        self.data += part
        return len(part)

    def close(self) -> None:
        """Nothing."""


def test_lines_wait_for_a_full_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = LineFile(tmp_path / "x.jsonl")
    disk = Disk(room=20)
    lines._file.close()
    lines._file = disk  # type: ignore[assignment]
    for number in range(100):
        lines.add({"number": number})
        lines.flush()
    shown = capsys.readouterr()
    assert shown.err.count("warning: ") == 1
    assert "No space left on device" in shown.err
    disk.room = 10**9
    lines.add({"number": 100})
    lines.flush()
    assert "is written again" in capsys.readouterr().out
    assert [json.loads(line)["number"] for line in disk.data.splitlines()] == list(range(101))


def test_what_waits_has_a_limit(tmp_path: Path) -> None:
    lines = LineFile(tmp_path / "x.jsonl")
    disk = Disk(room=0)
    lines._file.close()
    lines._file = disk  # type: ignore[assignment]
    for number in range(3000):
        lines.add({"number": number, "text": "x" * 1000})
        lines.flush()
    assert len(lines._waiting) < MAX_WAITING + 2000
    disk.room = 10**9
    lines.close()
    numbers = [json.loads(line)["number"] for line in disk.data.splitlines()]
    assert numbers == list(range(len(numbers)))


def test_run_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = [new_run_dir() for _ in range(5)]
    assert len(set(made)) == 5, "runs begun in one second do not share a directory"
    assert all(path.is_dir() for path in made)
    link_latest(made[0])
    link_latest(made[3])
    assert Path("runs/latest").resolve() == (tmp_path / made[3]).resolve()
    elsewhere = tmp_path / "elsewhere" / "run"
    elsewhere.mkdir(parents=True)
    link_latest(elsewhere)
    assert os.listdir(elsewhere.parent) == ["run"], "nothing is linked outside a folder runs"


# Checkpoints of a run


def test_the_newest_checkpoint(tmp_path: Path, reference: Reference) -> None:
    assert find_newest(tmp_path) is None
    (tmp_path / "checkpoints").mkdir()
    for steps in (1, 2, 3):
        checkpoint_format.save(step_path(tmp_path, steps), reference(steps, 4))
    found = find_newest(tmp_path)
    assert found is not None
    assert (found.checkpoint.step, found.path) == (3, step_path(tmp_path, 3))

    # After a resume from an older file, checkpoint.msgpack is behind files of the former attempt.
    newest = tmp_path / "checkpoint.msgpack"
    checkpoint_format.save(newest, reference(2, 4))
    found = find_newest(tmp_path)
    assert found is not None
    assert (found.checkpoint.step, found.path, found.passed_over) == (2, newest, ())

    newest.write_bytes(b"")
    step_path(tmp_path, 3).write_bytes(b"damaged")
    found = find_newest(tmp_path)
    assert found is not None
    assert found.checkpoint.step == 2
    assert len(found.passed_over) == 2

    for steps in (1, 2):
        step_path(tmp_path, steps).write_bytes(b"")
    with pytest.raises(CheckpointError, match="no good checkpoint in"):
        find_newest(tmp_path)


def test_the_writer_writes_in_the_background(tmp_path: Path, reference: Reference) -> None:
    (tmp_path / "checkpoints").mkdir()
    expected = reference(2, 4)
    done: list[Saved | Event] = []

    def convert(state: TrainingState) -> Checkpoint:
        assert state.step == 2
        return expected

    writer = CheckpointWriter(tmp_path, convert, done.append)
    assert writer.submit(Save(from_checkpoint(expected))) is None
    writer.close(30.0)
    assert done == [Saved(2)]
    for path in (tmp_path / "checkpoint.msgpack", step_path(tmp_path, 2)):
        assert checkpoint_format.load(path) == expected


def test_the_writer_reports_what_fails(tmp_path: Path, reference: Reference) -> None:
    done: list[Saved | Event] = []
    expected = reference(2, 4)
    (tmp_path / "file").write_text("")  # below a file even root can make no directory
    writer = CheckpointWriter(tmp_path / "file", lambda state: expected, done.append)
    writer.submit(Save(from_checkpoint(expected)))
    writer.close(30.0)
    (saved,) = done
    assert isinstance(saved, Saved)
    assert saved.step == 2
    assert "cannot be written: Not a directory" in saved.error
