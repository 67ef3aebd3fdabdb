"""Short real runs, from which costs are taken and which the model is compared with."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from lab.bench import system
from lab.bench.cells import Cell
from lab.bench.progress import Steps
from lab.bench.scale import costs
from lab.bench.scale.costs import CALIBRATION, Calibration, Seen
from lab.bench.scale.waiting import Shares, read_shares


class Watched(NamedTuple):
    """A run, and what its workers did with their time; None if it was too short to say."""

    seen: Seen
    shares: Shares | None


def watch(cell: Cell, repeat: int, seconds: float, data: str) -> Watched:
    """Train for so long with the workers of a cell. Raises ClickException."""
    found = list[Shares | None]()
    measured, anatomy = system.measure(
        cell, repeat, seconds, ("--data", data, "--events", "rounds"),
        lambda run_dir: found.append(read_shares(run_dir)),
    )  # fmt: skip
    if anatomy is None:
        raise click.ClickException("the clocks of a run have written nothing")
    return Watched(Seen(measured, anatomy), found[0])


def calibrate(width: int, data: str, seconds: float) -> Calibration:
    """Measure what a step costs here: three short runs."""
    steps, seen = Steps("calibration", len(CALIBRATION)), dict[tuple[int, int], Seen]()
    for place in CALIBRATION:
        with steps.next(f"workers: {place[0]}, batch {place[1]}"):
            seen[place] = watch(costs.cell(place, width), 0, seconds, data).seen
    return calibrated(seen, width, data)


def calibrated(seen: Mapping[tuple[int, int], Seen], width: int, data: str) -> Calibration:
    """What follows from the runs of the calibration, and where they were made."""
    machine = platform.platform()
    return Calibration(costs.costs_of(seen), machine, processors(), width, data)


def processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def written(path: Path | None) -> Iterator[None]:
    """What cannot be written is one line."""
    try:
        yield
    except OSError as error:
        raise click.ClickException(f"{path} cannot be written: {error.strerror}") from error
