"""Slurm's commands, each run once, with its error as one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from microgpt.support.cli import UserError, printable

SECONDS = 60.0  # for slurmctld to answer
JOB = "SLURM_JOB_ID"
DEAD = ("down", "fail")  # with these a node's state begins
MISSING = "--launcher slurm needs Slurm's commands: on Debian, apt-get install slurm-client"


def own_job() -> str | None:
    """The job in which this process runs; None outside of one."""
    return os.environ.get(JOB)


def require(program: str) -> None:
    """Raise UserError if Slurm is not there."""
    if shutil.which(program) is None:
        raise UserError(f"there is no {program}: {MISSING}")


def call(*words: str, seconds: float = SECONDS) -> str:
    """What a command prints. Raises UserError if it fails or takes too long."""
    require(words[0])
    try:
        done = subprocess.run(  # noqa: S603  # Slurm's, with words of ours
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"{words[0]} does not answer within {seconds:g} s") from error
    except OSError as error:
        raise UserError(f"{words[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        raise UserError(f"{words[0]}: {_complaint(words[0], done)}")
    return done.stdout.decode(errors="replace")


def _complaint(program: str, done: subprocess.CompletedProcess[bytes]) -> str:
    """The last line of the errors; of what the program has run, if that has told any."""
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    inner = [line for line in lines if not line.startswith(f"{program}: ")]
    said = (inner or lines or [f"exit code {done.returncode}"])[-1]
    return printable(said.removeprefix(f"{program}: ").removeprefix("error: "))[:300]


def submit(script: Path) -> str:
    """Submit a script, which waits until ``release``; the number of the job. Raises UserError."""
    return call("sbatch", "--parsable", "--hold", str(script)).strip().partition(";")[0]


def release(job: str) -> None:
    """Let a job start when there is room. Raises UserError."""
    call("scontrol", "release", job)


def job_state(job: str) -> str:
    """Such as RUNNING or PENDING; "" for a job that Slurm does not know any more.

    Raises UserError.
    """
    try:
        return call("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T").strip()
    except UserError as error:
        if "Invalid job id" in str(error):
            return ""
        raise


def reason(job: str) -> str:
    """Why a job waits; "no reason yet" until Slurm has looked at it. Raises UserError."""
    found = call("squeue", "--noheader", f"--jobs={job}", "--format=%r").strip()
    return "no reason yet" if found in ("", "None") else found


def run_inside(job: str, words: list[str]) -> str:
    """What a command prints beside the batch script of a job that runs. Raises UserError."""
    where = f"--nodelist={first_node(job)}"
    step = ["--overlap", "--nodes=1", "--ntasks=1", "--mem=0", "--quiet", where]
    return call("srun", f"--jobid={job}", *step, *words)


def first_node(job: str) -> str:
    """Where the batch script of a job runs, or has run. Raises UserError."""
    return call("squeue", "--noheader", f"--jobs={job}", "--format=%B").strip()


def is_down(node: str) -> bool:
    """Whether Slurm has found a node dead. Raises UserError."""
    states = call("sinfo", "--noheader", f"--nodes={node}", "--format=%T").split()
    return any(state.startswith(DEAD) for state in states)  # with a star: it does not answer


def requeue(job: str) -> None:
    """Have a job run again from its beginning, once there is room. Raises UserError."""
    call("scontrol", "requeue", job)


def steps(job: str) -> dict[str, tuple[str, str]]:
    """The number and the nodes of each step of a job, by its name. Raises UserError."""
    text = call("squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%j|%i|%N")
    lines = (line.strip().split("|") for line in text.splitlines() if line.strip())
    return {name: (number, nodes) for name, number, nodes in lines}


def cancel(job: str) -> None:
    """End a job, or one of its steps (JOB.STEP). Raises UserError."""
    call("scancel", job)
