"""What the parts of a step cost here: measured by a few short runs, and kept in a small file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import click

from lab.bench.anatomy import COORDINATOR, ENGINE, Anatomy
from lab.bench.cells import Cell, Measured
from lab.bench.scale.model import Costs

VERSION = 1  # of the file
#: The runs that costs come from, as (workers, documents): two sizes with one worker, and one run
#: with two. All else that is compared with the model is a prediction.
SMALL, LARGE, TWO = (1, 32), (1, 512), (2, 512)
CALIBRATION = (SMALL, LARGE, TWO)
DOCUMENT_UP = 8.0  # bytes: its loss
LEAST = 1e-9  # seconds: nothing takes no time
GIVING = ("encode", "send")
TAKING = ("receive", "decode", "tree sum")


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
    """With some of them as a user wants them; None: all of them."""
    return Costs(**dict(given)) if costs is None else replace(costs, **dict(given))


NAMES = tuple(field.name for field in fields(Costs))


def costs_of(seen: Mapping[tuple[int, int], Seen]) -> Costs:
    """From the runs of ``CALIBRATION``. A median step of one worker is what the model must give.

    A call of the engine and its documents: from two sizes of a batch. What the coordinator does
    once in a step and for each shard: from one and two workers. ``crowding``: how much longer each
    of two engines takes than the one would for as many documents.
    """
    small, large, two = (seen[cell] for cell in CALIBRATION)
    engine = [_worker(each)[ENGINE] for each in (small, large, two)]
    documents = [cell[1] for cell in CALIBRATION]
    document = (engine[1] - engine[0]) / (documents[1] - documents[0])
    document = max(LEAST, min(document, engine[0] / documents[0]))  # a call takes no less than 0
    call = engine[0] - documents[0] * document
    share = documents[2] / 2
    crowding = max(1.0, engine[2] / (call + share * document))
    one, both = _coordinator(small), _coordinator(two)
    send = max(LEAST, _sum(both, GIVING) - _sum(one, GIVING), _sum(one, GIVING) / 2)
    receive = max(LEAST, _sum(both, TAKING) - _sum(one, TAKING), _sum(one, TAKING) / 2)
    # What is left of a step is the coordinator's own and the worker's, in the ratio of what they
    # are seen to do: so that a worker's step comes to what was measured.
    rest = small.measured.step - engine[0] - send - receive
    beside = sum(
        seconds for phase, seconds in _worker(small).items() if phase not in (ENGINE, "idle")
    )
    own = sum(seconds for phase, seconds in one.items() if phase != "waiting") - send - receive
    part = beside / max(LEAST, beside + max(own, 0.0))
    worker, step = max(LEAST, rest * part), max(LEAST, rest * (1 - part))
    down = [each.measured.sent for each in (small, large)]
    document_down = max(0.0, (down[1] - down[0]) / (documents[1] - documents[0]))
    vector = small.measured.received - DOCUMENT_UP * documents[0]
    return Costs(
        step, send, receive, worker, call, document, crowding, vector, document_down, DOCUMENT_UP
    )


def _coordinator(seen: Seen) -> dict[str, float]:
    """Seconds of the phases of the coordinator in the median step."""
    return _in_median_step(seen, [seen.anatomy.processes[COORDINATOR]])


def _worker(seen: Seen) -> dict[str, float]:
    """The same of a worker, over all of them."""
    processes = seen.anatomy.processes.items()
    return _in_median_step(seen, [each for name, each in processes if name != COORDINATOR])


def _in_median_step(seen: Seen, processes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Clocks know the mean step, which a few long ones draw out: less by as much as the median is.

    What a machine does beside now and then is so left out of the costs.
    """
    share = min(1.0, seen.measured.step / seen.anatomy.step)
    return {
        phase: share * statistics.fmean(each[phase] for each in processes) for phase in processes[0]
    }


def _sum(phases: Mapping[str, float], names: Sequence[str]) -> float:
    return sum(phases[name] for name in names)


def cell(place: tuple[int, int], width: int) -> Cell:
    """Of a run of the calibration."""
    return Cell(*place, width)
