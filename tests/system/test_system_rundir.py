"""Run directories under real processes: one owner, and nothing of the user's is lost."""

from __future__ import annotations

import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from microgpt.checkpoint import format as checkpoint_format
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import ENDLESS, TINY, Lab, Process, RunDir, eventually
from tests.system.test_system_workers import ends_alike, find_child, signal_process

pytestmark = pytest.mark.timeout(300)
ONE = ("--workers", "1", "--engine", "scalar")


def contents(path: Path) -> dict[str, bytes | None]:
    """Every file and folder below a directory."""
    found = {str(p.relative_to(path)): p for p in path.rglob("*")}
    return {name: p.read_bytes() if p.is_file() else None for name, p in found.items()}


def complaint(process: Process) -> str:
    process.expected = True
    assert process.wait() == 1, process.err
    (line,) = process.err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture
def finished(lab: Lab, saved_run: Path) -> Path:
    """A copy of a complete run of 5 steps."""
    target = lab.place / "runs" / "finished"
    shutil.copytree(saved_run, target)
    for path in target.rglob("*.msgpack"):
        saved = checkpoint_format.load(path)
        checkpoint_format.save(path, replace(saved, data={**saved.data, "name": str(lab.data)}))
    return target


def test_a_second_start_disturbs_nothing(lab: Lab) -> None:
    lab.slow_down(0.02)
    data = ("--data", str(lab.data), "--batch-size", "4", *ONE)
    train = lab.train(*TINY, *ENDLESS, *data, "--bind", "tcp://127.0.0.1:*")
    run = lab.run_dir()
    address = run.endpoint()
    run.happens("joined")
    for resume in ([], ["--resume", "auto"]):
        second = lab.train(*TINY, *data, *resume)
        assert "another coordinator is writing to runs/it" in complaint(second)
    assert run.endpoint() == address
    signal_process(find_child(train, "worker"), signal.SIGKILL)
    run.happens("joined", 2)
    signal_process(find_child(train, "coordinator"), signal.SIGKILL)
    run.happens("joined", 3)
    assert run.endpoint() == address
    train.send(signal.SIGINT)
    assert train.wait() == 130


@pytest.mark.parametrize(
    ("program", "how"),
    [
        soak("train", "--resume"),
        ("coordinator", "--resume"),
        ("train", "--run-dir"),
        soak("coordinator", "--run-dir"),
    ],
)
def test_a_folder_of_the_users_stays_as_it_is(lab: Lab, program: str, how: str) -> None:
    folder = lab.place / "mine"
    folder.mkdir()
    (folder / "endpoint").write_text("of my garden path\n")
    before = contents(folder)
    start = lab.train if program == "train" else lab.coordinator
    expected = {"--resume": "there is no checkpoint in", "--run-dir": "endpoint is of no run"}
    started = start(*TINY, "--data", str(lab.data), how, "mine", run="")
    assert expected[how] in complaint(started)
    assert contents(folder) == before
    assert not (lab.place / "runs").exists()


@pytest.mark.soak
def test_latest_means_the_run_that_it_points_to(lab: Lab, finished: Path) -> None:
    latest = finished.parent / "latest"
    latest.symlink_to("finished")
    flags = ("--resume", "auto", "--steps", "6", "--data", str(lab.data), *ONE)
    train = lab.train(*flags, run="runs/latest")
    assert train.wait() == 0, train.err
    assert os.readlink(latest) == "finished"
    assert checkpoint_format.load(finished / "checkpoint.msgpack").step == 6
    latest.unlink()
    latest.mkdir()
    again = lab.train("--resume", "runs/finished", *ONE, run="")
    assert again.wait() == 0, again.err
    assert (again.err, list(latest.iterdir())) == ("", [])
    assert f"{latest} is no link, and is left as it is" in again.out


def test_records_of_two_runs_are_not_mixed(lab: Lab, finished: Path) -> None:
    other = finished.with_name("other")
    shutil.copytree(finished, other)
    before = contents(other)
    train = lab.train("--resume", str(finished), *ONE, run=str(other))
    message = complaint(train)
    assert f"{other} holds a run already: --resume {other} goes on with it" in message
    shutil.rmtree(other / "checkpoints")
    (other / "checkpoint.msgpack").unlink()
    (other / "config.json").write_text('{"run": "another", "training": {}}')
    before = contents(other)
    coordinator = lab.coordinator("--resume", str(finished), run=str(other))
    assert f"{other} holds the record of another run" in complaint(coordinator)
    assert contents(other) == before

    fork = lab.train("--resume", str(finished), "--steps", "6", *ONE, run="runs/fork")
    assert fork.wait() == 0, fork.err
    assert checkpoint_format.load(lab.run_dir("runs/fork").newest).step == 6
    assert checkpoint_format.load(finished / "checkpoint.msgpack").step == 5


@pytest.mark.soak
def test_killed_before_it_has_begun_it_resumes_what_the_user_gave(lab: Lab, finished: Path) -> None:
    given = finished / "checkpoints" / "step-00000000.msgpack"
    train = lab.train("--resume", str(given), *ONE, run="")

    def coordinator() -> int:
        try:
            return find_child(train, "coordinator")
        except (AssertionError, OSError):
            return 0

    signal_process(eventually(coordinator, "the coordinator is started"), signal.SIGKILL)
    assert train.wait() == 0, train.err
    assert "the coordinator was killed (SIGKILL); starting it again" in train.err
    assert f"resuming from {given} after step 0" in train.out
    assert len(RunDir(finished).metrics) == 5


@pytest.mark.soak
def test_a_worker_comes_back_although_the_logs_were_deleted(lab: Lab, reference: Reference) -> None:
    size = ("--steps", "40", "--batch-size", "2")
    lab.slow_down(0.02)  # so that it is not over before the worker comes back
    train = lab.train(*TINY, *size, "--data", str(lab.data), *ONE)
    run = lab.run_dir()
    run.reaches(3)
    shutil.rmtree(run.path / "logs")
    signal_process(find_child(train, "worker"), signal.SIGKILL)
    assert train.wait() == 0, train.err
    ends_alike(run, reference(40, 2))
    assert (run.path / "logs" / "worker-1.log").exists()


@pytest.mark.parametrize("program", [soak("train"), "coordinator"])
def test_a_name_that_is_too_long(lab: Lab, program: str) -> None:
    start = lab.train if program == "train" else lab.coordinator
    process = start("--data", str(lab.data), *TINY, run="runs/" + "x" * 300)
    assert complaint(process).endswith(": File name too long")
    assert not (lab.place / "runs").exists()


@pytest.mark.soak
def test_a_current_folder_whose_name_is_not_utf_8(tmp_path: Path, reference: Reference) -> None:
    """Nobody has typed that name: a run in it is like any other."""
    place = tmp_path / os.fsdecode(b"f\xfcr")
    place.mkdir()
    lab = Lab(place)
    lab.env["MICROGPT_CACHE_DIR"] = str(tmp_path / "cache")
    try:
        size = ("--steps", "3", "--batch-size", "2")
        train = lab.train(*TINY, *size, "--data", lab.data.name, *ONE)
        assert train.wait() == 0, train.err
        ends_alike(lab.run_dir(), reference(3, 2))
    finally:
        lab.close()
