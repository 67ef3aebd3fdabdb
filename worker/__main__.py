"""``python -m worker --connect ADDRESS``: computes for a coordinator until the run ends."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()
requirements.require("click", "msgpack", "llvmlite", "numpy", "zmq")

import contextlib
import os
import socket
from pathlib import Path

import click

from microgpt.engine import ENGINES
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.replicas.byzantine import Liar
from microgpt.replicas.lies import KINDS
from microgpt.support import cli
from microgpt.support.cli import MAX_SECONDS, Number, UserError, option, say
from microgpt.support.step_clock import NO_CLOCK, WORKER, StepClock
from worker.client import Client
from worker.curve import wait_for_keys
from worker.levers import NO_LEVERS, Levers, NoLevers
from worker.state import WorkerState

MAX_NAME = 200
DEFAULT_CONNECT = "tcp://127.0.0.1:5555"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--connect", default=DEFAULT_CONNECT, aliases=("COORDINATOR",),
    help="The coordinator: tcp://HOST:PORT or ipc://PATH.",
)  # fmt: skip
@option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
    help="How gradients are computed. Never changes the result.",
)  # fmt: skip
@option("--name", default=None, help="What the coordinator calls it.  [default: host-pid]")
@option("--quiet", is_flag=True, help="No lines but errors.")
@option(
    "--curve", type=click.Path(path_type=Path), default=None, show_default=False,
    help="Encrypt: folder with coordinator.key; a pair of our own is made there if missing.",
)  # fmt: skip
@option(
    "--patience", type=Number(0.0, MAX_SECONDS), default=0.0, show_default="for ever",
    help="Leave after so many seconds without a coordinator.",
)  # fmt: skip
@click.option("--parent", type=int, default=0, hidden=True, help="Leave when this process ends.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: we can work.")
@option(
    "--trust",
    multiple=True,
    metavar="FILE.py:CLASS",
    show_default=False,
    help="A compressor or optimizer of a run's own that may be run. May be given several times.",
)
@click.option("--slowness", type=Number(1.0), default=1.0, hidden=True, help="Factor on time.")
@click.option("--levers", type=int, default=None, hidden=True, help="Descriptor: see levers.py.")
@click.option("--lie", type=(click.Choice(KINDS), int), default=None, hidden=True)
@option("--step-times", type=click.Path(path_type=Path), default=None, hidden=True)
def main(
    connect: str,
    engine: str,
    name: str | None,
    quiet: bool,
    curve: Path | None,
    patience: float,
    parent: int,
    announce: int | None,
    trust: tuple[str, ...],
    slowness: float,
    levers: int | None,
    lie: tuple[str, int] | None,
    step_times: Path | None,
) -> int:
    """Compute gradients for a coordinator. May be started before it, and on any host."""
    signals.leave_quietly()  # nothing needs cleaning up before the client listens to signals
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if not name.isprintable() or len(name) > MAX_NAME:
        raise UserError(f"--name must be at most {MAX_NAME} letters, none of them invisible")
    keys = None
    if curve is not None:
        keys = wait_for_keys(curve, patience)
        if keys is None:
            say(f"{name} ends: no coordinator has put its key into {curve}")
            return 0
    clock = StepClock(WORKER) if step_times else NO_CLOCK
    client = Client(
        connect,
        WorkerState(name, engine, libm_sha256(), address=connect, keys=str(curve or "")),
        quiet=quiet,
        parent=parent,
        keys=keys,
        patience=patience,
        ready=lambda: tell_parent(announce),
        clock=clock,
        trusted=trust,
        slowness=slowness,
        lie=Liar(*lie) if lie else None,
        levers=open_levers(levers),
    )
    if not quiet:
        say(f"{name} offers itself to {connect} ({engine} engine)")
    leave, stopped_by = client.serve()
    if step_times:
        clock.write(step_times / f"{name}.json")
    if leave.outcome == "refused":
        raise UserError(leave.reason)
    if not quiet:
        say(f"{name} ends: {leave.reason}")
    if leave.outcome == "left":
        return 128 + stopped_by if stopped_by else cli.INTERRUPTED
    return 0


def open_levers(descriptor: int | None) -> NoLevers:
    """What whoever has started us may change. Raises UserError."""
    try:
        return NO_LEVERS if descriptor is None else Levers(descriptor)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--levers {descriptor} is no memory to be shared: {error}") from error


def tell_parent(announce: int | None) -> None:
    """Tell a supervisor that the engine is made: what comes now is no trouble with starting."""
    if announce is not None:
        with contextlib.suppress(OSError):
            os.write(announce, b"ready\n")
            os.close(announce)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m worker")
