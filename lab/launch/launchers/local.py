"""``--launcher local``: processes on this machine, which the supervisor looks after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.attached import AttachedWorkers
from lab.launch.launchers.base import LaunchedWorkers, Launcher
from lab.launch.launchers.processes import WorkerProcesses
from microgpt.support.cli import UserError


def make(options: Mapping[str, str]) -> Launcher:
    """The launcher, which takes no options. Raises UserError."""
    if options:
        raise UserError(f"--launcher local has no option {next(iter(options))!r}: it needs none")
    return WorkerProcesses()


def attach(run: Path, record: LaunchRecord) -> LaunchedWorkers:
    """The workers of a run of this machine."""
    return AttachedWorkers(run, record)
