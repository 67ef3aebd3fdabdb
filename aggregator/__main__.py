"""``python -m aggregator --connect ADDRESS --bind ADDRESS``: workers together, as one worker."""

from __future__ import annotations

from microgpt.support import requirements  # isort: skip  # before what takes time to import
from microgpt.support import signals, startup  # isort: skip  # before what takes time to import

signals.leave_quietly()
if __name__ == "__main__":
    startup.begins()
requirements.require("click", "msgpack", "numpy", "zmq")

import contextlib
import os
import socket
from pathlib import Path

import click

from aggregator.shell import Shell
from aggregator.state import AggregatorState
from coordinator.net.safe_bind import require_safe_bind
from microgpt.numerics.platform_fingerprint import libm_sha256
from microgpt.support import cli
from microgpt.support.cli import MAX_SECONDS, Number, UserError, option, say
from worker.coordinator_link import CoordinatorLink
from worker.curve import wait_for_keys

MAX_NAME = 200
DEFAULT_CONNECT = "tcp://127.0.0.1:5555"
DEFAULT_BIND = "tcp://127.0.0.1:5556"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--connect", default=DEFAULT_CONNECT, aliases=("COORDINATOR",),
    help="The coordinator, or another aggregator: tcp://HOST:PORT or ipc://PATH.",
)  # fmt: skip
@option("--bind", default=DEFAULT_BIND, help="Address for workers: tcp://HOST:PORT or ipc://PATH.")
@option("--name", default=None, help="What the coordinator calls it.  [default: host-pid]")
@option("--quiet", is_flag=True, help="No lines but warnings and errors.")
@option(
    "--curve", type=click.Path(path_type=Path), default=None, show_default=False,
    help="Encrypt towards the coordinator: folder with coordinator.key, as a worker has it.",
)  # fmt: skip
@option(
    "--curve-below", type=click.Path(path_type=Path), default=None, show_default=False,
    help="Encrypt towards workers: folder of keys, as a coordinator has it; made if missing.",
)  # fmt: skip
@option("--insecure", is_flag=True, help="Let --bind be reached from elsewhere without keys.")
@option(
    "--patience", type=Number(0.0, MAX_SECONDS), default=0.0, show_default="for ever",
    help="Leave after so many seconds without a coordinator.",
)  # fmt: skip
@click.option("--parent", type=int, default=0, hidden=True, help="Leave when this process ends.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: our address.")
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
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if not name.isprintable() or len(name) > MAX_NAME:
        raise UserError(f"--name must be at most {MAX_NAME} letters, none of them invisible")
    require_safe_bind(bind, curve_below, insecure, keys="--curve-below")
    keys = None
    if curve is not None:
        keys = wait_for_keys(curve, patience)
        if keys is None:
            say(f"{name} ends: no coordinator has put its key into {curve}")
            return 0
    life = os.urandom(8).hex()
    state = AggregatorState(name, life, libm_sha256(), address=connect, keys=str(curve or ""))
    if not quiet:
        say(f"{name} offers itself to {connect} (aggregator)")
    leave, stopped_by = Shell(
        state, CoordinatorLink(connect, keys), bind, curve=curve_below, quiet=quiet,
        parent=parent, patience=patience, listens=lambda address: tell_parent(announce, address),
    ).serve()  # fmt: skip
    if leave.outcome == "refused":
        raise UserError(leave.reason)
    if not quiet:
        say(f"{name} ends: {leave.reason}")
    if leave.outcome == "left":
        return 128 + stopped_by if stopped_by else cli.INTERRUPTED
    return 0


def tell_parent(announce: int | None, address: str) -> None:
    """Tell a supervisor where workers connect to; it hears that once."""
    if announce is not None:
        with contextlib.suppress(OSError):
            os.write(announce, f"{address}\n".encode(errors="surrogateescape"))
            os.close(announce)


if __name__ == "__main__":
    cli.run(main, prog_name="python -m aggregator")
