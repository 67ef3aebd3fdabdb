"""Train through faults with real processes, and end with the bits of a quiet run.

``python scripts/chaos.py --minutes 10 --workers 4`` kills, freezes and cuts off what it can;
``python scripts/chaos.py strangers`` lets hostile peers loose on a run;
``python scripts/chaos.py measure`` takes the numbers.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click
from rich.console import Console

from lab.faults import faulty_run, report, strangers
from lab.faults.bench import ObservationError, Row, Setting
from lab.faults.fleet import FleetError, Plan
from lab.faults.injector import targets_of
from lab.faults.machine import Network, NotAllowedError, seclude, why_no_disk, why_no_network
from lab.faults.measure import MEASURES, expected
from lab.faults.schedule import schedule
from lab.faults.timetable import Timetable
from microgpt.data.dataset import load_dataset
from microgpt.data.documents import DatasetError
from microgpt.engine import ENGINES
from microgpt.support import cli
from microgpt.support.cli import UserError, option
from microgpt.support.invocation import call_of

DISK_BYTES = 256 << 20
PACE_STEPS = 200
KEPT = 0.75  # of the quiet pace, as a guess at how long the faulty run will take
CHECKPOINT_SECONDS = 1.0
SAVES = 50  # checkpoints of a run whose length is given


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@option("--minutes", type=cli.Number(0.01), default=10.0, help="Time with faults, about.")
@option("--workers", type=cli.Whole(1), default=4, help="Worker processes.")
@option(
    "--aggregators", type=cli.Whole(0), default=0,
    help="Aggregators between the workers and the coordinator; faults hit them as well.",
)  # fmt: skip
@click.option("--seed", type=cli.Whole(0), help="Of the faults.  [default: a new one each time]")
@click.option(
    "--every",
    type=cli.Number(0.05),
    default=2.0,
    show_default=True,
    help="Seconds between two faults, on average.",
)
@click.option(
    "--steps",
    type=cli.Whole(1),
    help="Length of the runs.  [default: measured, to fill the minutes]",
)
@option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], help="How workers compute.")
@option("--data", default="names", help="As for training.")
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder for the runs.  [default: a temporary one, kept if anything is wrong]",
)
@click.pass_context
def main(
    context: click.Context, minutes: float, workers: int, aggregators: int, seed: int | None,
    every: float,
    steps: int | None, engine: str, data: str, keep: Path | None,
) -> int:  # fmt: skip
    """A quiet run, then the same run with faults: both must end with the same state."""
    if sys.platform != "linux":
        raise UserError("this program stops and cuts off processes as Linux can")
    signal.signal(signal.SIGTERM, on_terminate)
    if context.invoked_subcommand is not None:
        return 0
    seclude()
    console = Console()
    seed = secrets.randbelow(10**6) if seed is None else seed
    place = Path(tempfile.mkdtemp(prefix="microgpt-chaos-")) if keep is None else keep.absolute()
    place.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        documents = write_documents(data, place)
        network = open_network(console, stack)
        disk_bytes = usable_disk(console, place)
        say(console, f"seed {seed}: {call_of('chaos')} --seed {seed} repeats these faults")

        def plan(name: str, length: int, every_steps: int) -> Plan:
            flags = ("--steps", str(length), "--checkpoint-every", str(every_steps))
            common = (*flags, "--data", str(documents), "--quiet")
            worker = ("--engine", engine, "--quiet")
            return Plan(place / name, workers, common, worker, aggregators)

        try:
            length, saving = steps or 0, max(1, (steps or 0) // SAVES)
            if not length:
                with report.Screen(console, "pace", PACE_STEPS).showing() as screen:
                    pace = faulty_run.conduct(
                        plan("pace", 10**6, 10**6), iter(()), screen,
                        network=network, stop_after=PACE_STEPS,
                    ).rate  # fmt: skip
                length = max(50, int(minutes * 60 * pace * KEPT))
                saving = max(1, int(pace * CHECKPOINT_SECONDS))
            with report.Screen(console, "quiet run", length).showing() as screen:
                calm = faulty_run.conduct(
                    plan("quiet", length, saving), iter(()), screen,
                    network=network, disk_size=disk_bytes,
                )  # fmt: skip
            targets = targets_of(workers, network is not None, disk_bytes > 0, aggregators)
            faults = schedule(seed, every, targets)
            with report.Screen(console, "faulty run", length).showing() as screen:
                under_fire = faulty_run.conduct(
                    plan("faulty", length, saving), faults, screen,
                    network=network, disk_size=disk_bytes,
                )  # fmt: skip
        except FleetError as error:
            raise UserError(f"{error} (the runs are in {place}; seed {seed})") from error
    report.report(console, calm, under_fire)
    wrong = report.verdict(calm, under_fire)
    if wrong:
        for text in wrong:
            say(console, f"WRONG: {text}")
        return cli.complain(f"the faulty run differs; see {place}, seed {seed}", 1)
    say(console, f"the same bits: state_sha256 {under_fire.state_sha256}")
    if keep is None:
        shutil.rmtree(place)
    return 0


@main.command("measure")
@click.option("--only", type=click.Choice(tuple(MEASURES)), multiple=True, help="These alone.")
@click.option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True)
@click.option("--data", default="names", show_default=True, help="As for training.")
@click.option("--scale", type=cli.Number(0.0001), default=1.0, show_default=True,
              help="How much of everything; less is quicker.")  # fmt: skip
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the numbers there.")
def measure(
    only: tuple[str, ...], engine: str, data: str, scale: float, target: Path | None
) -> int:
    """Take the numbers: a table, and an error for every goal that is missed."""
    console = Console()
    rows: list[Row] = []
    names = only or tuple(MEASURES)
    timetable = Timetable([(name, expected(name, scale)) for name in names])
    for name in names:
        place = Path(tempfile.mkdtemp(prefix="microgpt-measure-"))
        setting = Setting(place, write_documents(data, place), engine, scale)
        try:
            with timetable.next():
                for row in MEASURES[name](setting):
                    rows.append(row)
                    say(console, f"{row.what}: {row.value} (goal: {row.goal})")
        except (FleetError, ObservationError) as error:
            raise UserError(f"{name}: {error} (the run is in {place})") from error
        shutil.rmtree(place)
    report.table_of(console, rows)
    if target is not None:
        plain = {"engine": engine, "scale": scale, "rows": [asdict(row) for row in rows]}
        target.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    missed = [row.what for row in rows if row.good is False]
    return cli.complain(f"goals missed: {', '.join(missed)}", 1) if missed else 0


@main.command("strangers")
@option("--minutes", type=cli.Number(0.01), default=10.0, help="Time under attack, about.")
@option("--workers", type=cli.Whole(1), default=2, help="Honest worker processes.")
@click.option("--seed", type=cli.Whole(0), help="Of the attacks.  [default: a new one each time]")
@click.option("--only", type=click.Choice(tuple(strangers.UNITS)), multiple=True,
              help="These kinds of attacks alone.")  # fmt: skip
@click.option("--engine", type=click.Choice(ENGINES), default=ENGINES[0], show_default=True)
@click.option("--data", default="names", show_default=True, help="As for training.")
@click.option("--least", type=cli.Number(0.0, 1.0), default=0.5, show_default=True,
              help="Share of the quiet run's steps per second that must be kept.")  # fmt: skip
@click.option(
    "--keep",
    type=click.Path(path_type=Path),
    help="Folder for the runs.  [default: a temporary one, kept if anything is wrong]",
)
@click.option("--json", "target", type=click.Path(path_type=Path), help="Write the verdict there.")
def strangers_command(
    minutes: float, workers: int, seed: int | None, only: tuple[str, ...], engine: str, data: str,
    least: float, keep: Path | None, target: Path | None,
) -> int:  # fmt: skip
    """A quiet run, then the same run under all attacks of strangers and members at once.

    No process may end, none may take 64 MiB more, half of the steps per second must remain, and
    the state must be the same in the end. The attackers run with the lowest priority: on a real
    network they would not take this machine's processors.
    """
    console = Console()
    seed = secrets.randbelow(10**6) if seed is None else seed
    place = (
        Path(tempfile.mkdtemp(prefix="microgpt-strangers-")) if keep is None else keep.absolute()
    )
    place.mkdir(parents=True, exist_ok=True)
    say(console, f"seed {seed}: {call_of('chaos')} strangers --seed {seed} attacks so again")
    common = ("--data", str(write_documents(data, place)), "--keep-last", "3", "--quiet")
    plan = strangers.Plan(place, workers, engine, common)
    try:
        rows, digest = strangers.compare(
            console, plan, minutes, only or tuple(strangers.UNITS), seed, least
        )
    except FleetError as error:
        raise UserError(f"{error} (the runs are in {place}; seed {seed})") from error
    report.table_of(console, rows)
    if target is not None:
        plain = {"seed": seed, "minutes": minutes, "rows": [asdict(row) for row in rows]}
        target.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
    missed = [row.what for row in rows if row.good is False]
    if missed:
        return cli.complain(f"not as promised: {', '.join(missed)}; see {place}, seed {seed}", 1)
    say(console, f"the same bits: state_sha256 {digest}")
    if keep is None:
        shutil.rmtree(place)
    return 0


def say(console: Console, text: str) -> None:
    """One line, as it is."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def on_terminate(number: int, frame: FrameType | None) -> None:
    """Undo everything (namespaces, mounts, processes) on the way out, as for Ctrl-C."""
    sys.exit(cli.TERMINATED)


def write_documents(data: str, place: Path) -> Path:
    """The data as a file: fetched once, not by every coordinator that starts. Raises UserError."""
    try:
        documents = load_dataset(data, report=print).documents
    except DatasetError as error:
        raise UserError(str(error)) from error
    path = place / "documents.txt"
    path.write_text("".join(document + "\n" for document in documents), encoding="utf-8")
    return path


def open_network(console: Console, stack: contextlib.ExitStack) -> Network | None:
    """Two namespaces for this run, or None with a line that says why not."""
    reason = why_no_network()
    if reason:
        say(console, f"skipped: link down ({reason})")
        return None
    try:
        network = Network(f"mgpt{os.getpid()}")
    except NotAllowedError as error:
        raise UserError(str(error)) from error
    stack.callback(network.close)
    return network


def usable_disk(console: Console, place: Path) -> int:
    """How large a disk of our own may be; 0, and a line that says why, if there can be none."""
    reason = why_no_disk(place)
    if reason:
        say(console, f"skipped: disk full, disk read-only ({reason})")
    return 0 if reason else DISK_BYTES
