"""``--launcher ray``: what the user asks for, checked; ``ray_launcher.py`` does it.

Options: ``address`` (also ``--ray-address``) is ``auto`` for the cluster that this machine is part
of, ``HOST:PORT``, or ``local`` for one of our own; ``resources=NAME:AMOUNT,...`` are resources of
Ray's that are kept for each worker beside its processors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.attached import AttachedWorkers
from lab.launch.launchers.base import LaunchedWorkers, Launcher
from lab.launch.launchers.ray_launcher import AUTO, LOCAL, RayLauncher
from microgpt.support.cli import UserError

ADDRESS = re.compile(r"([\w.\-]+|\[[0-9a-fA-F:.]+\]):(\d{1,5})", re.ASCII)
RESOURCE = re.compile(r"([\w\-.]{1,100}):(\d{1,6}(?:\.\d{1,4})?)", re.ASCII)
OPTIONS = ("address", "resources")


def make(options: Mapping[str, str]) -> Launcher:
    """The launcher. Raises UserError."""
    if odd := sorted(options.keys() - set(OPTIONS)):
        raise UserError(f"--launcher ray has no option {odd[0]!r}: it has {', '.join(OPTIONS)}")
    return RayLauncher(
        read_address(options.get("address", AUTO)), read_resources(options.get("resources", ""))
    )


def attach(run: Path, record: LaunchRecord) -> LaunchedWorkers:
    """The workers of a run whose supervisor is on this machine, and asks its driver."""
    return AttachedWorkers(run, record)


def read_address(text: str) -> str:
    """Where the cluster is. Raises UserError."""
    found = ADDRESS.fullmatch(text)
    if text not in (AUTO, LOCAL) and not (found and 0 < int(found[2]) < 65536):
        raise UserError(f"--ray-address {text!r} is none of {AUTO}, {LOCAL} and HOST:PORT")
    return text


def read_resources(text: str) -> dict[str, float]:
    """``NAME:AMOUNT,NAME:AMOUNT``; nothing for an empty text. Raises UserError."""
    resources: dict[str, float] = {}
    for part in text.split(",") if text else ():
        found = RESOURCE.fullmatch(part)
        if not found or found[1] in (*resources, "CPU", "GPU") or not float(found[2]):
            raise UserError(
                f"--launcher-option resources={text}: write NAME:AMOUNT,NAME:AMOUNT with names of "
                "the cluster's own; processors are given by --cpus-per-worker"
            )
        resources[found[1]] = float(found[2])
    return resources
