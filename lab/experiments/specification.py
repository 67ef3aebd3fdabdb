"""An experiment's file, typed and checked: ``experiments/*.toml``. Pure.

docs/experiments/README.md describes the file. Whether each case can be run is found out in
``lab.experiments.checks``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lab.experiments.reading import (
    ExperimentError,
    Source,
    Table,
    array,
    items,
    read_settings,
    unknown,
)
from lab.experiments.settings import (
    SETTINGS,
    boolean,
    shown,
    text,
    text_of,
    whole,
)
from lab.experiments.simulation import Simulation, read_simulation
from lab.experiments.toml_lines import Path, lines_of
from lab.experiments.wanted import Measure, Plot, check_reference, read_measure, read_plots

SCHEMA = 1
MOST_BYTES = 1 << 20  # of a file
MOST_LABEL = 60  # letters
CASE = "case"  # the axis of cases that are written out
SEEDS = (42, 43, 44)


@dataclass(frozen=True)
class Choice:
    """One place on an axis: what it is called, what it sets, and where the file says so."""

    label: str
    settings: Mapping[str, Any]
    path: Path


@dataclass(frozen=True)
class Axis:
    """What is varied: one of the choices in each case."""

    name: str
    choices: tuple[Choice, ...]
    path: Path


@dataclass(frozen=True)
class Specification:
    """A whole experiment; ``source`` tells lines.

    ``layers``: settings of all cases, each layer over the one before.
    """

    source: Source
    title: str
    question: str
    simulated: bool
    seeds: tuple[int, ...]
    layers: tuple[Choice, ...]
    axes: tuple[Axis, ...]
    cases: tuple[Choice, ...]
    measure: Measure
    simulation: Simulation
    plots: tuple[Plot, ...]


def read_specification(content: bytes, name: str, quick: bool = False) -> Specification:
    """The experiment of a file's bytes. ``quick``: with what its table ``[quick]`` puts in place.

    Raises ExperimentError.
    """
    try:
        if len(content) > MOST_BYTES:
            raise ExperimentError(f"{name} has more than a mebibyte: this is no experiment")
        written = content.decode().replace("\r\n", "\n")
        document = tomllib.loads(written)
        source = Source(name, lines_of(written))
    except UnicodeDecodeError as error:
        raise ExperimentError(f"{name} is not UTF-8: this is no experiment") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ExperimentError(f"{name} is no TOML: {error}") from error
    return _read(Table(source, (), document), quick)


def _read(whole_file: Table, quick: bool) -> Specification:
    source = whole_file.source
    schema = whole_file.take("schema", whole(1), needed=True)
    if schema != SCHEMA:
        message = f"schema {schema} is not known: this program reads {SCHEMA}"
        raise source.error(("schema",), message)
    title = whole_file.take("title", text, needed=True)
    question = whole_file.take("question", text, "")
    simulated = whole_file.take("simulated", boolean, False)
    usual = _Parts((), SEEDS, {}, (), Measure(), Simulation())
    parts = _parts(whole_file, usual)
    cases, plots = _cases(source, whole_file.raw(CASE, [])), whole_file.raw("plot", [])
    fast_table = whole_file.raw("quick", None)
    whole_file.close()
    layers, fast = [Choice("", parts.base, ("base",))], parts
    if fast_table is not None:
        table = Table(source, ("quick",), fast_table)
        fast = _parts(table, parts)
        table.close()
    elif quick:
        raise source.error((), "it has no table [quick], which says what is smaller in a quick run")
    labels = {**_labels(parts.axes, cases)}
    axes = _replaced(source, parts.axes, fast.axes) if fast is not parts else parts.axes
    for axis, more in _labels(axes, ()).items():
        labels[axis] = tuple(dict.fromkeys((*labels[axis], *more)))
    if quick:
        layers.append(Choice("", fast.base, ("quick", "base")))
        parts = replace(fast, axes=axes)
    _check_axes(source, parts.axes)
    if parts.measure.within and parts.measure.within not in labels:
        raise source.error(("measure", "within"), unknown("axis", parts.measure.within, labels))
    if parts.measure.baseline:
        axis, label = parts.measure.baseline
        if label not in labels.get(axis, ()):
            message = f"there is no label {shown(label)} on an axis {shown(axis)}"
            raise source.error(("measure", "baseline"), message)
    check_reference(source, parts.measure, labels)
    if not parts.axes and not cases:
        raise source.error((), "it has neither a [matrix] nor a [[case]]: there is nothing to run")
    return Specification(
        source, title, question, simulated, parts.seeds, tuple(layers), parts.axes, cases,
        parts.measure, parts.simulation, read_plots(source, plots, labels, parts.measure),
    )  # fmt: skip


@dataclass(frozen=True)
class _Parts:
    """What both the file and its table ``[quick]`` may have."""

    path: Path
    seeds: tuple[int, ...]
    base: Mapping[str, Any]
    axes: tuple[Axis, ...]
    measure: Measure
    simulation: Simulation


def _parts(table: Table, usual: _Parts) -> _Parts:
    """What a table says; seeds, measure and simulation are as ``usual`` where it says nothing."""
    source, path = table.source, table.path
    seeds = table.raw("seeds", list(usual.seeds))
    base, measure, simulation = (
        Table(source, (*path, key), table.raw(key, {})) for key in ("base", "measure", "simulation")
    )
    return _Parts(
        path,
        _seeds(source, (*path, "seeds"), seeds),
        read_settings(base),
        _axes(source, (*path, "matrix"), table.raw("matrix", {})),
        read_measure(measure, usual.measure),
        read_simulation(simulation, usual.simulation),
    )


def _replaced(source: Source, axes: Sequence[Axis], fast: Sequence[Axis]) -> tuple[Axis, ...]:
    """The axes, some of them shorter ones of ``[quick]``."""
    names = [axis.name for axis in axes]
    for axis in fast:
        if axis.name not in names:
            raise source.error(axis.path, unknown("axis", axis.name, names))
    shorter = {axis.name: axis for axis in fast}
    return tuple(shorter.get(axis.name, axis) for axis in axes)


def _seeds(source: Source, path: Path, value: Any) -> tuple[int, ...]:
    seeds = items(source, path, value, whole(0, 2**64 - 1))
    if len(set(seeds)) < len(seeds):
        raise source.error(path, "a seed stands there twice")
    return tuple(seeds)


def _axes(source: Source, path: Path, matrix: Any) -> tuple[Axis, ...]:
    Table(source, path, matrix)
    axes: list[Axis] = []
    for name, given in matrix.items():
        place = (*path, name)
        if isinstance(given, dict):
            axes.append(Axis(name, _bundles(source, place, given), place))
        else:
            axes.append(Axis(name, _values(source, place, name, given), place))
    return tuple(axes)


def _check_axes(source: Source, axes: Sequence[Axis]) -> None:
    """No two may set the same: which of them holds?"""
    for place, axis in enumerate(axes):
        for other in axes[:place]:
            if both := _sets(axis) & _sets(other):
                message = f"the axes {other.name} and {axis.name} both set {min(both)}"
                raise source.error(axis.path, message)


def _labels(axes: Sequence[Axis], cases: Sequence[Choice]) -> dict[str, tuple[str, ...]]:
    """All labels of each axis."""
    found = {axis.name: tuple(choice.label for choice in axis.choices) for axis in axes}
    return {**found, CASE: tuple(case.label for case in cases)} if cases else found


def _sets(axis: Axis) -> set[str]:
    return {name for choice in axis.choices for name in choice.settings}


def _bundles(source: Source, path: Path, given: Mapping[str, Any]) -> tuple[Choice, ...]:
    """``label = { setting = value, ... }``."""
    if not given:
        raise source.error(path, "an axis needs a value")
    return tuple(
        Choice(
            _label(source, (*path, label), label),
            read_settings(Table(source, (*path, label), bundle)),
            (*path, label),
        )
        for label, bundle in given.items()
    )


def _values(source: Source, path: Path, name: str, given: Any) -> tuple[Choice, ...]:
    """``setting = [value, ...]``."""
    if name not in SETTINGS:
        hint = "; an axis of your own is a table of labels: name = { label = { workers = 2 } }"
        raise source.error(path, unknown("setting", name, SETTINGS) + hint)
    check = SETTINGS[name][0]
    found: dict[str, Choice] = {}
    for place, item in enumerate(array(source, path, given)):
        try:
            value = check(item)
        except ValueError as error:
            raise source.error((*path, place), f"{name} {error}") from error
        label = _label(source, (*path, place), text_of(item))
        if label in found:
            raise source.error((*path, place), f"{name} has {label} twice")
        found[label] = Choice(label, {name: value}, (*path, place))
    return tuple(found.values())


def _label(source: Source, path: Path, label: str) -> str:
    if not label or len(label) > MOST_LABEL or not label.isprintable():
        raise source.error(
            path, f"{shown(label)} is no label: up to {MOST_LABEL} letters on a line"
        )
    return label


def _cases(source: Source, given: Any) -> tuple[Choice, ...]:
    if not isinstance(given, list):
        raise source.error((CASE,), "write [[case]] with two brackets: there may be several")
    found: list[Choice] = []
    for place, value in enumerate(given):
        path: Path = (CASE, place)
        table = Table(source, path, value)
        name = _label(source, (*path, "name"), table.take("name", text, needed=True))
        if name in [case.label for case in found]:
            raise source.error((*path, "name"), f"there are two cases {shown(name)}")
        found.append(Choice(name, read_settings(table), path))
    return tuple(found)
