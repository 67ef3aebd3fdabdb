"""What a worker's command line has in common with an aggregator's: flags, name, exit code."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from microgpt.support import cli
from microgpt.support.cli import MAX_SECONDS, Number, UserError, option, say
from worker.state import Leave

MAX_NAME = 200
#: For who starts workers, and can find out why nobody answers: the flag has them end with this.
ALONE, ALONE_FLAG = 69, "--tell-if-alone"
DEFAULT_CONNECT = "tcp://127.0.0.1:5555"
F = TypeVar("F", bound=Callable[..., Any])


def member_options(connects_to: str, curve: str) -> Callable[[F], F]:
    """Add the flags; the help of two of them is ``connects_to`` and ``curve``."""
    flags = (
        option(
            "--connect", default=DEFAULT_CONNECT, aliases=("COORDINATOR",),
            help=f"{connects_to}: tcp://HOST:PORT or ipc://PATH.",
        ),
        option("--name", default=None, help="What the coordinator calls it.  [default: host-pid]"),
        option("--quiet", is_flag=True, help="No lines but warnings and errors."),
        option(
            "--curve", type=click.Path(path_type=Path), default=None, show_default=False,
            help=curve,
        ),
        option(
            "--patience", type=Number(0.0, MAX_SECONDS), default=0.0, show_default="for ever",
            help="Leave after so many seconds without a coordinator.",
        ),
        click.option("--parent", type=int, default=0, hidden=True, help="Leave when it ends."),
        click.option("--announce", type=int, default=None, hidden=True, help="A descriptor."),
    )  # fmt: skip

    def decorate(command: F) -> F:
        for flag in reversed(flags):
            command = flag(command)
        return command

    return decorate


def checked_name(name: str | None) -> str:
    """The name that was given, or one of this process. Raises UserError."""
    name = name or f"{socket.gethostname()}-{os.getpid()}"
    if not name.isprintable() or len(name) > MAX_NAME:
        raise UserError(f"--name must be at most {MAX_NAME} letters, none of them invisible")
    return name


def exit_code(leave: Leave, stopped_by: int, name: str, *, quiet: bool, alone: int = 0) -> int:
    """The exit code of a member that has left, stopped by a signal or by 0; it is said why.

    ``alone``: the one for having had no coordinator for as long as its patience lasts.

    Raises UserError if the coordinator has refused it.
    """
    if leave.outcome == "refused":
        raise UserError(leave.reason)
    if not quiet:
        say(f"{name} ends: {leave.reason}")
    if leave.outcome == "left":
        return 128 + stopped_by if stopped_by else cli.INTERRUPTED
    return alone if leave.outcome == "alone" else 0


def tell_parent(announce: int | None, line: str) -> None:
    """Tell a supervisor, by the descriptor ``announce``, that we are at work, once."""
    if announce is not None:
        with contextlib.suppress(OSError):
            os.write(announce, f"{line}\n".encode(errors="surrogateescape"))
            os.close(announce)
