"""Ctrl-C, SIGTERM, a closed terminal, at any moment: all gone within 2 s, saved, no traceback."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from microgpt.checkpoint import format as checkpoint_format
from tests.marks import soak
from tests.processes import ENDLESS, ROOT, TINY, Lab, Process, crowded, eventually, session_members
from tests.system.test_system_workers import find_child, signal_process

pytestmark = pytest.mark.timeout(300)
LIMIT = 2.0  # seconds
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


BUSY = ("--steps", "1000000")  # with workers that leave nobody any time


def endless(lab: Lab, *more: str) -> list[str]:
    """The flags of a run without an end, of slow workers unless it is a busy one."""
    if BUSY[1] not in more:
        lab.slow_down(0.02)
    size = (*ENDLESS, "--batch-size", "4")
    return [*TINY, *size, "--data", str(lab.data), "--engine", "scalar", *more]


def has_begun(process: Process) -> None:
    """Wait until the program itself runs: Python's own start is not ours to answer for."""

    def catches_sigterm() -> bool:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)

    eventually(catches_sigterm, f"{process.name} begins")


def leaves(process: Process, since: float, code: int) -> None:
    """The process and all that it has started are gone in time, and without a traceback."""
    assert process.wait() == code, process.err
    eventually(lambda: not session_members(process.pid), "the children end")
    assert time.monotonic() - since < LIMIT * crowded()
    shown = process.out + process.err
    shown += "".join(log.read_text() for log in process.place.rglob("logs/*.log"))
    assert "Traceback" not in shown, shown
    assert "Error" not in shown, shown
    assert "Exception" not in shown, shown


@pytest.mark.parametrize(
    ("number", "to", "pace"),
    [
        (signal.SIGINT, "all", BUSY),
        soak(signal.SIGTERM, "coordinator", ENDLESS),
        soak(signal.SIGHUP, "all", ENDLESS),
        soak(signal.SIGTERM, "train", ENDLESS),
        soak(signal.SIGTERM, "all", BUSY),
        *(
            soak(number, to, BUSY)
            for number in (signal.SIGINT, signal.SIGHUP)
            for to in ("train", "coordinator")
        ),
    ],
)
def test_a_training_stops_and_saves(
    lab: Lab, number: signal.Signals, to: str, pace: tuple[str, str]
) -> None:
    train = lab.train(*endless(lab, "--workers", "2", *pace))
    run = lab.run_dir()
    run.happens("joined", 2)
    run.reaches(5)
    since = time.monotonic()
    if to == "all":
        train.send_group(number)
    elif to == "train":
        train.send(number)
    else:
        signal_process(find_child(train, "coordinator"), number)
    leaves(train, since, CODES[number])
    saved = checkpoint_format.load(run.newest)
    assert saved.step == len(run.metrics) >= 5
    assert f"stopped after step {saved.step}; to go on: python scripts/train.py" in train.out
    assert "warning" not in train.err


@pytest.mark.soak
def test_many_workers_cost_no_steps(lab: Lab) -> None:
    """However busy the machine is with them, the coordinator is waited for."""
    train = lab.train(*endless(lab, "--workers", "10", "--checkpoint-every", "1000000", *BUSY))
    run = lab.run_dir()
    run.happens("joined", 10)
    run.reaches(len(run.metrics) + 5)
    train.send_group(signal.SIGINT)
    train.send_group(signal.SIGINT)
    assert train.wait() == 130
    saved = checkpoint_format.load(run.newest)
    assert saved.step == len(run.metrics) >= 5
    assert f"stopped after step {saved.step}; to go on: python scripts/train.py" in train.out
    assert not session_members(train.pid)


