"""A worker under Slurm whose coordinator is gone, with stand-ins for Slurm's commands."""

from __future__ import annotations

import os
import stat

import pytest

from microgpt.support.isolation import isolated
from tests.processes import Lab, Process

COMMANDS = {
    "squeue": 'case "$*" in *%B*) echo n1;; *) cat state;; esac',
    "sinfo": "head -1 nodes; sed -i 1d nodes",
    "scontrol": 'echo "$*" >> asked; test ! -e no || ! echo "scontrol: error: no" >&2',
}


def alone(lab: Lab, state: str, *nodes: str) -> Process:
    """A worker that finds nobody; what Slurm tells of the job, and each time of its first node."""
    for name, text in COMMANDS.items():
        file = lab.place / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    (lab.place / "state").write_text(f"{state}\n")
    (lab.place / "nodes").write_text("".join(f"{node}\n" for node in nodes))
    flags = ("--connect", f"ipc://{lab.place}/nobody", "--name", "anna", "--patience", "0.3")
    command = isolated("lab.launch.launchers.slurm_worker", *flags, "--engine", "scalar")
    path = f"{lab.place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return lab.start(*command, name="worker", PATH=path, SLURM_JOB_ID="17")


def asked(lab: Lab) -> str:
    file = lab.place / "asked"
    return file.read_text() if file.exists() else ""


@pytest.mark.parametrize("dead", ["down*", "down", "failing"])
def test_a_job_whose_first_node_is_dead_is_queued_again(lab: Lab, dead: str) -> None:
    worker = alone(lab, "RUNNING", dead)
    assert worker.wait() == 0, worker.err
    assert asked(lab) == "requeue 17\n"
    assert worker.out.splitlines()[-2:] == [
        "anna ends: no coordinator for 0.3 s",
        "the first node of job 17 is dead: the job is queued again",
    ]


def test_as_long_as_the_node_is_not_known_to_be_dead_the_worker_goes_on(lab: Lab) -> None:
    worker = alone(lab, "RUNNING", "mixed", "allocated*", "down*")
    assert worker.wait() == 0, worker.err
    assert worker.out.count("anna offers itself to ") == 3
    assert asked(lab) == "requeue 17\n"


@pytest.mark.parametrize("state", ["COMPLETING", "PENDING", "CANCELLED", ""])
def test_a_job_that_does_not_run_is_left_alone(lab: Lab, state: str) -> None:
    worker = alone(lab, state, "down*")
    assert worker.wait() == 0, worker.err
    assert asked(lab) == ""
    assert worker.out.count("anna offers itself to ") == 1


def test_slurm_that_refuses_is_one_line(lab: Lab) -> None:
    (lab.place / "no").touch()
    worker = alone(lab, "RUNNING", "down*")
    assert worker.wait() == 1
    assert worker.err == "error: scontrol: no\n"


def test_a_worker_elsewhere_ends_as_usual(lab: Lab) -> None:
    flags = ("--connect", f"ipc://{lab.place}/nobody", "--patience", "0.3", "--engine", "scalar")
    worker = lab.start(*isolated("worker", *flags), name="worker")
    assert worker.wait() == 0, worker.err
