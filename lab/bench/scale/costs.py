"""What the parts of a step cost here: measured by a few short runs, and kept in a small file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from lab.bench.anatomy import COORDINATOR, ENGINE, Anatomy
from lab.bench.cells import Measured
from lab.bench.scale.model import Costs, star
from lab.bench.scale.sharing import Network

VERSION = 2  # of the file
#: Of the runs that costs come from, those with one worker, as (workers, documents).
SMALL, LARGE = (1, 64), (1, 512)
MOST_PROCESSORS = 8  # that are kept busy to see what a crowd costs
DOCUMENT_UP = 8.0  # bytes: its loss
LEAST = 1e-9  # seconds: nothing takes no time
GIVING = ("encode", "send")
TAKING = ("receive", "decode", "tree sum")


class Cells(NamedTuple):
    """The runs that costs come from, as (workers, documents): two sizes with one worker, and in a
    crowd few workers with many documents each, and many with few. Processors can be shared evenly.
    """

    small: tuple[int, int]
    large: tuple[int, int]
    few: tuple[int, int]
    many: tuple[int, int]


def cells_for(processors: int) -> Cells:
    """The runs on a machine with so many processors. All others that are compared with the model
    are predictions.
    """
    busy = min(processors, MOST_PROCESSORS)
    return Cells(SMALL, LARGE, (busy, 256 * busy), (4 * busy, 64 * busy))


class Seen(NamedTuple):
    """A run: its median step, and where the time of its processes went."""

    measured: Measured
    anatomy: Anatomy


@dataclass(frozen=True)
class Calibration:
    """``costs`` and where they are from: a machine, its processors, a width and documents."""

    costs: Costs
    machine: str
    processors: int
    width: int
    data: str

    def to_json(self) -> str:
        """The text of the file."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2) + "\n"


def read(path: Path) -> Calibration:
    """A file of costs. Raises ClickException with one line for what is none."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain.pop("version") != VERSION:
            raise ValueError(f"it is not of version {VERSION}")
        costs = Costs(**{name: _positive(name, each) for name, each in plain.pop("costs").items()})
        return Calibration(costs, **plain)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise click.ClickException(f"{path} is no file of costs: {error}") from error


def _positive(name: str, number: Any) -> float:
    if not isinstance(number, int | float) or not 0.0 <= number < 1e12:
        raise ValueError(f"{name} is {number!r}")
    return float(number)


def with_given(costs: Costs | None, given: Sequence[tuple[str, float]]) -> Costs:
    """With some of them as a user wants them; None: all that are needed."""
    return Costs(**dict(given)) if costs is None else replace(costs, **dict(given))


NAMES = tuple(field.name for field in fields(Costs))
#: Without these there is nothing to say; the others are nothing where nobody gives them.
NEEDED = frozenset(field.name for field in fields(Costs) if field.default is MISSING)


def costs_of(seen: Mapping[tuple[int, int], Seen], processors: int) -> Costs:
    """From the runs of ``cells_for``. A median step of one worker is what the model must give.

    Processes are taken for what they had of a processor, with all their threads, which others do
    not lengthen as they do the time of day.
    """
    used = {cell: _used(run) for cell, run in seen.items()}
    small, large = used[SMALL], used[LARGE]
    more = LARGE[1] - SMALL[1]
    document = (large.worker - small.worker) / more
    document = max(LEAST, min(document, small.worker / SMALL[1]))  # beside is no less than nothing
    beside = small.worker - SMALL[1] * document
    call = min(beside, max(0.0, (LARGE[1] * small.engine - SMALL[1] * large.engine) / more))
    # Of a step with one worker, that one does not work while the coordinator takes its answer in,
    # makes the step and sends the next weights. What else the coordinator does is done ahead.
    step_document = max(0.0, (large.rest - small.rest) / more)
    ahead_document = max(0.0, (large.ahead - small.ahead) / more)
    cells = cells_for(processors)
    many, (workers, documents) = used[cells.many], cells.many
    alone = small.coordinator + (documents - SMALL[1]) * (step_document + ahead_document)
    shard = min(max(LEAST, (many.coordinator - alone) / (workers - 1)), small.rest)
    send = shard * _share_of_giving(seen[SMALL], seen[cells.many])
    step = max(0.0, small.rest - SMALL[1] * step_document - shard)
    ahead = max(0.0, small.ahead - SMALL[1] * ahead_document)
    slope, start = _crowded_worker(used[cells.few], many, cells)
    crowding = max(1.0, slope / document)
    switching = max(0.0, start - (beside - call) - call * crowding)
    sent = [seen[cell].measured.sent for cell in (SMALL, LARGE)]
    document_down = max(0.0, (sent[1] - sent[0]) / more)
    vector = seen[SMALL].measured.received - DOCUMENT_UP * SMALL[1]
    found = Costs(
        step, send, shard - send, beside - call, call, document, vector, document_down, DOCUMENT_UP,
        ahead, step_document, ahead_document, crowding, switching,
    )  # fmt: skip
    return replace(found, turns=_turns(found, used, processors))


def _turns(costs: Costs, used: Mapping[tuple[int, int], _Used], processors: int) -> float:
    """How much longer steps in a crowd are than other costs explain, in the mean of two runs."""
    if processors > MOST_PROCESSORS:
        return 1.0  # there was none
    ratios = [
        used[cell].step / star(costs, Network(), *cell, processors).seconds
        for cell in cells_for(processors)[2:]
    ]
    return max(1.0, statistics.geometric_mean(ratios))


class _Used(NamedTuple):
    """Seconds of a step: of all of it, and of processors for the coordinator and for each worker,
    of which its ``engine`` has some.
    """

    step: float
    coordinator: float
    worker: float
    engine: float

    @property
    def rest(self) -> float:
        """Of a step with one worker, for which that one has nothing to do."""
        return max(LEAST, self.step - self.worker)

    @property
    def ahead(self) -> float:
        """What the coordinator does besides, while that worker computes."""
        return max(0.0, self.coordinator - self.rest)


def _used(seen: Seen) -> _Used:
    processor = dict(seen.anatomy.processor)
    coordinator = processor.pop(COORDINATOR)
    engine = statistics.fmean(seen.anatomy.processes[name][ENGINE] for name in processor)
    return _Used(seen.measured.step, coordinator, statistics.fmean(processor.values()), engine)


def _share_of_giving(one: Seen, many: Seen) -> float:
    """What the coordinator does more for more workers: which share of it to give shards out.

    By its clock; what is neither giving nor taking is divided in halves.
    """
    few, lot = (each.anatomy.processes[COORDINATOR] for each in (one, many))
    giving, taking = (max(LEAST, _sum(lot, each) - _sum(few, each)) for each in (GIVING, TAKING))
    rest = max(0.0, lot["rest"] - few["rest"])
    return (giving + rest / 2) / (giving + taking + rest)


def _crowded_worker(few: _Used, many: _Used, cells: Cells) -> tuple[float, float]:
    """Seconds of a worker in a crowd for a document, and beside all documents."""
    documents = [cell[1] / cell[0] for cell in (cells.few, cells.many)]
    slope = (few.worker - many.worker) / (documents[0] - documents[1])
    return slope, many.worker - documents[1] * slope


def _sum(phases: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(phases[name] for name in names)
