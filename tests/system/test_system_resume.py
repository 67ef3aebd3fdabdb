"""A run that is cut off and resumed ends with the bits of one that never was."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from dataclasses import replace
from pathlib import Path

import msgpack
import pytest

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import seal
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import NAMES, TINY, Lab, RunDir, eventually
from tests.system.test_system_workers import ends_alike, find_child, signal_process

pytestmark = pytest.mark.timeout(300)
STEPS = 40
SMALL = 4
SLOW = 0.02  # seconds for each document, so that there is time for an accident


def flags(lab: Lab, *more: str) -> list[str]:
    size = ("--steps", str(STEPS), "--batch-size", str(SMALL), "--checkpoint-every", "5")
    return [*TINY, *size, "--data", str(lab.data), *more]


def on_disk(run: RunDir) -> int:
    """The step of the newest checkpoint."""
    try:
        return checkpoint_format.load(run.newest).step
    except checkpoint_format.CheckpointError:
        return -1


def test_a_killed_coordinator_is_started_again_by_train_py(lab: Lab, reference: Reference) -> None:
    lab.slow_down(SLOW)
    train = lab.train(*flags(lab, "--workers", "2", "--engine", "scalar"))
    run = lab.run_dir()
    run.happens("joined", 2)
    eventually(lambda: on_disk(run) >= 5, "a checkpoint of step 5")
    signal_process(find_child(train, "coordinator"), signal.SIGKILL)
    train.says("the coordinator was killed (SIGKILL); starting it again")
    assert train.wait() == 0, train.err
    ends_alike(run, reference(STEPS, SMALL))
    assert "resuming from" in train.out
    assert run.kinds().count("joined") == 4, "both workers have come back by themselves"
    assert "Traceback" not in train.out + train.err


@pytest.mark.soak
def test_no_step_of_a_checkpoint_is_missing_in_the_record(cut_off: RunDir) -> None:
    steps = [record["step"] for record in cut_off.metrics]
    assert steps == [*range(1, len(steps) + 1)]
    assert len(steps) >= on_disk(cut_off) >= 10


@pytest.mark.soak
def test_it_comes_back_at_the_port_that_it_had_chosen(lab: Lab, reference: Reference) -> None:
    bind = ("--bind", "tcp://127.0.0.1:*")
    lab.slow_down(SLOW)
    train = lab.train(*flags(lab, "--workers", "1", "--engine", "scalar", *bind))
    run = lab.run_dir()
    before = run.endpoint()
    eventually(lambda: on_disk(run) >= 5, "a checkpoint of step 5")
    signal_process(find_child(train, "coordinator"), signal.SIGKILL)
    assert train.wait() == 0, train.err
    assert run.endpoint() == before
    ends_alike(run, reference(STEPS, SMALL))


@pytest.fixture
def cut_off(lab: Lab) -> RunDir:
    """A run whose coordinator was killed after a checkpoint, with its worker still there."""
    coordinator = lab.coordinator(*flags(lab))
    run = lab.run_dir()
    lab.slow_down(SLOW)
    worker = lab.worker(run.endpoint(), "--name", "faithful")
    eventually(lambda: on_disk(run) >= 10, "a checkpoint of step 10")
    coordinator.send(signal.SIGKILL)
    coordinator.wait()
    worker.send(signal.SIGKILL)
    worker.wait()
    lab.slow_down(0.0)
    (run.path / "endpoint").unlink()
    return run


def go_on(lab: Lab, run: RunDir, *resume: str) -> str:
    """Resume with a new coordinator and worker; returns what the coordinator says."""
    coordinator = lab.coordinator("--resume", *resume, run="")
    lab.worker(run.endpoint())
    assert coordinator.wait() == 0, coordinator.err
    assert coordinator.err == ""
    return coordinator.out


@pytest.mark.parametrize(
    "where",
    [
        "",
        soak("checkpoints/step-00000005.msgpack"),
        soak("checkpoint.msgpack"),
    ],
)
def test_resumed_by_hand(lab: Lab, cut_off: RunDir, reference: Reference, where: str) -> None:
    # Also a half line, as a killed process may leave one.
    with open(cut_off.path / "metrics.jsonl", "a") as file:
        file.write('{"step": 9')
    steps = 5 if "00005" in where else on_disk(cut_off)
    out = go_on(lab, cut_off, str(cut_off.path / where))
    assert re.search(rf"resuming from .*msgpack after step {steps}\n", out)
    ends_alike(cut_off, reference(STEPS, SMALL))


@pytest.mark.soak
def test_resumed_from_a_directory_whose_newest_file_is_damaged(
    lab: Lab, cut_off: RunDir, reference: Reference
) -> None:
    damaged = bytearray(cut_off.newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    cut_off.newest.write_bytes(damaged)
    coordinator = lab.coordinator("--resume", str(cut_off.path), run="")
    lab.worker(cut_off.endpoint())
    assert coordinator.wait() == 0, coordinator.err
    first, second = coordinator.err.splitlines()  # it is the newest step's file, under two names
    assert re.fullmatch(r"warning: passed over: .*/checkpoint.msgpack is damaged: .*", first)
    assert re.fullmatch(r"warning: passed over: .*/step-0\d+.msgpack is damaged: .*", second)
    ends_alike(cut_off, reference(STEPS, SMALL))


@pytest.mark.soak
def test_temporary_files_of_the_killed_writer_are_removed(lab: Lab, cut_off: RunDir) -> None:
    leftover = cut_off.path / "checkpoints" / ".step-00000010.msgpack.abcdef"
    leftover.write_bytes(b"half")
    go_on(lab, cut_off, str(cut_off.path))
    assert not leftover.exists()
    assert [path for path in cut_off.path.rglob(".*") if path.is_file()] == []


def test_a_complete_run_says_so_and_can_be_extended(lab: Lab, reference: Reference) -> None:
    train = lab.train(*flags(lab, "--steps", "6", "--workers", "1", "--engine", "scalar"))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    before = run.newest.read_bytes()
    again = lab.train("--resume", "runs/it", "--workers", "1", "--engine", "scalar", run="")
    assert again.wait() == 0, again.err
    assert "the run was complete already" in again.out
    assert run.newest.read_bytes() == before
    assert len(run.metrics) == 6

    more = ("--steps", "8", "--workers", "1", "--engine", "scalar")
    longer = lab.train("--resume", "runs/it", *more, run="")
    assert longer.wait() == 0, longer.err
    saved = checkpoint_format.load(run.newest)
    assert (saved.step, saved.training.steps) == (8, 8)
    # The first six steps are those of a run of 6 steps; the rate of the others is that of 8.
    assert saved.losses[:6] == reference(6, SMALL).losses
    assert [r["lr"] for r in run.metrics[5:]] == [0.01 * (1 - s / n) for s, n in
                                                  [(5, 6), (6, 8), (7, 8)]]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--batch-size", "16"], 1, "--batch-size 16 contradicts the checkpoint"),
        soak(["--seed", "1"], 1, "--seed 1 contradicts the checkpoint"),
        soak(["--n-layer", "2"], 1, "--n-layer 2 contradicts the checkpoint"),
        soak(["--beta1", "0.5"], 1, "--beta1 0.5 contradicts the checkpoint"),
        soak(["--n-embd", "6"], 1, "--n-embd 6 contradicts the checkpoint"),
        (["--data", "other.txt"], 1, "the data differ"),
        (["--steps", "3"], 1, "--steps 3 lies before step 5"),
    ],
)
def test_what_contradicts_the_checkpoint_is_refused(
    lab: Lab, finished: Path, given: list[str], code: int, message: str
) -> None:
    (lab.place / "other.txt").write_text("zoe\n" + "\n".join(NAMES) + "\n")
    before = {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()}
    coordinator = lab.coordinator("--resume", str(finished), *given, run="")
    assert coordinator.wait() == code
    (line,) = coordinator.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert {p: p.read_bytes() for p in finished.rglob("*") if p.is_file()} == before


@pytest.mark.soak
def test_flags_that_agree_with_the_checkpoint_are_welcome(lab: Lab, finished: Path) -> None:
    given = ("--n-embd", "4", "--n-head", "2", "--batch-size", "4", "--data", str(lab.data))
    coordinator = lab.coordinator("--resume", str(finished), *given, run="")
    assert coordinator.wait() == 0, coordinator.err
    # One flag alone, whose value would not go together with another's default.
    again = lab.coordinator("--resume", str(finished), "--n-head", "2", run="")
    assert again.wait() == 0, again.err


@pytest.fixture
def finished(lab: Lab, saved_run: Path) -> Path:
    """A copy of a complete run of 5 steps."""
    target = lab.place / "runs" / "finished"
    shutil.copytree(saved_run, target)
    # The data lie where this lab has them; the settings say so too.
    newest = checkpoint_format.load(target / "checkpoint.msgpack")
    data = {**newest.data, "name": str(lab.data)}
    checkpoint_format.save(target / "checkpoint.msgpack", replace(newest, data=data))
    return target


@pytest.mark.parametrize(
    ("resume", "message"),
    [
        ("nothing-there", "there is no such file or directory"),
        soak("empty-folder", "there is no checkpoint in"),
        soak("names.txt", "not a checkpoint"),
    ],
)
def test_nothing_to_resume_from(lab: Lab, resume: str, message: str) -> None:
    (lab.place / "empty-folder").mkdir()
    train = lab.train("--resume", resume, "--workers", "1", "--engine", "scalar", run="")
    assert train.wait() == 1
    (line,) = train.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (lab.place / "runs").exists(), "a failed start leaves no run behind"


@pytest.mark.parametrize("kind", ["url", soak("pipe"), soak("device")])
def test_no_server_is_asked_and_no_pipe_opened_because_a_checkpoint_says_so(
    lab: Lab, finished: Path, kind: str
) -> None:
    newest = finished / "checkpoint.msgpack"
    os.mkfifo(lab.place / "pipe")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/names.txt"
        name = {"url": url, "pipe": str(lab.place / "pipe"), "device": "/dev/zero"}[kind]
        rename_data(newest, name)
        for resume in (finished, newest):
            coordinator = lab.coordinator("--resume", str(resume), run="")
            assert coordinator.wait() == 1
            (line,) = coordinator.err.splitlines()
            assert line.startswith("error: the checkpoint says that its data")
            assert name in line
            assert "--data" in line
        sample = lab.script("sample", str(newest), "--not-in-training-data")
        assert sample.wait() == 1
        assert sample.err.startswith("error: the checkpoint says that its data")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    told = lab.coordinator("--resume", str(finished), "--data", str(lab.data), run="")
    assert told.wait() == 0, told.err


def rename_data(path: Path, name: str) -> None:
    saved = checkpoint_format.load(path)
    checkpoint_format.save(path, replace(saved, data={**saved.data, "name": name}))


@pytest.mark.soak
@pytest.mark.parametrize("field", ["batch_size", *map(soak, ("steps", "n_embd", "block_size"))])
def test_a_checkpoint_with_an_absurd_size_is_one_line(lab: Lab, finished: Path, field: str) -> None:
    newest = finished / "checkpoint.msgpack"
    body = msgpack.unpackb(msgpack.unpackb(newest.read_bytes())["body"])
    training = body["training"]
    place = training if field in training else training["model"]
    place[field] = 2**62
    newest.write_bytes(seal(msgpack.packb(body)))
    for program in ("coordinator", "train", "sample"):  # in turn: a run directory has one owner
        if program == "sample":
            started = lab.script("sample", str(newest))
        else:
            start = lab.train if program == "train" else lab.coordinator
            started = start("--resume", str(newest), run="")
        assert started.wait() == 1
        (line,) = started.err.splitlines()
        assert line.startswith(f"error: {newest} does not hold a complete checkpoint: ")


def test_a_new_run_does_not_begin_in_the_directory_of_another(lab: Lab, finished: Path) -> None:
    coordinator = lab.coordinator("--data", str(lab.data), *TINY, run=str(finished))
    assert coordinator.wait() == 1
    assert f"--resume {finished} goes on with it" in coordinator.err
    assert json.loads((finished / "config.json").read_text())["training"]["steps"] == 5


def test_a_run_that_began_without_a_network_stays_with_the_embedded_names(lab: Lab) -> None:
    """Also where ``--data names`` is given again, as the supervisor does it."""
    asked = [*TINY, "--data", "names", "--batch-size", "2"]
    nowhere = {"MICROGPT_NAMES_URL": "http://127.0.0.1:1/names.txt"}
    first = lab.coordinator(*asked, "--steps", "2", **nowhere)
    run = lab.run_dir()
    lab.worker(run.endpoint())
    assert first.wait() == 0, first.err
    assert "Downloading" in first.out + first.err
    again = lab.coordinator(*asked, "--resume", str(run.path), run="", **nowhere)
    assert again.wait() == 0, again.err
    assert "Downloading" not in again.out + again.err
    assert "the run was complete already" in again.out
