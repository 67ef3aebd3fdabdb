"""A whole run for an engine that takes jobs: submitted, and left to it."""

from __future__ import annotations

import secrets
import socket
import sys
from pathlib import Path

import click

from coordinator.run.directory_owner import OwnedRunDir, RunDirectoryError, check_free
from lab.launch.launch_options import NEW_RUN
from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.base import BatchLauncher, BatchRequest
from lab.launch.passed_on import passed_on
from microgpt.support.cli import UserError, say
from microgpt.support.invocation import ROOT, call_of, in_clone

#: What is said anew for the job, or is none of its business.
WITHOUT = ("run_dir", "resume", "dry_run", "launcher", "launcher_option", "workers", "parent")


def hand_over(context: click.Context, launcher: BatchLauncher, path: Path | None) -> int:
    """Submit the run that the flags describe, or print what would be. Raises UserError."""
    flags = context.params
    if flags["dry_run"]:
        say(str(launcher.plan(request_of(context, path or Path(NEW_RUN)))))
        return 0
    with taken(path) as directory:
        if flags["resume"] is None:
            free(directory.path)
        known_as = launcher.submit(request_of(context, directory.path), directory)
        launch = secrets.token_hex(8)
        record = LaunchRecord(flags["launcher"], launch, socket.gethostname(), known_as)
        record.write(directory)
        directory.keep()
        path = directory.path
    name = launcher.begin(known_as)
    workers = call_of("workers")
    say(f"{name} is submitted: {flags['workers']} workers, writing to {path}")
    say(f"what it prints: {workers} {path} logs coordinator --follow")
    say(f"its workers: {workers} {path}")
    say(f"end it with a checkpoint: {workers} {path} stop")
    return 0


def request_of(context: click.Context, run: Path) -> BatchRequest:
    """What is submitted for the run in that directory."""
    flags = context.params
    words = [*trainer(), *passed_on(context, context.command.params, WITHOUT)]
    words += ["--launcher", flags["launcher"], "--workers", str(flags["workers"])]
    return BatchRequest(
        run=run.absolute(),
        folder=Path.cwd(),
        workers=flags["workers"],
        cpus=flags["cpus_per_worker"],
        train=(*words, "--run-dir", str(run)),
        resume=flags["resume"],
    )


def trainer() -> list[str]:
    """The command that trains, wherever it is started."""
    if in_clone():
        return [sys.executable, str(ROOT / "scripts" / "train.py")]
    return [sys.executable, "-P", "-m", "lab.command_line", "train"]


def taken(path: Path | None) -> OwnedRunDir:
    """The directory of the run, locked. Raises UserError."""
    try:
        return OwnedRunDir.take(path) if path else OwnedRunDir.new()
    except RunDirectoryError as error:
        raise UserError(str(error)) from error


def free(path: Path) -> None:
    """Raise UserError if a run that does not go on from there would mix with another one."""
    try:
        check_free(path, None)
    except RunDirectoryError as error:
        raise UserError(str(error)) from error
