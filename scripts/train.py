"""Train on this machine: a coordinator and worker processes, started and looked after."""

from __future__ import annotations

from _bootstrap import ROOT, find_project

find_project("click", "msgpack", "numba", "requests", "rich", "zmq")

from microgpt import interrupts

interrupts.leave_quietly()

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from coordinator.config import OPTIONS, coordinator_options, link_latest, new_run_dir
from coordinator.supervisor import Supervisor
from microgpt import cli
from microgpt.cli import UserError, option
from microgpt.engine import ENGINES


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@option(
    "--workers", type=click.IntRange(min=1), default=len(os.sched_getaffinity(0)),
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
    run_dir = choose_run_dir(flags)
    curve = ["--curve", str(flags["curve"])] if flags["curve"] else []
    with tempfile.TemporaryDirectory(prefix="microgpt-") as private:
        bind = flags["bind"] or f"ipc://{private}/coordinator"
        supervisor = Supervisor(
            ROOT,
            run_dir,
            coordinator=[*passed_on(context), "--run-dir", str(run_dir), "--bind", bind],
            worker=["--engine", flags["engine"], *curve],
            workers=flags["workers"],
            resume=flags["resume"],
        )
        return supervisor.run()


def choose_run_dir(flags: dict[str, Any]) -> Path:
    """The run's directory, made. Raises UserError."""
    run_dir = flags["run_dir"]
    if run_dir is None and flags["resume"] not in (None, "auto"):
        resumed = Path(flags["resume"]).resolve()
        folder = resumed if resumed.is_dir() else resumed.parent
        run_dir = folder.parent if folder.name == "checkpoints" else folder
        if not resumed.exists():
            raise UserError(f"--resume {flags['resume']}: there is no such file or directory")
    run_dir = run_dir or new_run_dir()
    try:
        (run_dir / "logs").mkdir(parents=True, exist_ok=True)
        link_latest(run_dir)
    except OSError as error:
        raise UserError(f"cannot write to {run_dir}: {error.strerror}") from error
    return Path(run_dir)


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
