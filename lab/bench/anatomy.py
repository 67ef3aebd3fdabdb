"""Where the time of a step goes, in the coordinator and in each worker, phase by phase.

Read from the clocks of the processes (``microgpt.support.step_clock``), beside the run's record.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from lab.bench.cells import Cell
from microgpt.support import step_clock
from microgpt.support.step_clock import StepTimes

COORDINATOR = "coordinator"  # what the file of its times is called, without the suffix
ENGINE, UPDATE = "engine", ("tree sum", "update")
BAR = 60  # letters of a bar
IN_A_LINE = 4  # phases of the legend
#: Letter and colour of each phase in a bar.
LOOKS: dict[str, tuple[str, str]] = {
    "waiting": ("w", "black on bright_black"),
    "idle": ("i", "black on bright_black"),
    "receive": ("r", "black on blue"),
    "decode": ("d", "black on cyan"),
    "engine": ("E", "black on green"),
    "tree sum": ("T", "black on green"),
    "update": ("U", "black on bright_green"),
    "encode": ("e", "black on yellow"),
    "send": ("s", "black on magenta"),
    "rest": (".", "black on white"),
}


@dataclass(frozen=True)
class Anatomy:
    """The mean step of a run in seconds, by its record, and by process and phase.

    ``processes``: the coordinator first, then the workers by their names; each adds up to the step.
    ``coordination``: the median over the steps of what is left of one without the slowest worker's
    arithmetic, the tree sum and the update. ``processor``: seconds for which each process had a
    processor, with all its threads.
    """

    cell: Cell
    repeat: int
    step: float
    coordination: float
    processes: dict[str, dict[str, float]]
    processor: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        plain = {**vars(self), **self.cell._asdict()}
        del plain["cell"]
        return plain


def read(
    folder: Path, cell: Cell, repeat: int, records: Sequence[Mapping[str, Any]]
) -> Anatomy | None:
    """What the clocks of a run's processes have written into a folder, for these steps of it.

    None if there is nothing. Raises ValueError for a file of another version.
    """
    files = sorted(folder.glob("*.json"), key=lambda path: (path.stem != COORDINATOR, path.stem))
    seconds = {int(record["step"]): float(record["seconds"]) for record in records}
    times = {
        path.stem: [each for each in step_clock.read(path) if each.step in seconds]
        for path in files
    }
    if not times.get(COORDINATOR):
        return None
    seen = {name: found for name, found in times.items() if found}
    return Anatomy(
        cell,
        repeat,
        statistics.fmean(seconds.values()),
        coordination(seconds, times),
        {name: mean_phases(found) for name, found in seen.items()},
        {name: sum(each.processor for each in found) / span(found) for name, found in seen.items()},
    )


def mean_phases(times: Sequence[StepTimes]) -> dict[str, float]:
    """Seconds of each phase in the mean step, from the first of these to the last.

    A worker that had nothing to do in a step has none of it: its time is in the one before.
    """
    total: dict[str, float] = {}
    for each in times:
        for phase, seconds in each.seconds.items():
            total[phase] = total.get(phase, 0.0) + seconds
    return {phase: seconds / span(times) for phase, seconds in total.items()}


def span(times: Sequence[StepTimes]) -> int:
    """How many steps there are from the first of these to the last."""
    return times[-1].step - times[0].step + 1


def coordination(seconds: Mapping[int, float], times: Mapping[str, Sequence[StepTimes]]) -> float:
    """See ``Anatomy``; ``seconds`` of the steps by their numbers."""
    slowest: dict[int, float] = {}
    for name, found in times.items():
        for each in found:
            if name != COORDINATOR:
                engine = each.seconds[ENGINE]
                slowest[each.step] = max(engine, slowest.get(each.step, 0.0))
    return statistics.median(
        seconds[each.step]
        - sum(each.seconds[phase] for phase in UPDATE)
        - slowest.get(each.step, 0.0)
        for each in times[COORDINATOR]
    )


def drawn(anatomy: Anatomy) -> Table:
    """For each process a bar, and below it what its letters stand for."""
    cell = anatomy.cell
    table = Table.grid("", "", padding=(0, 1))
    table.title_justify, table.title = (
        "left",
        (
            f"a step of {1e6 * anatomy.step:,.0f} us: width {cell.width}, batch {cell.batch}, "
            f"workers: {cell.workers}"
        ),
    )
    for name, phases in anatomy.processes.items():
        table.add_row(name, bar(phases))
        table.add_row("", legend(phases))
        table.add_row("", f"{1e6 * anatomy.processor[name]:,.0f} us of a processor")
    return table


def bar(phases: Mapping[str, float]) -> Text:
    """A letter for each share of the step."""
    text = Text()
    for phase, letters in shares(phases, BAR).items():
        letter, style = LOOKS[phase]
        text.append(letter * letters, style=style)
    return text


def legend(phases: Mapping[str, float]) -> Text:
    """Each phase with its letter, its time and its share."""
    whole, entries = sum(phases.values()), list[Text]()
    for phase, seconds in phases.items():
        letter, style = LOOKS[phase]
        shown = f" {phase} {1e6 * seconds:,.0f} us ({seconds / whole:.0%})"
        entries.append(Text.assemble((letter, style), shown))
    lines = [entries[at : at + IN_A_LINE] for at in range(0, len(entries), IN_A_LINE)]
    return Text("\n").join(Text("   ").join(line) for line in lines)


def shares(phases: Mapping[str, float], letters: int) -> dict[str, int]:
    """So many letters divided among the phases in proportion; what is left goes to the largest
    remainders, so that all are used.
    """
    whole = sum(phases.values())
    exact = {phase: letters * seconds / whole for phase, seconds in phases.items()}
    found = {phase: int(share) for phase, share in exact.items()}
    most_left = sorted(exact, key=lambda phase: found[phase] - exact[phase])
    for phase in most_left[: letters - sum(found.values())]:
        found[phase] += 1
    return found
