"""``python -m coordinator``: trains with the workers that connect to it."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()
requirements.require("click", "msgpack", "llvmlite", "numpy", "requests", "rich", "zmq")

import time

STARTED = time.monotonic()  # what people wait for includes our imports

import contextlib
import os
from pathlib import Path
from typing import Any

import click

from coordinator.net.private_socket import private_parent, remove_abandoned
from coordinator.net.safe_bind import require_safe_bind
from coordinator.run.conduct import conduct, open_transport
from coordinator.run.config import Settings
from coordinator.run.directory_owner import OwnedRunDir, RunDirectoryError, check_free, find_run_dir
from coordinator.run.laboratory import Laboratory
from coordinator.run.options import DEFAULT_BIND, coordinator_options
from coordinator.run.prepare import prepare, prepare_adam
from microgpt.checkpoint.format import CheckpointError
from microgpt.data.documents import DatasetError
from microgpt.support import cli
from microgpt.support.cli import UserError, option
from microgpt.support.step_clock import COORDINATOR, NO_CLOCK, StepClock


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option("--bind", default=DEFAULT_BIND, help="Address for workers: tcp://HOST:PORT or ipc://PATH.")
@coordinator_options
@click.option("--parent", type=int, default=0, hidden=True, help="Stop when this process ends.")
@click.option("--lock", type=int, default=None, hidden=True, help="Descriptor: --run-dir, locked.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: our address.")
@click.option("--started", type=(int, str), default=None, hidden=True, help="Workers: N, ENGINE.")
@click.option("--condition", multiple=True, hidden=True, help="What the run meets; may be several.")
@click.option("--news", type=int, default=None, hidden=True, help="Descriptor: of conditions.")
@option("--step-times", type=click.Path(path_type=Path), default=None, hidden=True)
@click.pass_context
def main(
    context: click.Context,
    /,
    parent: int,
    lock: int | None,
    announce: int | None,
    started: tuple[int, str] | None,
    condition: tuple[str, ...],
    news: int | None,
    step_times: Path | None,
    **flags: Any,
) -> int:
    """Train microGPT with the workers that connect to us by their flag --connect ADDRESS."""
    settings = Settings(**flags)
    require_safe_bind(settings.bind, settings.curve, settings.insecure)
    path = find_run_dir(settings.run_dir, settings.resume)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(clean_up_after, parent, settings.bind)
            directory: OwnedRunDir | None = None
            if path is not None and os.path.isdir(path):  # before we look into it
                directory = stack.enter_context(OwnedRunDir.take(path, lock))
            run = prepare(settings, cli.given(context), path)
            signals.leave_quietly()  # nothing to clean up or save before the server runs
            prepare_adam(run)
            transport = open_transport(run, settings)
            if directory is None:
                directory = stack.enter_context(
                    OwnedRunDir.take(path) if path else OwnedRunDir.new()
                )
                check_free(directory.path, run.id)  # others may have been quicker
            clock = transport.clock = StepClock(COORDINATOR) if step_times else NO_CLOCK
            code = conduct(
                run, settings, directory, transport, STARTED, parent, announce, started,
                Laboratory(condition, news),
            )  # fmt: skip
            if step_times:
                clock.write(step_times / "coordinator.json")
            return code
    except (CheckpointError, DatasetError, RunDirectoryError) as error:
        raise UserError(str(error)) from error


def clean_up_after(parent: int, bind: str) -> None:
    """Remove the private folder of a supervisor that was killed, if there was one."""
    if parent and os.getppid() != parent and (folder := private_parent(bind)):
        remove_abandoned(folder)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m coordinator")
