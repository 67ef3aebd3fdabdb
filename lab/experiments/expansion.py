"""From an experiment's file to the cases that are run: every choice of every axis. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from typing import Any

from lab.experiments.one_machine_costs import OneMachine
from lab.experiments.settings import DEFAULTS
from lab.experiments.simulation import Simulation
from lab.experiments.specification import CASE, Choice, Specification
from lab.experiments.toml_lines import Path

MOST_CASES = 10_000
DIGITS = 16  # of a digest that names a directory


@dataclass(frozen=True)
class Case:
    """A row of the table, which is run with each seed.

    ``labels``: what is chosen on each axis. ``settings``: all of them. ``where``: the place in the
    file of each setting that it gives; ``path``: that of the case.
    """

    labels: Mapping[str, str]
    settings: Mapping[str, Any]
    where: Mapping[str, Path]
    path: Path

    @property
    def name(self) -> str:
        """What it is called: its labels, which are all that tells it from others."""
        return self.short()

    def short(self, *without: str) -> str:
        """The name, without the labels on some axes. A number alone would not say what of."""
        labels = [
            label if any(map(str.isalpha, label)) else f"{axis} {label}"
            for axis, label in self.labels.items()
            if axis not in without
        ]
        return ", ".join(labels or self.labels.values())


@dataclass(frozen=True)
class Trial:
    """One run of a case. ``simulation``: None for real processes. ``sources``: digests of the
    user's own files that it runs. ``weights``: whether those of evaluated steps are kept.
    """

    case: Case
    seed: int
    simulation: Simulation | None
    sources: Mapping[str, str]
    weights: bool = False

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.case.name}, seed {self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """All that decides what comes out, as plain maps; nothing else."""
        simulation = None
        if self.simulation is not None:
            simulation = asdict(self.simulation)
            if not self.simulation.one_machine:  # has the name that it had before there were any
                del simulation["one_machine"], simulation["machine"]
        settings = dict(self.case.settings)
        if not settings["repeat"]:
            del settings["repeat"]  # the first run has the name that it had before there were more
        return {
            "settings": settings,
            "seed": self.seed,
            "simulation": simulation,
            "sources": dict(self.sources),
            **({"weights": True} if self.weights else {}),
        }

    @property
    def digest(self) -> str:
        """The name of its directory: the same for the same settings, and no others."""
        text = json.dumps(self.to_dict(), sort_keys=True, allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def expand(specification: Specification) -> list[Case]:
    """All rows: the matrix in the order of the file, then the cases written out.

    Raises ExperimentError if there are too many.
    """
    axes, source = specification.axes, specification.source
    many = len(specification.seeds)
    for axis in axes:
        many *= len(axis.choices)
        if many > MOST_CASES:
            raise source.error(axis.path, f"these are more than {MOST_CASES:,} runs")
    found = []
    for choices in product(*(axis.choices for axis in axes)) if axes else ():
        labels = {axis.name: chosen.label for axis, chosen in zip(axes, choices, strict=True)}
        found.append(_case(labels, specification.layers, choices))
    for written in specification.cases:
        labels = {CASE: written.label}
        found.append(_case(labels, specification.layers, [written]))
    return found


def _case(labels: Mapping[str, str], base: Sequence[Choice], chosen: Sequence[Choice]) -> Case:
    settings: dict[str, Any] = dict(DEFAULTS)
    where: dict[str, Path] = {}
    for layer in (*base, *chosen):
        settings |= layer.settings
        where |= {name: (*layer.path, name) for name in layer.settings}
    named = {name for choice in chosen for name in choice.settings}
    if "strategy" in named and "strategy_options" not in named:
        settings["strategy_options"] = {}  # the base's are those of the base's strategy
    return Case(labels, settings, where, chosen[-1].path)


def trials(
    cases: Sequence[Case],
    seeds: Sequence[int],
    simulation_of: Callable[[Case], Simulation | None],
    sources: Mapping[str, str],
    *,
    weights: bool = False,
) -> list[Trial]:
    """Each case with each seed. ``sources``: of all files that any case names, by what names it.

    ``weights``: whether those of evaluated steps are kept.
    """
    found = []
    for case in cases:
        own = {spec: sources[spec] for spec in map(str, case.settings.values()) if spec in sources}
        simulation = simulation_of(case)
        found += [Trial(case, seed, simulation, own, weights) for seed in seeds]
    return found


def timed(simulation: Simulation, call: float, document: float) -> Simulation:
    """With measured microseconds, where the file does not give any."""
    return replace(
        simulation,
        call_microseconds=_or(simulation.call_microseconds, call),
        document_microseconds=_or(simulation.document_microseconds, document),
    )


def on_machine(simulation: Simulation, machine: OneMachine) -> Simulation:
    """The same on one machine, with what was measured there where the file does not say more."""
    call, document = 1e6 * machine.costs.call, 1e6 * machine.costs.document
    return replace(timed(simulation, call, document), machine=machine)


def _or(given: float | None, measured: float) -> float:
    return measured if given is None else given
