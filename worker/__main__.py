"""``python -m worker --connect ADDRESS``: computes for a coordinator until the run ends."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()
requirements.require("click", "msgpack", "llvmlite", "numpy", "zmq")

from pathlib import Path

import click

from microgpt.engine import ENGINES
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.replicas.byzantine import Liar
from microgpt.replicas.lies import KINDS
from microgpt.support import cli
from microgpt.support.cli import Number, UserError, option, say
from microgpt.support.step_clock import NO_CLOCK, WORKER, StepClock
from worker.client import Client
from worker.command_line import (
    ALONE,
    ALONE_FLAG,
    checked_name,
    exit_code,
    member_options,
    tell_parent,
)
from worker.curve import NoKeysError, wait_for_keys
from worker.levers import NO_LEVERS, Levers, NoLevers
from worker.state import WorkerState


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@member_options(
    "The coordinator, or an aggregator",
    "Encrypt: folder with coordinator.key; a pair of our own is made there if missing.",
)
@option(
    "--engine", type=click.Choice(ENGINES), default=ENGINES[0],
    help="How gradients are computed. Never changes the result.",
)  # fmt: skip
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
@click.option(ALONE_FLAG, is_flag=True, hidden=True, help="By the exit code.")
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
    tell_if_alone: bool,
    step_times: Path | None,
) -> int:
    """Compute gradients for a coordinator. May be started before it, and on any host."""
    signals.leave_quietly()  # nothing needs cleaning up before the client listens to signals
    name = checked_name(name)
    alone = ALONE if tell_if_alone else 0
    try:
        keys = None if curve is None else wait_for_keys(curve, patience)
    except NoKeysError as error:
        say(f"{name} ends: {error}")
        return alone
    clock = StepClock(WORKER) if step_times else NO_CLOCK
    client = Client(
        connect,
        WorkerState(name, engine, libm_sha256(), address=connect, keys=str(curve or "")),
        quiet=quiet,
        parent=parent,
        keys=keys,
        patience=patience,
        ready=lambda: tell_parent(announce, "ready"),
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
    return exit_code(leave, stopped_by, name, quiet=quiet, alone=alone)


def open_levers(descriptor: int | None) -> NoLevers:
    """What whoever has started us may change. Raises UserError."""
    try:
        return NO_LEVERS if descriptor is None else Levers(descriptor)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"--levers {descriptor} is no memory to be shared: {error}") from error


if __name__ == "__main__":
    cli.run(main, prog_name="python -m worker")
