"""The batch script of a run under Slurm, which is a file here, and what it does, without Slurm."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from lab.launch.launchers.base import BatchRequest
from lab.launch.launchers.slurm import make
from lab.launch.launchers.slurm_script import script
from microgpt.support.cli import UserError
from tests.processes import ROOT, eventually

BASH = "/bin/bash"  # as the script begins
GOLDEN = ROOT / "tests" / "data" / "slurm-job.sh"
REQUEST = BatchRequest(
    run=Path("/home/anna/my runs/one"),
    folder=Path("/home/anna"),
    workers=4,
    cpus=2,
    train=("python", "-P", "-m", "lab.command_line", "train", "--steps", "50", "--quiet", "--data",
           "my names.txt", "--launcher", "slurm", "--workers", "4", "--run-dir", "my runs/one"),
    resume="other/checkpoint.msgpack",
)  # fmt: skip
OPTIONS = {"partition": "long", "time": "1:00:00", "comment": "it's mine", "grace": "120"}
SAVES = """\
trap 'echo saved; exit 143' TERM
echo "begins with $*"
: > begun
while :; do read -rt 0.05 <> pipe; done
"""


def test_the_script_is_as_it_was() -> None:
    assert script(REQUEST, OPTIONS) == GOLDEN.read_text()
    subprocess.run([BASH, "-n", str(GOLDEN)], check=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ntasks": "3"}, "the launcher says that itself"),
        ({"signal": "USR1"}, "the launcher says that itself"),
        ({"--partition": "x"}, "write the long name of a flag of sbatch"),
        ({"p\n#SBATCH": "x"}, "write the long name of a flag of sbatch"),
        ({"comment": "x\n#SBATCH --uid=0"}, "has letters that cannot be seen"),
        ({"grace": "0"}, "write seconds, from 1 to 65535"),
        ({"grace": "soon"}, "write seconds, from 1 to 65535"),
    ],
)
def test_what_is_no_option(
    options: dict[str, str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(UserError, match=says):
        make(options)


class Job:
    """The script at work, beside a ``scontrol`` that notes what it is asked for."""

    def __init__(self, place: Path, train: str, job_state: str, restarts: int) -> None:
        self.place = place
        (place / "train").write_text(train)
        os.mkfifo(place / "pipe")
        (place / "scontrol").write_text(
            f'#!/bin/sh\necho "$@" >> asked\necho JobState={job_state}\n'
        )
        (place / "scontrol").chmod(0o755)
        request = replace(REQUEST, train=("bash", "train", "--launcher", "slurm"))
        (place / "job.sh").write_text(script(request, {}))
        self._popen = subprocess.Popen(
            [BASH, "job.sh"],
            cwd=place,
            env={
                **os.environ,
                "PATH": f"{place}:{os.environ['PATH']}",
                "SLURM_JOB_ID": "17",
                "SLURM_RESTART_COUNT": str(restarts),
            },
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def warn(self) -> None:
        """What Slurm does before the time limit: the script alone is signalled."""
        eventually((self.place / "begun").exists, "it trains")
        self._popen.send_signal(signal.SIGTERM)

    def end(self) -> tuple[int, list[str], list[str]]:
        """Its exit code, what it has said, and what it has asked Slurm for."""
        try:
            out, _ = self._popen.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):  # all have ended, as they should
                os.killpg(self._popen.pid, signal.SIGKILL)
        asked = self.place / "asked"
        told = asked.read_text().splitlines() if asked.exists() else []
        return self._popen.returncode, out.splitlines(), told


def test_a_job_that_is_warned_saves_and_is_queued_again(tmp_path: Path) -> None:
    job = Job(tmp_path, SAVES, "RUNNING", restarts=1)
    job.warn()
    code, said, asked = job.end()
    assert code == 143
    assert said[:2] == ["begins with --launcher slurm --resume auto", "saved"]
    assert said[2] == "the job is queued again, and will go on from its checkpoint"
    assert asked == ["show job 17", "requeue 17"]


def test_a_job_that_was_cancelled_saves_and_is_over(tmp_path: Path) -> None:
    job = Job(tmp_path, SAVES, "CANCELLED", restarts=0)
    job.warn()
    code, said, asked = job.end()
    assert code == 143
    begun = "begins with --launcher slurm --resume other/checkpoint.msgpack"
    assert said == [begun, "saved"]
    assert asked == ["show job 17"]


@pytest.mark.parametrize("code", [0, 1, 130])
def test_a_job_that_ends_by_itself_is_over(tmp_path: Path, code: int) -> None:
    job = Job(tmp_path, f"exit {code}", "RUNNING", restarts=0)
    assert job.end() == (code, [], [])
