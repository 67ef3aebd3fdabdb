"""``train --tensorboard`` and ``--trackio``: beside a run, of which nothing depends on them."""

from __future__ import annotations

import os
import re
import signal

import pytest

from microgpt.checkpoint.format import load
from tests.conftest import Reference
from tests.lab.export.event_files import EventFile
from tests.lab.export.test_exporting import calls, with_recorder
from tests.processes import TINY, Lab, Process, eventually, session_members

STEPS = 8
WAITING = "waiting for the export to end\n"  # on a busy machine
FLAGS = ("--workers", "1", "--engine", "scalar", "--quiet", *TINY)


def train(lab: Lab, *flags: str, steps: int = STEPS) -> Process:
    return lab.train(*FLAGS, "--steps", str(steps), "--data", str(lab.data), *flags)


def exporter(run: Process) -> int:
    """The number of the process that exports."""

    def found() -> int:
        for pid in session_members(run.pid):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"lab.export" in file.read().split(b"\0"):
                    return pid
        return 0

    return eventually(found, "there is a process that exports")


def test_all_of_it_is_exported_when_the_run_is_over(lab: Lab, reference: Reference) -> None:
    with_recorder(lab)
    run = train(lab, "--tensorboard", "--trackio", "names")
    assert run.wait() == 0
    assert run.err in ("", WAITING)
    where = lab.run_dir().path
    assert [step for step, _ in EventFile(where / "tensorboard").scalars["loss"]] == [
        *range(1, STEPS + 1)
    ]
    assert [step for kind, step, values in calls(lab)[1:-1] if "loss" in values] == [
        *range(1, STEPS + 1)
    ]
    assert "round_closed" in lab.run_dir().kinds()
    assert load(lab.run_dir().newest).state_sha256 == reference(STEPS).state_sha256
    assert session_members(run.pid) == []


@pytest.mark.soak
def test_one_that_dies_is_told_of_and_the_run_goes_on(lab: Lab, reference: Reference) -> None:
    lab.slow_down(0.002)
    with_recorder(lab)
    run = train(lab, "--trackio", steps=30)
    os.kill(exporter(run), signal.SIGKILL)
    assert run.wait() == 0
    assert run.err == "warning: the export has ended: exit code -9; the run goes on\n"
    assert load(lab.run_dir().newest).state_sha256 == reference(30).state_sha256


@pytest.mark.soak
def test_a_library_that_fails_is_told_of_and_the_run_goes_on(lab: Lab) -> None:
    lab.slow_down(0.002)
    with_recorder(lab)
    run = train(lab, "--trackio", steps=30)
    lab_calls = lab.place / "calls"
    eventually(lab_calls.exists, "it has begun")
    lab_calls.unlink()
    lab_calls.mkdir()  # what is not a file cannot be written to
    assert run.wait() == 0
    told = run.err.removeprefix(WAITING)
    expected = (
        r"warning: the export has (ended|failed): trackio has failed: .* Is a directory: .*\n"
    )
    assert re.fullmatch(expected, told)


def test_a_library_that_is_not_there_is_one_line_before_anything_begins(lab: Lab) -> None:
    run = train(lab, "--wandb")
    assert run.wait() == 1
    assert run.err == "error: --wandb needs wandb: pip install wandb\n"
    assert not lab.run_dir().path.exists()


@pytest.mark.soak
def test_a_run_that_cannot_begin_is_one_line_all_the_same(lab: Lab) -> None:
    run = lab.train(*FLAGS, "--data", "none", "--tensorboard")
    assert run.wait() == 1
    assert run.err.startswith("error: there is no file 'none': ")
    assert run.err.removesuffix(WAITING).count("\n") == 1
    assert not lab.run_dir().path.exists()
