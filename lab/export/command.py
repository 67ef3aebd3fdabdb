"""``microgpt export``: hands the record of a run to TensorBoard, trackio or wandb."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Protocol

import click

from lab.export.needs import AUTO, PROJECT, require
from lab.export.reader import RecordReader
from lab.export.rows import Row
from lab.export.tensorboard import TensorBoard
from lab.export.trackers import Tracker
from lab.report.ending import is_owned
from lab.report.reading import RunError, RunRecord, Scalar, read_head
from lab.report.samples import read_samples
from microgpt.support import signals
from microgpt.support.cli import UserError, say

NICE = 10  # training comes first
LOOK_SECONDS = 1.0  # between two looks at the files
FOLDER = "tensorboard"  # in the run directory


class Writer(Protocol):
    """Takes what is known of a run."""

    def write(self, row: Row) -> None:
        """Numbers of a step."""

    def write_samples(self, step: int, documents: list[str]) -> None:
        """What the model invents after a step."""

    def flush(self) -> None:
        """Let others see what was written."""

    def close(self) -> None:
        """The end."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--tensorboard", metavar="[DIR]", is_flag=False, flag_value=AUTO,
    help="Write files for TensorBoard into DIR/NAME-OF-THE-RUN, or without DIR into "
    f"RUN/{FOLDER}: tensorboard --logdir DIR.",
)  # fmt: skip
@click.option(
    "--trackio", metavar="[PROJECT]", is_flag=False, flag_value=PROJECT,
    help=f"Log to a project of trackio, {PROJECT} if none is named.",
)  # fmt: skip
@click.option(
    "--wandb", metavar="[PROJECT]", is_flag=False, flag_value=PROJECT,
    help="Log to a project of wandb, likewise.",
)  # fmt: skip
@click.option("--follow", is_flag=True, help="Go on until the run is over.")
@click.option("--announce", type=int, default=None, hidden=True, help="Descriptor: we have begun.")
@click.option("--parent", type=int, default=0, hidden=True, help="Who trains, and tells the end.")
def main(
    run: Path,
    follow: bool,
    announce: int | None,
    parent: int,
    **targets: str | None,
) -> None:
    """Hand the record of RUN to other programs: losses, rates, norms, samples, settings.

    Norms of gradients and the strategy's numbers are there if it was trained with --events rounds
    or full.
    """
    chosen = {name: where for name, where in targets.items() if where}
    if not chosen:
        raise UserError("say where to: --tensorboard [DIR], --trackio [PROJECT], --wandb [PROJECT]")
    for name in chosen:
        require(name)
    stop = Stop(child=bool(parent))
    if announce is not None:
        os.close(announce)  # from here on we see to it that all is handed over
    try:
        head = find_head(run, stop if follow else None)
    except UserError:
        if stop.child:
            return  # who trains has not come so far, and says why
        raise
    os.nice(NICE)
    writers = [writer_of(name, where, head) for name, where in chosen.items()]
    try:
        last = export(head, writers, stop if follow else None)
    except OSError as error:
        raise UserError(f"{error.filename or 'the export'}: {error.strerror}") from error
    say(f"{head.name} is exported up to step {last:,}")


class Stop(threading.Event):
    """Set by the first signal that wants an end, which comes after what is there is handed over.

    ``child``: of a training, which tells us its end; Ctrl-C at its terminal is for that alone.
    """

    def __init__(self, child: bool) -> None:
        super().__init__()
        self.child = child
        for number in signals.SIGNALS:
            signal.signal(number, self._on_signal)
        if child:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.is_set():
            os._exit(128 + number)  # whoever receives what we send takes too long
        self.set()


def find_head(run: Path, stop: Stop | None) -> RunRecord:
    """What the run says of itself, as soon as it does if we follow it. Raises UserError."""
    while True:
        last = stop is None or stop.is_set() or not is_owned(run)  # asked before we look
        try:
            return read_head(run)
        except RunError as error:
            if last or stop is None:
                raise UserError(str(error)) from error
            stop.wait(LOOK_SECONDS)


def writer_of(name: str, where: str, head: RunRecord) -> Writer:
    """Who writes to a target, ``where`` in it. Raises UserError."""
    if name != "tensorboard":
        return Tracker(name, where, head.name, settings_of(head))
    folder = head.path / FOLDER if where == AUTO else Path(where) / head.name
    return TensorBoard(folder, settings_of(head))


def settings_of(head: RunRecord) -> dict[str, Scalar]:
    """What a run was trained with, by simple names."""
    settings: dict[str, Scalar] = {
        "strategy": head.strategy, "promise": head.promise, "steps": head.total, **head.settings
    }  # fmt: skip
    if head.conditions:
        settings["conditions"] = " ".join(head.conditions)
    return settings


def export(head: RunRecord, writers: list[Writer], stop: Stop | None) -> int:
    """Hand over all there is; with ``stop`` also what comes, until that is set or the run is over.

    Returns the last step. Raises OSError.
    """
    reader, last = RecordReader(head.path), 0
    for row in _rows(reader, head.path, writers, stop):
        for writer in writers:
            writer.write(row)
        last = row.step
    for step, documents in read_samples(head).invented:
        for writer in writers:
            writer.write_samples(step, [*documents])
    for writer in writers:
        writer.close()
    for text in reader.complaints:
        say(f"warning: {text}", error=True)
    return last


def _rows(
    reader: RecordReader, path: Path, writers: list[Writer], stop: Stop | None
) -> Iterator[Row]:
    while stop is not None and not stop.is_set():
        # Asked before what is read for the last time. Who trains tells us the end.
        over = (reader.finished and not stop.child) or not is_owned(path)
        yield from reader.poll()
        for writer in writers:
            writer.flush()
        if over:
            break
        stop.wait(LOOK_SECONDS)
    yield from reader.rest()
