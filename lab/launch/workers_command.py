"""``microgpt workers`` and ``microgpt scale``: the workers of a run, from another terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click

from lab.launch.launch_record import NAME, read_launch
from lab.launch.launchers.base import LaunchedWorkers, WorkerHandle, as_json
from lab.launch.launchers.registry import attach
from lab.launch.requests import MOST_WORKERS
from lab.report import table
from microgpt.support.cli import UserError, say

RUNS = Path("runs")
HEADER = ("worker", "where", "state", "restarts", "why")
LEFT = (0, 1, 2, 4)
SETTINGS = {"help_option_names": ["-h", "--help"]}


@click.command(context_settings=SETTINGS)
@click.argument("words", nargs=-1, metavar="[RUN] [list | logs NAME | scale COUNT | stop]")
@click.option("--follow", "-f", is_flag=True, help="With logs: also what is still to come.")
@click.option("--json", "plain", is_flag=True, help="With list: as a list of JSON objects.")
def main(words: tuple[str, ...], follow: bool, plain: bool) -> None:
    """List, read, scale or stop the workers of a run that is under way, whatever its launcher.

    RUN is its directory; left out, it is the newest in runs that goes on. logs prints what the
    worker NAME has printed, or the coordinator of a job; scale has COUNT workers from now on; stop
    ends the run with a checkpoint, and all of its workers.
    """
    run, verb, rest = divide(words)
    if follow and verb != "logs":
        raise UserError("--follow is for logs")
    if plain and verb != "list":
        raise UserError("--json is for list")
    if len(rest) != ARGUMENTS[verb]:
        raise UserError(f"write workers [RUN] {USAGE[verb]}")
    if verb == "logs":
        for line in workers_of(run).logs(rest[0], follow):
            say(line)
    elif verb == "scale":
        count = read_count(rest[0])
        say(workers_of(run).scale(count))
    elif verb == "stop":
        workers_of(run).stop()
    else:
        there = workers_of(run).list_workers()
        for line in [as_json(there)] if plain else listing(there):
            say(line)


@click.command(context_settings=SETTINGS)
@click.argument("words", nargs=-1, required=True, metavar="[RUN] COUNT")
def scale(words: tuple[str, ...]) -> None:
    """Have COUNT workers from now on in RUN, or in the newest run in runs that goes on."""
    if len(words) > 2:
        raise UserError("write scale [RUN] COUNT")
    count = read_count(words[-1])
    say(workers_of(Path(words[0]) if len(words) == 2 else None).scale(count))


ARGUMENTS = {"list": 0, "logs": 1, "scale": 1, "stop": 0}
USAGE = {"list": "list", "logs": "logs NAME", "scale": "scale COUNT", "stop": "stop"}


def divide(words: tuple[str, ...]) -> tuple[Path | None, str, tuple[str, ...]]:
    """The run, what is to be done, and the rest. Raises UserError.

    A folder that is called like something to do is written with a slash.
    """
    run: Path | None = None
    if words and words[0] not in ARGUMENTS:
        run, words = Path(words[0]), words[1:]
    verb, *rest = words or ("list",)
    if verb not in ARGUMENTS:
        raise UserError(f"workers cannot {verb!r}: there are {', '.join(USAGE.values())}")
    return run, verb, tuple(rest)


def read_count(text: str) -> int:
    """A number of workers. Raises UserError."""
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:9]) <= MOST_WORKERS):
        raise UserError(f"{text!r} is no number of workers, which is from 1 to {MOST_WORKERS}")
    return int(text)


def listing(handles: tuple[WorkerHandle, ...]) -> list[str]:
    """A table of the workers."""
    rows = [
        (each.name, each.where, each.status.value, str(each.restarts), each.reason)
        for each in handles
    ]
    return table.lines([HEADER, *rows], LEFT)


def workers_of(run: Path | None) -> LaunchedWorkers:
    """Those of the run in a directory; of the newest in ``runs`` that goes on. Raises UserError."""
    if run is not None:
        return attach(run, read_launch(run))
    for path in newest(RUNS):
        try:
            workers = attach(path, read_launch(path))
            workers.list_workers()
        except UserError:
            continue
        return workers
    raise UserError(f"no run in {RUNS} goes on: give the directory of one")


def newest(folder: Path) -> Iterator[Path]:
    """The runs that were launched, the last one first."""
    found = [path for path in folder.glob(f"*/{NAME}") if not path.parent.is_symlink()]
    for path in sorted(found, key=lambda path: path.stat().st_mtime, reverse=True):
        yield path.parent
