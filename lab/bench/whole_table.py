"""What ``bench.py whole`` prints: a row for each cell, and what comes of comparing them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lab.bench.anatomy import Anatomy, drawn
from lab.bench.cells import BARE, COMPUTING, ENGINE, SYSTEM, Cell, Measured
from lab.bench.figures import Figure, by_cell, ratios, step_figures
from lab.bench.peers.c_file import CRun
from lab.bench.peers.ddp import DDP, PROCESSES

WIDTH, BAR_WIDTH = 150, 120
EMPTY = ""


def show(
    measured: Sequence[Measured],
    anatomies: Sequence[Anatomy],
    c_runs: Mapping[str, Sequence[CRun]],
) -> None:
    """Print everything; of the anatomies those of the smallest width and batch."""
    console = Console(width=WIDTH)
    console.print(speeds(measured))
    console.print(sizes(measured))
    console.print(comparisons(measured))
    for anatomy in shown_anatomies(anatomies):
        console.print(drawn(anatomy), width=BAR_WIDTH)
    for file, runs in c_runs.items():
        figure = Figure.of([run.seconds for run in runs])
        console.print(f"{file}: {spread(figure, 1.0, 3)} s for a run, which prints in the end")
        console.print("\n".join(runs[-1].output.splitlines()[-3:]), markup=False)


def speeds(measured: Sequence[Measured]) -> Table:
    """Microseconds of a step, with the spread over the repeats."""
    figures = step_figures(measured)
    kinds = [kind for kind in DDP if any(kind == found for found, _ in figures)]
    table = Table(
        "width", "batch", "workers", "whole system", "documents/s", "bare loop", "bare, no compute",
        "engine alone", *kinds, title="us per step: median, and min..max of the repeats",
    )  # fmt: skip
    told = set[Cell]()  # whose engine alone stands in a row above
    for cell in cells(measured):
        whole, one = figures[SYSTEM, cell], cell._replace(workers=1)
        alone = None if one in told else figures.get((ENGINE, one))
        told.add(one)
        row = [
            stacked(whole),
            f"{cell.batch / whole.median:,.0f}",
            shown(figures.get((COMPUTING, cell))),
            shown(figures.get((BARE, cell))),
            shown(alone),
        ]
        beside = [figures.get((kind, cell)) for kind in kinds if cell.workers == PROCESSES]
        row += [shown(figure) for figure in beside] or [EMPTY] * len(kinds)
        table.add_row(str(cell.width), str(cell.batch), str(cell.workers), *row)
    return table


def sizes(measured: Sequence[Measured]) -> Table:
    """Bytes of a step: what the coordinator sends and what it receives."""
    runs = by_cell(measured)
    table = Table(
        "width", "batch", "workers", "whole: sent", "received", "bare: sent", "received",
        title="bytes per step",
    )  # fmt: skip
    for cell in cells(measured):
        row = list[str]()
        for kind in (SYSTEM, COMPUTING):
            found = runs.get((kind, cell))
            row += [f"{found[-1].sent:,}", f"{found[-1].received:,}"] if found else [EMPTY] * 2
        table.add_row(str(cell.width), str(cell.batch), str(cell.workers), *row)
    return table


def comparisons(measured: Sequence[Measured]) -> Table:
    """Each ratio with its spread."""
    table = Table("what", "width", "batch", "workers", "ratio", title="compared, repeat by repeat")
    for ratio in sorted(ratios(measured), key=lambda each: each.what):
        cell = ratio.cell
        numbers = (cell.width, cell.batch, cell.workers)
        table.add_row(ratio.what, *map(str, numbers), spread(ratio.figure, 1.0, 2))
    return table


def shown_anatomies(anatomies: Sequence[Anatomy]) -> list[Anatomy]:
    """One for each number of workers, of the smallest width and batch, from the last repeat."""
    least = min(((each.cell.width, each.cell.batch) for each in anatomies), default=None)
    fitting = [each for each in anatomies if (each.cell.width, each.cell.batch) == least]
    return list({each.cell.workers: each for each in fitting}.values())


def cells(measured: Sequence[Measured]) -> list[Cell]:
    """Those of the whole system, by width, batch and workers."""
    found = {each.cell for each in measured if each.kind == SYSTEM}
    return sorted(found, key=lambda cell: (cell.width, cell.batch, cell.workers))


def shown(figure: Figure | None) -> str:
    """Nothing for what was not measured."""
    return EMPTY if figure is None else stacked(figure)


def stacked(figure: Figure) -> str:
    """Microseconds: the median, and in the line below it the range."""
    median, _, rest = spread(figure).partition(" ")
    return f"{median}\n{rest[1:-1]}"


def spread(figure: Figure, unit: float = 1e-6, digits: int = 0) -> str:
    """Median and range, in so many of a unit."""
    median, least, most = (
        f"{number / unit:,.{digits}f}" for number in (figure.median, figure.least, figure.most)
    )
    return f"{median} ({least}..{most})"
