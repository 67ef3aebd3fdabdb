"""The batch script of a run under Slurm: pure.

The job is the whole run: its first node runs the coordinator, under a supervisor that starts each
worker by an ``srun`` of its own. Before the time limit Slurm sends SIGTERM: the coordinator saves,
and the job is queued again, to go on from there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from lab.launch.launchers.base import BatchRequest
from microgpt.support.cli import UserError

GRACE = "grace"  # our own option: seconds between SIGTERM and the time limit
GRACE_SECONDS = 60
#: What the script says itself.
OURS = frozenset(
    ("chdir", "cpus-per-task", "error", "input", "no-kill", "no-requeue", "ntasks", "open-mode",
     "output", "requeue", "signal", "wrap", "array", "test-only", "wait", "parsable")
)  # fmt: skip
NAME = re.compile(r"[a-z][a-z-]*")
STOPPED = 143  # exit code of a run that SIGTERM has ended: 128 + 15

TEXT = """\
#!/bin/bash
{directives}
# Made by "train --launcher slurm".

train=(
{words}
)
begin=({begin})
if [ "${{SLURM_RESTART_COUNT:-0}}" -gt 0 ]; then # it has been queued again
  begin=(--resume auto)
fi

run=
warned=
# The time limit is near, or somebody ends the job, perhaps before there is anything to end.
trap 'warned=1; [ -z "$run" ] || kill -TERM "$run" 2>/dev/null' TERM
"${{train[@]}}" "${{begin[@]}}" &
run=$!
[ -z "$warned" ] || kill -TERM "$run" 2>/dev/null
wait "$run"
code=$?
while kill -0 "$run" 2>/dev/null; do # the signal has only ended the waiting
  wait "$run"
  code=$?
done

# Saved, but not done. A job that somebody has cancelled is not running any more.
if [ "$code" = {stopped} ] && scontrol show job "$SLURM_JOB_ID" | grep -q "JobState=RUNNING"; then
  echo "the job is queued again, and will go on from its checkpoint"
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def check_options(options: Mapping[str, str]) -> None:
    """Raise UserError for a ``--launcher-option`` that is none of sbatch's, or is for us to say.

    They are its long flags without dashes, such as ``partition``, and ``grace``.
    """
    for key, value in options.items():
        if key in OURS:
            raise UserError(f"--launcher-option {key}: the launcher says that itself")
        if not NAME.fullmatch(key):
            raise UserError(f"--launcher-option {key}: write the long name of a flag of sbatch")
        if not value.isprintable():
            raise UserError(f"--launcher-option {key}: {value!r} has letters that cannot be seen")
    grace = options.get(GRACE, "1")
    if not (grace.isascii() and grace.isdecimal() and 1 <= int(grace[:6]) <= 65535):
        raise UserError(f"--launcher-option {GRACE}={grace}: write seconds, from 1 to 65535")


def script_file(run: Path) -> Path:
    """Where the script of a run lies."""
    return run / "job.sh"


def log_file(run: Path) -> Path:
    """What the coordinator and the supervisor print, also after the job was queued again."""
    return run / "logs" / "coordinator.log"


def script(job: BatchRequest, options: Mapping[str, str]) -> str:
    """The text of the script. ``options``: see ``check_options``. Raises UserError."""
    check_options(options)
    given = {key: value for key, value in options.items() if key != GRACE}
    flags = {
        "job-name": f"microgpt-{job.run.name}",
        "ntasks": str(job.workers),
        "cpus-per-task": str(job.cpus),
        **given,
        "requeue": "",
        "no-kill": "",
        "open-mode": "append",
        "output": str(log_file(job.run)),
        "chdir": str(job.folder),
        "signal": f"B:TERM@{options.get(GRACE, GRACE_SECONDS)}",
    }
    return TEXT.format(
        directives="\n".join(_directive(key, value) for key, value in flags.items()),
        words="\n".join(f"  {line}" for line in _lines(job.train)),
        begin=shlex.join(["--resume", job.resume or "auto"]),
        stopped=STOPPED,
    )


def _directive(key: str, value: str) -> str:
    """sbatch splits these lines as a shell would."""
    return f"#SBATCH --{key}={shlex.quote(value)}" if value else f"#SBATCH --{key}"


def _lines(words: tuple[str, ...]) -> list[str]:
    """The words, a flag with its values on each line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word)
    return [shlex.join(line) for line in lines]
