"""The flags that choose a launcher, and what follows from them for a run."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import click

from lab.conditions import Conditions
from lab.launch.launchers.base import (
    PATIENCE_SECONDS,
    BatchLauncher,
    Launcher,
    WorkerRequest,
    command_line,
    python,
)
from lab.launch.launchers.registry import LAUNCHERS, LOCAL, RAY, make_launcher, read_options
from lab.launch.launchers.tree import TreeProcesses
from lab.launch.supervisor import Endpoint
from lab.launch.surroundings import Surroundings
from microgpt.support import cli
from microgpt.support.cli import UserError, option
from microgpt.support.user_class import absolute

F = TypeVar("F", bound=Callable[..., Any])

ANY_INTERFACE = "tcp://*:0"
NEW_RUN = "runs/TIMESTAMP"
PRIVATE = "ipc://PRIVATE/coordinator"
KEYS = "keys"  # the folder in the run directory, unless --curve names one
MOST_AGGREGATORS = 256
ELSEWHERE = ("192.0.2.1", 9)  # reserved for documentation: nothing is sent there
_OPTIONS = (
    option(
        "--launcher", type=click.Choice([*LAUNCHERS]), default=LOCAL,
        help="Where workers run: " + "; ".join(f"{n}: {e.about}" for n, e in LAUNCHERS.items()),
    ),
    option(
        "--launcher-option", multiple=True, metavar="KEY=VALUE", show_default=False,
        help="A setting of the launcher. May be given several times.",
    ),
    option(
        "--ray-address", default=None, metavar="auto|HOST:PORT|local", show_default="auto",
        help="With --launcher ray: the cluster of this machine, one elsewhere, or one of our own.",
    ),
    option(
        "--aggregators", type=cli.Whole(0, MOST_AGGREGATORS), default=0,
        help="Aggregators between the workers and the coordinator. Never changes the result.",
    ),
    option(
        "--cpus-per-worker", type=cli.Whole(1, 1024), default=1,
        help="Processors that an engine of others keeps for each worker.",
    ),
    option(
        "--advertise", default="", metavar="HOST", show_default="as this machine's address is",
        help="Where workers on other machines find this one.",
    ),
    option(
        "--dry-run", is_flag=True, help="Print what would be started, and start nothing.",
    ),
)  # fmt: skip


def launch_options(command: F) -> F:
    """Add the flags."""
    for add in reversed(_OPTIONS):
        command = add(command)
    return command


def launcher_of(flags: Mapping[str, Any]) -> Launcher | BatchLauncher:
    """The launcher that the flags choose. Raises UserError."""
    options, aggregators = read_options(flags["launcher_option"]), flags["aggregators"]
    if flags["ray_address"] is not None:
        if flags["launcher"] != RAY:
            raise UserError(f"--ray-address is for --launcher {RAY}")
        options["address"] = flags["ray_address"]
    launcher = make_launcher(flags["launcher"], options)
    if not aggregators:
        return launcher
    if flags["launcher"] != LOCAL:
        raise UserError(
            f"--aggregators are started by --launcher {LOCAL} alone: start python -m aggregator "
            "yourself, and workers that connect to it"
        )
    if aggregators > flags["workers"]:
        raise UserError(f"--aggregators {aggregators} are too many for {flags['workers']} workers")
    return TreeProcesses(aggregators)


def check_launcher(
    flags: Mapping[str, Any], launcher: Launcher | BatchLauncher, conditions: Conditions
) -> None:
    """Raise UserError for flags that do not go together with a launcher of other machines."""
    if isinstance(launcher, Launcher) and not launcher.remote:
        if flags["advertise"]:
            raise UserError("--advertise is for workers on other machines: choose a --launcher")
        return
    if conditions.texts:
        raise UserError(
            f"--link, --slow, --fail, --byzantine and --on-failure are for --launcher {LOCAL}: "
            "what other machines meet is not ours to choose"
        )
    if flags["control"]:
        raise UserError(f"--control is for --launcher {LOCAL}")
    bind = flags["bind"]
    if bind is not None and not bind.startswith("tcp://"):
        raise UserError(f"--bind {bind} is not reached from other machines: give tcp://HOST:PORT")


def endpoint_of(
    flags: Mapping[str, Any], launcher: Launcher, surroundings: Surroundings, run: Path
) -> Endpoint:
    """Where the coordinator listens; ``bind`` is empty for a private address. Raises UserError."""
    if not launcher.remote:
        bind = surroundings.bind(flags["bind"])
        return Endpoint(bind or "", private=bind is None)
    bind, curve = flags["bind"] or ANY_INTERFACE, flags["curve"]
    if curve is None and not flags["insecure"]:
        curve = run / KEYS
    return Endpoint(bind, advertise=flags["advertise"] or advertised(bind), curve=curve)


def advertised(bind: str) -> str:
    """The host of the address in ``bind``; where that is every interface, ours."""
    host = urlsplit(bind).hostname or "*"
    if host in ("*", "0.0.0.0", "::"):  # noqa: S104  # only compared
        return own_address()
    return f"[{host}]" if ":" in host else host


def own_address() -> str:
    """The address of this machine on its way to others, as far as the system tells."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
            return str(probe.getsockname()[0])
        except OSError:
            pass  # there is no such way
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"


def request_of(flags: Mapping[str, Any], launcher: Launcher, run: Path) -> WorkerRequest:
    """The workers that the flags ask for. Those elsewhere get the contents of their keys later."""
    curve = ["--curve", str(flags["curve"])] if flags["curve"] else []
    more = ["--patience", f"{PATIENCE_SECONDS:g}"] if launcher.remote else curve
    return WorkerRequest(
        launch=secrets.token_hex(8),
        run=run,
        address="",
        count=flags["workers"],
        flags=("--engine", flags["engine"], *more, *trusted(flags)),
        cpus=flags["cpus_per_worker"],
    )


def trusted(flags: Mapping[str, Any]) -> list[str]:
    """The worker's flags for files that the user has named: whoever names one wants it run."""
    named = (flags[name] for name in ("compress", "inner_optimizer"))
    return [word for spec in named if ".py:" in spec for word in ("--trust", absolute(spec))]


def run_flags(flags: Mapping[str, Any], endpoint: Endpoint, run: Path) -> list[str]:
    """The coordinator's flags for the directory and the keys of the run."""
    ours = endpoint.curve is not None and flags["curve"] is None
    return ["--run-dir", str(run), *(["--curve", str(endpoint.curve)] if ours else [])]


def planned(
    flags: Mapping[str, Any], launcher: Launcher, coordinator: list[str], run: Path | None
) -> str:
    """What would be started, for ``--dry-run``. Raises UserError."""
    run = run or Path(NEW_RUN)
    with Surroundings(Conditions(), flags["seed"]) as surroundings:
        endpoint = endpoint_of(flags, launcher, surroundings, run)
    words = [*coordinator, *run_flags(flags, endpoint, run), "--bind", endpoint.bind or PRIVATE]
    request = request_of(flags, launcher, run).at(endpoint.address(endpoint.bind or PRIVATE), None)
    return f"coordinator: {command_line(python('coordinator', *words))}\n{launcher.plan(request)}"
