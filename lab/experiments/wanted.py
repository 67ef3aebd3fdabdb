"""What an experiment is to measure and to draw, as its file says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.experiments.reading import Source, Table, items, unknown
from lab.experiments.settings import boolean, number, text, text_of

LOSSES = (2.2, 2.1)
GOODPUT, STEPS_LOST = "goodput", "steps lost"  # columns
#: What a curve may be drawn over, and which losses may be drawn.
OVER = ("steps", "seconds", "bytes", "documents")
LOSS_KINDS = ("validation", "loss")
#: How far a run is from another one at each evaluation: see ``lab.experiments.distance``.
DISTANCES = ("distance", "differing_weights", "loss_difference")


@dataclass(frozen=True)
class Measure:
    """``losses``: validation losses to be reached. ``time``: whether seconds are measured.

    ``within``: an axis; what is said of the table compares rows that have the same label there.
    ``baseline``: an axis and its label of the rows in which nothing fails; where it is given,
    goodput is measured: documents a second as a share of those of the row with this label.
    ``training``: training losses to be reached, as the mean of the last hundred steps.
    ``numbers``: what strategies tell, by its names, and ``DISTANCES``: from the case that has the
    labels of ``reference`` on these axes, and else those of the row.
    """

    losses: tuple[float, ...] = LOSSES
    time: bool = True
    within: str = ""
    baseline: tuple[str, str] | None = None
    training: tuple[float, ...] = ()
    numbers: tuple[str, ...] = ()
    reference: Mapping[str, str] = field(default_factory=dict)

    @property
    def goals(self) -> tuple[tuple[str, float, bool], ...]:
        """What is to be reached: its name in columns, the loss, and whether it is of training."""
        held_out = ((f"{loss:g}", loss, False) for loss in self.losses)
        trained = ((f"training {loss:g}", loss, True) for loss in self.training)
        return (*held_out, *trained)

    @property
    def columns(self) -> tuple[str, ...]:
        """The numbers of a row of the table, by their names."""
        timed = ("steps/s", "documents/s", "total seconds") if self.time else ()
        to_reach = ("steps", "seconds", "bytes") if self.time else ("steps", "bytes")
        reached = (f"{what} to {name}" for name, _, _ in self.goals for what in to_reach)
        return (
            "validation",
            *self.numbers,
            *timed,
            *((GOODPUT, STEPS_LOST) if self.baseline else ()),
            "bytes per step",
            "bytes up per step",
            "total bytes",
            *reached,
        )


@dataclass(frozen=True)
class Plot:
    """A drawing: curves of ``y``, a kind of loss, over ``x``; or rows of the table as points, with
    two of its columns or axes.

    ``where``: the axes and the labels of the rows that are drawn; ``split``: an axis, for a drawing
    of its own for each of its labels. ``log`` and ``log_y``: whether the x and the y axis are
    logarithmic. ``top``: where the y axis ends. ``told``: ``y`` is one of the measure's numbers.
    """

    x: str
    y: str
    title: str = ""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    split: str = ""
    log: bool = False
    top: float | None = None
    log_y: bool = False
    told: bool = False

    @property
    def curves(self) -> bool:
        """Whether these are curves, and not rows as points."""
        return self.x in OVER and (self.y in LOSS_KINDS or self.told)


def read_measure(table: Table, usual: Measure) -> Measure:
    """The table ``[measure]``; what it does not say is as ``usual``. Raises ExperimentError."""
    losses = _losses(table, "losses", usual.losses)
    time = table.take("time", boolean, usual.time)
    within = table.take("within", text, usual.within)
    baseline = _baseline(table, usual)
    training = _losses(table, "training", usual.training)
    numbers, reference = table.raw("numbers", list(usual.numbers)), table.raw("reference", {})
    table.close()
    if baseline and not time:
        raise table.error(("baseline",), "goodput needs seconds, and time = false leaves them out")
    names = items(table.source, (*table.path, "numbers"), numbers, text) if numbers != [] else []
    Table(table.source, (*table.path, "reference"), reference)
    labels = {axis: text_of(label) for axis, label in reference.items()} or usual.reference
    for name in names:
        if name in DISTANCES and not labels:
            why = f"{name} is from which case? [measure] reference = {{ axis = label }} says so"
            raise table.error(("numbers",), why)
    numbers = tuple(dict.fromkeys(names))
    return Measure(losses, time, within, baseline, training, numbers, labels)


def check_reference(source: Source, measure: Measure, labels: Mapping[str, Sequence[str]]) -> None:
    """Raise ExperimentError if a reference names what is on no axis."""
    for axis, label in measure.reference.items():
        path = ("measure", "reference")
        if axis not in labels:
            raise source.error(path, unknown("axis", axis, labels))
        if label not in labels[axis]:
            raise source.error(path, unknown("label", label, labels[axis]))


def _losses(table: Table, key: str, usual: Sequence[float]) -> tuple[float, ...]:
    """The losses of a key, the highest first: it is reached first."""
    losses = table.raw(key, list(usual))
    path = (*table.path, key)
    found = items(table.source, path, losses, number(0.0)) if losses != [] else []
    return tuple(sorted(set(found), reverse=True))


def _baseline(table: Table, usual: Measure) -> tuple[str, str] | None:
    given = table.raw("baseline", None)
    if given is None:
        return usual.baseline
    Table(table.source, (*table.path, "baseline"), given)
    if len(given) != 1:
        raise table.error(("baseline",), 'baseline is one axis and its label: { mtbf = "never" }')
    [(axis, label)] = given.items()
    return axis, text_of(label)


def read_plots(
    source: Source, given: Any, labels: Mapping[str, Sequence[str]], measure: Measure
) -> tuple[Plot, ...]:
    """All ``[[plot]]``; if there are none, the usual ones. ``labels``: those of each axis.

    Raises ExperimentError.
    """
    if not isinstance(given, list):
        raise source.error(("plot",), "write [[plot]] with two brackets: there may be several")
    found = [
        _plot(Table(source, ("plot", at), each), labels, measure) for at, each in enumerate(given)
    ]
    timed = [Plot("seconds", "validation")] if measure.time else []
    return tuple(found or [*timed, Plot("bytes", "validation"), Plot("steps", "validation")])


def _plot(table: Table, labels: Mapping[str, Sequence[str]], measure: Measure) -> Plot:
    x, y = table.take("x", text, "steps"), table.take("y", text, "validation")
    title = table.take("title", text, "")
    split = table.take("split", text, "")
    log, log_y = table.take("log", boolean, False), table.take("log_y", boolean, False)
    top = table.take("top", number())
    where = table.raw("where", {})
    table.close()
    Table(table.source, (*table.path, "where"), where)
    if split and split not in labels:
        raise table.error(("split",), unknown("axis", split, labels))
    wanted: dict[str, tuple[str, ...]] = {}
    for axis, value in where.items():
        if axis not in labels:
            raise table.error(("where", axis), unknown("axis", axis, labels))
        wanted[axis] = tuple(map(text_of, value if isinstance(value, list) else [value]))
        for label in wanted[axis]:
            if label not in labels[axis]:
                raise table.error(("where", axis), unknown("label", label, labels[axis]))
    told = y in measure.numbers and x not in labels
    plot = Plot(x, y, title, wanted, split, log, top, log_y, told)
    if x == "seconds" and not measure.time:
        raise table.error(("x",), "seconds are not measured: [measure] says time = false")
    if not plot.curves:
        columns = measure.columns
        if x in OVER and x not in labels:
            raise table.error(("y",), unknown("number", y, [*LOSS_KINDS, *measure.numbers]))
        if x not in (*labels, *columns):
            raise table.error(("x",), unknown("column", x, [*OVER, *labels, *columns]))
        if y not in columns:
            raise table.error(("y",), unknown("column", y, [*LOSS_KINDS, *columns]))
        for label in wanted.get(x, labels.get(x, ())):
            if not is_number(label):
                raise table.error(("x",), f"the axis {x} has {label!r}, which is no number")
    return plot


def is_number(label: str) -> bool:
    """Whether a label is a place on an axis of numbers."""
    try:
        float(label)
    except ValueError:
        return False
    return True
