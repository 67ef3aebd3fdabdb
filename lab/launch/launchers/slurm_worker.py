"""A worker as a step of a job under Slurm, which brings the job back when its first node has died.

The coordinator, and what starts workers, is on that node; Slurm keeps the job without it. Workers
that have had no coordinator for their patience look whether that is so: then the job is queued
again, to go on from its newest checkpoint. Else they go on looking for the coordinator, as long as
the job runs: until Slurm has found a node dead minutes may pass (``SlurmdTimeout``).
"""

from __future__ import annotations

from microgpt.support import startup  # isort: skip  # before what takes time to import

if __name__ == "__main__":
    startup.begins()

import os
import sys

from lab.launch.launchers import slurm_commands as slurm
from microgpt.support import cli, signals
from microgpt.support.cli import UserError, say
from worker.__main__ import main as worker
from worker.command_line import ALONE, ALONE_FLAG


def main() -> None:
    """Be a worker with the flags of the command line; end with its exit code, or do it again."""
    sys.argv[1:1] = [ALONE_FLAG]
    try:
        cli.run(worker, prog_name="python -m worker")
    except SystemExit as ended:
        if ended.code != ALONE:
            raise
    signals.leave_quietly()  # the worker does not listen to them any more
    try:
        goes_on = bring_back(slurm.own_job() or "")
    except UserError as error:
        sys.exit(cli.complain(str(error), 1))
    if goes_on:
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # ourselves


def bring_back(job: str) -> bool:
    """Queue the job again if its first node is dead; whether there is still work for a worker.

    Raises UserError if Slurm does not answer.
    """
    if slurm.job_state(job) != "RUNNING":
        return False
    if not slurm.is_down(slurm.first_node(job)):
        return True
    say(f"the first node of job {job} is dead: the job is queued again")
    slurm.requeue(job)
    return False


if __name__ == "__main__":
    main()
