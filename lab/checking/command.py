"""``python scripts/check_strategy.py FILE.py:Class``: does it obey the laws that ours obey?"""

from __future__ import annotations

import secrets
import sys
import time

import click

from lab.checking.laws import Law, Tell, verdicts
from lab.checking.subject import SubjectError, find
from microgpt.support import cli
from microgpt.support.cli import UserError
from microgpt.support.progress import Progress

SCHEDULES = 200


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("spec", metavar="FILE.py:CLASS[:KEY=VALUE,...]")
@click.option(
    "--schedules", type=cli.Whole(1), default=SCHEDULES, show_default=True,
    help="Simulated schedules of faults.",
)  # fmt: skip
@click.option(
    "--seed", type=cli.Whole(0), help="Of the first schedule.  [default: a new one each time]"
)
def main(spec: str, schedules: int, seed: int | None) -> int:
    """Put a strategy, compressor, aggregation rule or optimizer through the laws.

    Also one of ours by its name. The exit code is 0 if all of them are kept, else 1.
    """
    first = secrets.randbelow(1 << 40) if seed is None else seed
    try:
        subject = find(spec)
    except SubjectError as error:
        raise UserError(str(error)) from error
    print(f"{subject.kind} {subject.name}: schedules {first} to {first + schedules - 1}")
    broken, began = 0, time.monotonic()
    for law, problem in verdicts(subject, range(first, first + schedules), _progress):
        took, began = time.monotonic() - began, time.monotonic()
        print(f"  {'BROKEN' if problem else 'ok':6}  {law.says} ({took:.1f} s)", flush=True)
        if problem:
            print(f"          {problem}", flush=True)
        broken += bool(problem)
    print(f"{broken} laws are broken" if broken else "all laws are kept")
    return 1 if broken else 0


def _progress(law: Law) -> Tell:
    """Who tells how far the trial of a law is, on a terminal or not, and how much time is left."""
    return Progress(law.says.partition(":")[0], lambda line: print(line, file=sys.stderr))
