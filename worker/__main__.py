"""``python -m worker --connect ADDRESS``: computes for a coordinator until the run ends."""

from __future__ import annotations

from microgpt import interrupts  # isort: skip  # before what takes time to import

interrupts.leave_quietly()

import os
import signal
import socket

import click

from microgpt import cli
from microgpt.cli import UserError, option
from microgpt.engine import ENGINES
from worker.client import Client
from worker.state import WorkerState

DEFAULT_CONNECT = "tcp://127.0.0.1:5555"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--connect", default=DEFAULT_CONNECT, help="The coordinator: tcp://HOST:PORT or ipc://PATH."
)
@option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
    help="How gradients are computed. Never changes the result.",
)  # fmt: skip
@option("--name", default=None, help="What the coordinator calls it.  [default: host-pid]")
@option("--quiet", is_flag=True, help="No lines but errors.")
@click.option("--parent", type=int, default=0, hidden=True, help="Leave when this process ends.")
def main(connect: str, engine: str, name: str | None, quiet: bool, parent: int) -> int:
    """Compute gradients for a coordinator. May be started before it, and on any host."""
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    client = Client(connect, WorkerState(name, engine), quiet=quiet, parent=parent)
    if not quiet:
        print(f"{name} offers itself to {connect} ({engine} engine)", flush=True)
    leave, stopped_by = client.serve()
    if leave.outcome == "refused":
        raise UserError(leave.reason)
    if not quiet:
        print(f"{name} ends: {leave.reason}", flush=True)
    if leave.outcome == "left":
        return cli.TERMINATED if stopped_by == signal.SIGTERM else cli.INTERRUPTED
    return 0


if __name__ == "__main__":
    cli.run(main, prog_name="python -m worker")
