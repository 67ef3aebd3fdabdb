"""Train on this machine: a coordinator and worker processes, started and looked after."""

from __future__ import annotations

from _bootstrap import ROOT, find_project

find_project("click", "msgpack", "numba", "requests", "rich", "zmq")

from microgpt import interrupts

interrupts.leave_quietly()

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import click

from coordinator.checkpoints import NEWEST
from coordinator.config import OPTIONS, coordinator_options, new_run_dir
from coordinator.supervisor import Supervisor
from microgpt import cli
from microgpt.cli import UserError, option
from microgpt.engine import ENGINES

MAX_WORKERS = 4096  # the connections that a coordinator takes
#: Files of a run that has begun; the second also if somebody has deleted all while it ran.
BEGUN = ("config.json", NEWEST)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--workers", type=cli.Whole(1, MAX_WORKERS), default=len(os.sched_getaffinity(0)),
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
@coordinator_options
@click.pass_context
def main(context: click.Context, /, **flags: Any) -> int:
    """Train microGPT with several worker processes on this machine."""
    run_dir, made = choose_run_dir(flags)
    curve = ["--curve", str(flags["curve"])] if flags["curve"] else []
    with tempfile.TemporaryDirectory(prefix="microgpt-") as private:
        bind = flags["bind"] or f"ipc://{private}/coordinator"
        supervisor = Supervisor(
            ROOT,
            run_dir,
            bind=bind,
            private=flags["bind"] is None,
            coordinator=[*passed_on(context), "--run-dir", str(run_dir)],
            worker=["--engine", flags["engine"], *curve],
            workers=flags["workers"],
            resume=flags["resume"],
        )
        try:
            return supervisor.run()
        finally:
            if made and not any((run_dir / name).exists() for name in BEGUN):
                remove_failed(run_dir)


def choose_run_dir(flags: dict[str, Any]) -> tuple[Path, bool]:
    """The run's directory, with its folder of logs, and whether it is new. Raises UserError."""
    run_dir = flags["run_dir"]
    if run_dir is None and flags["resume"] not in (None, "auto"):
        resumed = Path(flags["resume"]).resolve()
        folder = resumed if resumed.is_dir() else resumed.parent
        run_dir = folder.parent if folder.name == "checkpoints" else folder
        if not resumed.exists():
            raise UserError(f"--resume {flags['resume']}: there is no such file or directory")
    made = run_dir is None or not run_dir.exists()
    run_dir = Path(run_dir or new_run_dir())
    try:
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}") from error
    return run_dir, made


def remove_failed(run_dir: Path) -> None:
    """Remove the directory of a run that never began, and an empty folder ``runs`` around it."""
    shutil.rmtree(run_dir, ignore_errors=True)
    if run_dir.absolute().parent.name == "runs":
        with contextlib.suppress(OSError):
            run_dir.parent.rmdir()


def passed_on(context: click.Context) -> list[str]:
    """The coordinator's flags that were given on our command line; variables it sees itself."""
    arguments: list[str] = []
    command: Any = lambda: None  # noqa: E731  # something to hang the options on
    for add in OPTIONS:
        command = add(command)
    for parameter in command.__click_params__:
        name = parameter.name
        source = context.get_parameter_source(name)
        if name in ("run_dir", "resume") or source is not click.core.ParameterSource.COMMANDLINE:
            continue
        value = context.params[name]
        flag = parameter.opts[0]
        if parameter.is_flag:
            arguments += [flag] if value else []
        else:
            arguments += [flag, "auto" if value is None else str(value)]
    return arguments


if __name__ == "__main__":
    cli.run(main, prog_name="python scripts/train.py")
