"""The launchers by name. An engine's code is imported when it is asked for, and not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.base import BatchLauncher, LaunchedWorkers, Launcher
from microgpt.support.cli import UserError

LOCAL, RAY = "local", "ray"


class Engine(NamedTuple):
    """Where the code for an engine is: ``module``, with the functions ``make`` and ``attach``.

    ``make(options)`` returns a ``Launcher`` or a ``BatchLauncher``, ``attach(run, record)`` the
    ``LaunchedWorkers`` of a run; both raise UserError, in one sentence with the command that
    installs it, where the engine is missing.
    """

    module: str
    about: str


LAUNCHERS = {
    LOCAL: Engine("lab.launch.launchers.local", "processes on this machine"),
    RAY: Engine("lab.launch.launchers.ray", "actors on a Ray cluster"),
    "slurm": Engine("lab.launch.launchers.slurm", "steps of a job, which is submitted"),
}


def make_launcher(name: str, options: Mapping[str, str]) -> Launcher | BatchLauncher:
    """The launcher of that name. Raises UserError."""
    made = _function(name, "make")(options)
    assert isinstance(made, Launcher | BatchLauncher)  # noqa: S101  # the module keeps its promise
    return made


def attach(run: Path, record: LaunchRecord) -> LaunchedWorkers:
    """The workers of a run that is under way. Raises UserError."""
    if record.launcher not in LAUNCHERS:
        raise UserError(f"this program knows no launcher {record.launcher!r}, which {run} has")
    found = _function(record.launcher, "attach")(run, record)
    assert isinstance(found, LaunchedWorkers)  # noqa: S101  # the module keeps what it promises
    return found


def read_options(texts: tuple[str, ...]) -> dict[str, str]:
    """``--launcher-option KEY=VALUE``, several times. Raises UserError."""
    options: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals or not text.isprintable():
            raise UserError(f"--launcher-option {text}: write KEY=VALUE")
        if key in options:
            raise UserError(f"--launcher-option {key} is given twice")
        options[key] = value
    return options


def _function(name: str, function: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(importlib.import_module(LAUNCHERS[name].module), function)
    return found