@pytest.mark.soak
def test_a_coordinator_that_gets_no_processor_time_is_waited_for(lab: Lab) -> None:
    train = lab.train(*endless(lab, "--workers", "2", "--checkpoint-every", "1000000"))
    run = lab.run_dir()
    run.reaches(5)
    coordinator = find_child(train, "coordinator")
    signal_process(coordinator, signal.SIGSTOP)
    train.send(signal.SIGINT)
    time.sleep(2.5)  # as long as it gets none: no synchronisation
    assert set(session_members(train.pid)) == {train.pid, coordinator}, "the workers have left"
    signal_process(coordinator, signal.SIGCONT)
    assert train.wait() == 130
    saved = checkpoint_format.load(run.newest)
    assert saved.step == len(run.metrics) >= 5
    assert f"stopped after step {saved.step}; to go on: python scripts/train.py" in train.out


@pytest.mark.soak
def test_nohup_outlives_the_terminal(lab: Lab) -> None:
    command = [sys.executable, str(ROOT / "scripts/train.py"), *endless(lab, "--workers", "1")]
    train = lab.start("nohup", *command, "--run-dir", "runs/it")
    run = lab.run_dir()
    run.reaches(5)
    train.send_group(signal.SIGHUP)
    run.reaches(len(run.metrics) + 20)
    assert run.kinds().count("lost") == run.kinds().count("left") == 0
    since = time.monotonic()
    train.send_group(signal.SIGTERM)
    leaves(train, since, 143)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(8))
def test_ctrl_c_at_a_random_moment(lab: Lab, seed: int) -> None:
    moment = random.Random(seed)
    train = lab.train(*endless(lab, "--workers", "2", *BUSY))
    has_begun(train)
    time.sleep(moment.uniform(0.0, 2.5))  # the moment, no synchronisation
    since = time.monotonic()
    # As a terminal does, and impatient users: to everybody, and again.
    for _ in range(moment.choice([1, 1, 2, 5])):
        train.send_group(signal.SIGINT)
        time.sleep(moment.uniform(0.0, 0.1))
    leaves(train, since, 130)
    run = lab.run_dir()
    if run.metrics:
        assert checkpoint_format.load(run.newest).step == len(run.metrics)


@pytest.mark.parametrize("delay", [0.0, *map(soak, (0.1, 0.3, 0.6))])
@pytest.mark.parametrize("program", ["coordinator", "worker"])
def test_ctrl_c_while_a_process_starts(lab: Lab, program: str, delay: float) -> None:
    if program == "worker":
        process = lab.worker(f"ipc://{lab.place}/nobody")
    else:
        process = lab.coordinator(*[flag for flag in endless(lab) if flag not in SCALAR])
    has_begun(process)
    time.sleep(delay)
    since = time.monotonic()
    process.send(signal.SIGINT)
    leaves(process, since, 130)


SCALAR = ("--engine", "scalar")


def test_ctrl_c_ends_a_worker_in_the_middle_of_a_long_shard(lab: Lab) -> None:
    width = ("--n-embd", "64", "--n-head", "4", "--block-size", "8", "--n-layer", "4")
    size = ("--batch-size", "32", "--shard-size", "32")
    coordinator = lab.coordinator(*width, *size, "--data", str(lab.data))
    run = lab.run_dir()
    worker = lab.worker(run.endpoint())
    run.happens("joined")
    for process in (worker, coordinator):
        since = time.monotonic()
        process.send(signal.SIGINT)
        leaves(process, since, 130)


def test_a_killed_train_py_leaves_no_orphans(lab: Lab) -> None:
    train = lab.train(*endless(lab, "--workers", "2"))
    run = lab.run_dir()
    run.happens("joined", 2)
    run.reaches(3)
    train.send(signal.SIGKILL)
    eventually(lambda: not session_members(train.pid), "coordinator and workers leave, too", 5.0)
    assert checkpoint_format.load(run.newest).step == len(run.metrics)


@pytest.mark.soak
def test_no_private_directory_is_left_behind(lab: Lab) -> None:
    temporary = lab.place / "tmp"
    temporary.mkdir()
    train = lab.train(*endless(lab, "--workers", "1"), TMPDIR=str(temporary))
    lab.run_dir().happens("joined")
    train.send_group(signal.SIGINT)
    assert train.wait() == 130
    assert os.listdir(temporary) == []
