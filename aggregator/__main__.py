"""``python -m aggregator --connect ADDRESS --bind ADDRESS``: workers together, as one worker."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()
requirements.require("click", "msgpack", "numpy", "zmq")

import os
from pathlib import Path

import click

from aggregator.shell import Shell
from aggregator.state import AggregatorState
from coordinator.net.safe_bind import require_safe_bind
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.support import cli
from microgpt.support.cli import option, say
from worker.command_line import (
    checked_name,
    exit_code,
    member_options,
    tell_parent,
)
from worker.coordinator_link import CoordinatorLink
from worker.curve import NoKeysError, wait_for_keys

DEFAULT_BIND = "tcp://127.0.0.1:5556"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@member_options(
    "The coordinator, or another aggregator",
    "Encrypt towards the coordinator: folder with coordinator.key, as a worker has it.",
)
@option("--bind", default=DEFAULT_BIND, help="Address for workers: tcp://HOST:PORT or ipc://PATH.")
@option(
    "--curve-below", type=click.Path(path_type=Path), default=None, show_default=False,
    help="Encrypt towards workers: folder of keys, as a coordinator has it; made if missing.",
)  # fmt: skip
@option("--insecure", is_flag=True, help="Let --bind be reached from elsewhere without keys.")
def main(
    connect: str,
    bind: str,
    name: str | None,
    quiet: bool,
    curve: Path | None,
    curve_below: Path | None,
    insecure: bool,
    patience: float,
    parent: int,
    announce: int | None,
) -> int:
    """Take work from a coordinator, let workers below do it, and add up what they answer."""
    signals.leave_quietly()  # nothing needs cleaning up before the shell listens to signals
    name = checked_name(name)
    require_safe_bind(bind, curve_below, insecure, keys="--curve-below")
    try:
        keys = None if curve is None else wait_for_keys(curve, patience)
    except NoKeysError as error:
        say(f"{name} ends: {error}")
        return 0
    life = os.urandom(8).hex()
    state = AggregatorState(name, life, libm_sha256(), address=connect, keys=str(curve or ""))
    if not quiet:
        say(f"{name} offers itself to {connect} (aggregator)")
    leave, stopped_by = Shell(
        state, CoordinatorLink(connect, keys), bind, curve=curve_below, quiet=quiet,
        parent=parent, patience=patience, listens=lambda address: tell_parent(announce, address),
    ).serve()  # fmt: skip
    return exit_code(leave, stopped_by, name, quiet=quiet)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m aggregator")
