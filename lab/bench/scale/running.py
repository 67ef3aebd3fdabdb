"""Short real runs, from which costs are taken and which the model is compared with."""

from __future__ import annotations

import os
import platform
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click

from lab.bench import system
from lab.bench.cells import Cell
from lab.bench.progress import Steps
from lab.bench.scale.costs import Calibration, Seen, cells_for, costs_of
from lab.bench.scale.waiting import Shares, read_shares


class Watched(NamedTuple):
    """A run, and what its workers did with their time; None if it was too short to say."""

    seen: Seen
    shares: Shares | None


def watch(cell: Cell, repeat: int, seconds: float, data: str, flags: Sequence[str] = ()) -> Watched:
    """Train for so long with the workers of a cell, and more flags. Raises ClickException."""
    found = list[Shares | None]()
    measured, anatomy = system.measure(
        cell, repeat, seconds, ("--data", data, "--events", "rounds", *flags),
        lambda run_dir: found.append(read_shares(run_dir)),
    )  # fmt: skip
    if anatomy is None:
        raise click.ClickException("the clocks of a run have written nothing")
    return Watched(Seen(measured, anatomy), found[0])


def by_turns(
    title: str,
    cells: Sequence[tuple[int, int]],
    width: int,
    repeats: int,
    seconds: float,
    data: str,
    flags: Sequence[str] = (),
) -> dict[tuple[int, int], list[Watched]]:
    """All of them by turns, so that whatever else the machine does hits all alike.

    ``cells`` as (workers, documents). ``title`` tells of progress. Raises ClickException.
    """
    steps = Steps(title, repeats * len(cells))
    runs: dict[tuple[int, int], list[Watched]] = {cell: [] for cell in cells}
    for repeat in range(repeats):
        for cell in cells:
            turn = f"turn {repeat + 1} of {repeats}, workers: {cell[0]}, batch {cell[1]}"
            with steps.next(turn):
                runs[cell].append(watch(Cell(*cell, width), repeat, seconds, data, flags))
    return runs


def middle(runs: Sequence[Watched]) -> Watched:
    """The run of the median step; of two the faster one."""
    return sorted(runs, key=lambda run: run.seen.measured.step)[(len(runs) - 1) // 2]


def typical(runs: Sequence[Watched]) -> Seen:
    """The median of each number of these runs: whatever disturbs one of them does not count."""
    first = runs[0].seen
    steps = statistics.median(run.seen.measured.step for run in runs)
    anatomies = [run.seen.anatomy for run in runs]
    processor = {
        name: statistics.median(each.processor[name] for each in anatomies)
        for name in first.anatomy.processor
    }
    processes = {
        name: {
            phase: statistics.median(each.processes[name][phase] for each in anatomies)
            for phase in phases
        }
        for name, phases in first.anatomy.processes.items()
    }
    anatomy = replace(first.anatomy, processor=processor, processes=processes)
    return Seen(replace(first.measured, step=steps), anatomy)


def calibrate(
    width: int, data: str, seconds: float, repeats: int, flags: Sequence[str] = ()
) -> Calibration:
    """Measure what a step costs here: a few short runs by turns. Raises ClickException."""
    cells = cells_for(processors())
    runs = by_turns("calibration", cells, width, repeats, seconds, data, flags)
    return calibrated(runs, width, data)


def calibrated(
    runs: Mapping[tuple[int, int], Sequence[Watched]], width: int, data: str
) -> Calibration:
    """What follows from the runs of the calibration, and where they were made."""
    number = processors()
    found = costs_of({cell: typical(runs[cell]) for cell in cells_for(number)}, number)
    return Calibration(found, platform.platform(), number, width, data)


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
