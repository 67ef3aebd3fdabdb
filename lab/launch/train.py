"""Train on this machine: a coordinator and worker processes, started and looked after."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import click

from coordinator.net.private_socket import private_address
from coordinator.run.directory_owner import find_run_dir
from coordinator.run.options import coordinator_options
from lab.launch.condition_options import condition_options, read
from lab.launch.export_options import export_of, export_options, exports
from lab.launch.handing_over import hand_over, taken
from lab.launch.launch_options import (
    check_launcher,
    endpoint_of,
    launch_options,
    launcher_of,
    planned,
    request_of,
    run_flags,
)
from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.base import BatchLauncher
from lab.launch.page_options import events_flags, page_of, page_options
from lab.launch.passed_on import coordinators, passed_on
from lab.launch.supervisor import Supervisor
from lab.launch.surroundings import Surroundings
from microgpt.engine import ENGINES
from microgpt.support import cli, signals
from microgpt.support.cli import option, say
from microgpt.support.invocation import call_of

PARENT_POLL_SECONDS = 0.5
MAX_WORKERS = 4096  # the connections that a coordinator takes


def processors() -> int:
    """How many processors this process may use, as far as the system tells."""
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):  # not on Linux
        return os.cpu_count() or 1


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--workers", type=cli.Whole(1, MAX_WORKERS), default=processors,
    help="Worker processes. Never changes the result.", show_default="number of CPU cores",
)  # fmt: skip
@option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
    help="How workers compute. Never changes the result.",
)  # fmt: skip
@option(
    "--bind", default=None, show_default="a private socket",
    help="Address at which further workers may join: tcp://HOST:PORT or ipc://PATH.",
)  # fmt: skip
@launch_options
@page_options
@export_options
@condition_options
@coordinator_options
@click.option("--parent", type=int, default=0, hidden=True, help="Stop when this process ends.")
@click.pass_context
def main(context: click.Context, /, parent: int, **flags: Any) -> int:
    """Train microGPT with several worker processes, on this machine or on others."""
    path = find_run_dir(flags["run_dir"], flags["resume"])
    conditions = read(flags)
    launcher = launcher_of(flags)
    check_launcher(flags, launcher, conditions)
    exported = exports(flags)
    if isinstance(launcher, BatchLauncher):
        return hand_over(context, launcher, path)
    events = events_flags(flags, cli.given(context), bool(exported))
    coordinator = [*passed_on(context, coordinators(), ("run_dir", "resume")), *events]
    coordinator += ["--started", str(flags["workers"]), flags["engine"]]  # for the record
    if flags["dry_run"]:
        say(planned(flags, launcher, coordinator, path))
        return 0
    launcher.check()
    with ExitStack() as stack:
        with signals.held_back():  # until somebody removes what is made here
            directory = stack.enter_context(taken(path))
            surroundings = stack.enter_context(
                Surroundings(conditions, flags["seed"], control=flags["control"])
            )
            endpoint = endpoint_of(flags, launcher, surroundings, directory.path)
            if not endpoint.bind:
                endpoint = replace(endpoint, bind=stack.enter_context(private_address()))
            request = request_of(flags, launcher, directory.path)
            supervisor = Supervisor(
                directory,
                endpoint=endpoint,
                coordinator=[*coordinator, *run_flags(flags, endpoint, directory.path)],
                launcher=launcher,
                request=request,
                resume=flags["resume"],
                surroundings=surroundings,
                record=LaunchRecord(flags["launcher"], request.launch, socket.gethostname()),
            )
            supervisor.listen()
            if parent:
                threading.Thread(target=end_with, args=(parent,), daemon=True).start()
        with ExitStack() as companions:
            if flags["page"]:
                companions.enter_context(page_of(flags, directory, supervisor))
            if exported:
                companions.enter_context(export_of(exported, directory))
            code = supervisor.run()
        if flags["page"] and not flags["quiet"]:
            say(f"the page again: {call_of('page')} {directory.path}")
        return code


def end_with(parent: int) -> None:
    """Ask the run to end, as Ctrl-C would, once the process that wants it has ended."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_SECONDS)
    os.kill(os.getpid(), signal.SIGINT)
