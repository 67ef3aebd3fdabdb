"""Bad input: one clear line on stderr and a documented exit code, never a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from microgpt.checkpoint import format as checkpoint_format
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import NAMES, TINY, TINY_MODEL, TINY_VARIABLES, Lab, eventually
from tests.system.test_system_workers import ends_alike, find_child, signal_process

pytestmark = pytest.mark.timeout(300)


def complaint(err: str) -> str:
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        soak(["--workers", "0"], 2, "'--workers'"),
        soak(["--batch-size", "-3"], 2, "'--batch-size'"),
        soak(["--steps", "0"], 2, "'--steps'"),
        (["--steps", "many"], 2, "'many' is not a whole number"),
        (["--shard-size", "3"], 2, "'3' is not a power of two"),
        soak(["--engine", "steam"], 2, "'steam' is not one of"),
        soak(["--seed", "-1"], 2, "'--seed'"),
        (["--no-such-flag"], 2, "No such option"),
        soak(
            ["--n-embd", "10", "--n-head", "4"], 1, "n_embd (10) must be a multiple of n_head (4)"
        ),
        soak(["--beta1", "1"], 1, "beta1 must lie in [0, 1)"),
        soak(["--learning-rate", "-1"], 1, "learning_rate cannot be negative"),
        soak(["--eps", "0"], 1, "eps must be positive"),
        (["--data", "nowhere.txt"], 1, "there is no file 'nowhere.txt'"),
        soak(["--data", "."], 1, "is a directory"),
        soak(["--data", "/dev/stdin"], 1, "'/dev/stdin': it can be read only once"),
        soak(["--data", "/dev/fd/63"], 1, "'/dev/fd/63': it can be read only once"),
        soak(["--data", "/dev/zero"], 1, "'/dev/zero': it can be read only once"),
        soak(["--bind", "nonsense"], 1, "nonsense"),
        (["--bind", "tcp://no.such.host.invalid:80"], 1, "no.such.host.invalid"),
    ],
)
def test_flags(lab: Lab, given: list[str], code: int, message: str) -> None:
    more = [] if "--data" in given else ["--data", str(lab.data)]
    train = lab.train("--workers", "1", *TINY, *more, *given, run="")
    assert train.wait() == code, train.err
    assert message in complaint(train.err)
    assert not (lab.place / "runs").exists(), "a failed start leaves no run behind"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        soak(b"", "is empty"),
        soak(b"\n  \n\t\n", "has only blank lines"),
        ("anna\nj\u00f6rg\n".encode("latin-1"), "is not UTF-8 text"),
    ],
)
def test_data_that_cannot_be_used(lab: Lab, content: bytes, message: str) -> None:
    lab.data.write_bytes(content)
    coordinator = lab.coordinator("--data", str(lab.data), run="")
    assert coordinator.wait() == 1
    assert message in complaint(coordinator.err)


@pytest.mark.parametrize(
    ("content", "documents"),
    [
        soak("anna", ["anna"]),
        ("\n\n  anna \t\n\n\u00e9va\n   \n", ["anna", "\u00e9va"]),
        soak("annabella-maria-theresia\nbo\n", ["annabella-maria-theresia", "bo"]),
    ],
)
def test_odd_data_that_can_be_used(
    lab: Lab, reference: Reference, content: str, documents: list[str]
) -> None:
    lab.data.write_text(content, encoding="utf-8")
    more = ("--workers", "1", "--engine", "scalar", "--steps", "3", "--batch-size", "3")
    train = lab.train(*TINY, *more, "--data", str(lab.data))
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), reference(3, 3, tuple(documents)))
    positions = sum(min(TINY_MODEL["block_size"], len(document) + 1) for document in documents)
    if len(documents) == 1:
        assert [r["tokens"] for r in lab.run_dir().metrics] == [3 * positions] * 3


def test_a_port_in_use(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        flags = (*TINY, "--bind", bind, "--data", str(lab.data))
        coordinator = lab.coordinator(*flags, run="")
        train = lab.train(*flags, "--workers", "1", "--engine", "scalar", run="")
        for process in (coordinator, train):
            assert process.wait() == 1
            assert complaint(process.err) == (
                f"error: --bind {bind} is in use already; choose another address"
            )
    assert not (lab.place / "runs").exists()


def test_a_second_coordinator_in_the_same_run_directory(lab: Lab) -> None:
    first = lab.coordinator(*TINY, "--data", str(lab.data))
    run = lab.run_dir()
    address = run.endpoint()
    eventually(run.newest.exists, "the first checkpoint")
    second = lab.coordinator("--resume", "runs/it", "--data", str(lab.data), run="")
    assert second.wait() == 1
    assert "another coordinator is writing to" in complaint(second.err)
    assert run.endpoint() == address
    assert first.popen.poll() is None


@pytest.mark.parametrize("program", [soak("train"), "coordinator"])
def test_an_unwritable_run_directory(lab: Lab, program: str) -> None:
    (lab.place / "file").write_text("")  # below a file even root can make no directory
    start = lab.train if program == "train" else lab.coordinator
    process = start(*TINY, "--data", str(lab.data), run="file/run")
    assert process.wait() == 1
    assert "cannot write to file/run: Not a directory" in complaint(process.err)


@pytest.fixture
def small_disk(lab: Lab) -> Iterator[Path]:
    """A file system of 256 KiB at ``runs``."""
    target = lab.place / "runs"
    target.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(target)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if made.returncode:
        pytest.skip(f"no right to mount a small disk: {made.stderr.decode().strip()}")
    try:
        yield target
    finally:
        lab.close()
        subprocess.run(["umount", "-l", str(target)], check=True)  # noqa: S607


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 1024)
        except OSError:
            return filler


def test_training_goes_on_while_the_disk_is_full(
    lab: Lab, small_disk: Path, reference: Reference
) -> None:
    size = ("--steps", "60", "--batch-size", "2", "--checkpoint-every", "10")
    coordinator = lab.coordinator(*TINY, *size, "--data", str(lab.data))
    run = lab.run_dir()
    address = run.endpoint()
    eventually(run.newest.exists, "the first checkpoint")
    filler = fill(small_disk)
    lab.slow_down(0.02)
    lab.worker(address)
    coordinator.says("step   25 /")
    filler.unlink()
    assert coordinator.wait() == 0, coordinator.err
    assert "warning: checkpoint of step 10 not saved" in coordinator.err
    assert "No space left on device" in coordinator.err
    assert "Traceback" not in coordinator.out + coordinator.err
    assert len(coordinator.err.splitlines()) < 10, "one warning is enough, not one per step"
    ends_alike(run, reference(60, 2))
    assert checkpoint_format.load(run.path / "checkpoints/step-00000060.msgpack").step == 60


def test_a_disk_that_stays_full_is_a_clear_error_at_the_end(lab: Lab, small_disk: Path) -> None:
    size = ("--steps", "5", "--batch-size", "2")
    coordinator = lab.coordinator(*TINY, *size, "--data", str(lab.data))
    run = lab.run_dir()
    address = run.endpoint()
    eventually(run.newest.exists, "the first checkpoint")
    fill(small_disk)
    worker = lab.worker(address)
    assert coordinator.wait() == 1
    assert worker.wait() == 0
    last = coordinator.err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "No space left on device" in last
    assert "Traceback" not in coordinator.out + coordinator.err
    assert checkpoint_format.load(run.newest).step == 0, "the checkpoint before is whole"


def test_a_disk_that_is_full_from_the_beginning(lab: Lab, small_disk: Path) -> None:
    fill(small_disk)
    coordinator = lab.coordinator(*TINY, "--data", str(lab.data))
    assert coordinator.wait() == 1
    assert "cannot write to runs/it: No space left on device" in complaint(coordinator.err)


@pytest.mark.soak
def test_a_coordinator_comes_back_while_the_disk_is_full(
    lab: Lab, small_disk: Path, reference: Reference
) -> None:
    size = ("--steps", "40", "--batch-size", "2", "--checkpoint-every", "5")
    flags = (*size, "--data", str(lab.data), "--workers", "1", "--engine", "scalar")
    lab.slow_down(0.02)
    train = lab.train(*TINY, *flags)
    run = lab.run_dir()
    run.reaches(6)
    eventually(run.newest.exists, "the first checkpoint")
    worker = find_child(train, "worker")
    signal_process(worker, signal.SIGSTOP)  # nothing happens meanwhile
    filler = fill(small_disk)
    signal_process(find_child(train, "coordinator"), signal.SIGKILL)
    train.says("resuming from")
    train.says("config.json cannot be written: No space left on device")
    filler.unlink()
    signal_process(worker, signal.SIGCONT)
    assert train.wait() == 0, train.err
    ends_alike(run, reference(40, 2))
    assert [path for path in run.path.rglob(".*") if path.is_file()] == []


def test_a_reader_that_closes_the_pipe_stops_nothing(lab: Lab, reference: Reference) -> None:
    flags = (*TINY, "--steps", "3", "--batch-size", "3", "--data", str(lab.data))
    reading, writing = os.pipe()
    os.close(reading)
    lab.pipe = writing
    train = lab.train(*flags, "--workers", "1", "--engine", "scalar")
    lab.pipe = None
    os.close(writing)
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), reference(3, 3))
    assert train.err == ""


def test_settings_may_come_from_the_environment(lab: Lab, reference: Reference) -> None:
    train = lab.train(
        "--batch-size", "3", run="",
        MICROGPT_STEPS="3", MICROGPT_BATCH_SIZE="7", MICROGPT_DATA=str(lab.data),
        MICROGPT_WORKERS="1", **TINY_VARIABLES,
        MICROGPT_ENGINE="scalar", MICROGPT_RUN_DIR="runs/env", MICROGPT_QUIET="1",
        MICROGPT_CHECKPOINT_EVERY="2", MICROGPT_BIND=f"ipc://{lab.place}/socket",
    )  # fmt: skip
    assert train.wait() == 0, train.err
    run = lab.run_dir("runs/env")
    ends_alike(run, reference(3, 3))  # the flag counts for more than the variable
    assert "step " not in train.out
    settings = json.loads((run.path / "config.json").read_text())["settings"]
    assert (settings["checkpoint_every"], settings["quiet"]) == (2, True)
    assert settings["bind"] == f"ipc://{lab.place}/socket"
    bad = lab.train(run="", MICROGPT_BATCH_SIZE="none")
    assert bad.wait() == 2
    assert "none" in complaint(bad.err)


FLAGS = [
    "--workers", "--steps", "--batch-size", "--shard-size", "--engine", "--data", "--seed",
    "--n-layer", "--n-embd", "--n-head", "--block-size", "--learning-rate", "--beta1", "--beta2",
    "--eps", "--run-dir", "--checkpoint-every", "--keep-last", "--keep-every", "--keep-best",
    "--resume", "--bind", "--quiet",
]  # fmt: skip


def test_help_names_every_flag_and_its_variable(lab: Lab) -> None:
    helps = {
        "train": lab.train("--help", run=""),
        "coordinator": lab.coordinator("--help", run="", COLUMNS="200"),
        "worker": lab.worker("", "--help", COLUMNS="200"),
    }
    for process in helps.values():
        assert process.wait() == 0
    for flag in FLAGS:
        variable = "MICROGPT_" + flag[2:].replace("-", "_").upper()
        for program, process in helps.items():
            own = {"coordinator": {"--workers", "--engine"}}.get(program, set())
            if program == "worker":
                own = set(FLAGS) - {"--engine", "--quiet"}
            assert (flag in process.out and variable in process.out) or flag in own, flag
    assert "--parent" not in helps["train"].out + helps["coordinator"].out


def test_the_data_have_names_of_more_than_one_length() -> None:
    assert len({len(name) for name in NAMES}) > 2
