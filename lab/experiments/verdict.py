"""What the table says, in sentences made of its numbers and nothing else. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from lab.experiments.expansion import Case
from lab.experiments.rows import Row, Unit, groups, shown, unit_of
from lab.experiments.wanted import GOODPUT, Measure

WAYS = {"seconds": "soonest", "bytes": "with the fewest bytes"}
MOST_NAMES = 4  # in a sentence


def verdict(rows: Sequence[Row], measure: Measure) -> list[str]:
    """Sentences about the ends and about the losses that were to be reached.

    Where ``measure.within`` names an axis, rows are compared with those that have its label.
    """
    axis = measure.within
    if not axis:
        return _of_group(rows, measure, "")
    found: list[str] = []
    for label, group in groups(rows, axis).items():
        begin = label if any(map(str.isalpha, label)) else f"{axis} {label}"
        found += [f"{begin}: {sentence}" for sentence in _of_group(group, measure, axis)]
    return found


def _of_group(rows: Sequence[Row], measure: Measure, without: str) -> list[str]:
    found = [
        *_ends(rows, without), *_goodput(rows, measure, without), *_bits(rows, measure, without)
    ]  # fmt: skip
    for name, loss, training in measure.goals:
        what_loss = f"{'training' if training else 'validation'} loss {loss:g}"
        for what, best in WAYS.items():
            column = f"{what} to {name}"
            if column in measure.columns:
                found += _soonest(rows, column, what_loss, best, without)
        missing = [row for row in rows if row.done and row.cells[f"steps to {name}"].mean is None]
        if len(missing) == len(rows):
            found.append(f"{what_loss}: no case has reached it with every seed.")
        elif missing:
            found.append(f"{what_loss}: not reached with every seed by {names(missing, without)}.")
    return found


def _ends(rows: Sequence[Row], without: str) -> Iterator[str]:
    """Where the losses are at the end."""
    ordered = _ordered(rows, "validation")
    if len(ordered) > 1:
        best, worst = ordered[0], ordered[-1]
        first, last = (_bare(row, "validation", unit_of("validation", [])) for row in (best, worst))
        sentence = f"the lowest validation loss at the end has {best.case.short(without)} ({first})"
        alike = [row for row in ordered[1:] if not differ(best, row, "validation")]
        if alike:
            sentence += f", which cannot be told from {names(alike, without)}"
        if worst not in alike:
            sentence += f"; the highest has {worst.case.short(without)} ({last})"
        yield f"{sentence}."
    failed = [row for row in rows if len(row.done) < len(row.runs)]
    if failed:
        yield f"runs have failed of {names(failed, without)}."


def _goodput(rows: Sequence[Row], measure: Measure, without: str) -> Iterator[str]:
    """Who keeps most of the documents a second that there are where nothing fails."""
    if measure.baseline is None:
        return
    axis, label = measure.baseline
    ordered = _ordered([row for row in rows if row.case.labels.get(axis) != label], GOODPUT)[::-1]
    if len(ordered) > 1:
        best, worst = ((row.case.short(without), row) for row in (ordered[0], ordered[-1]))
        told = [
            f"{name} ({_bare(row, GOODPUT, unit_of(GOODPUT, []))})" for name, row in (best, worst)
        ]
        yield f"the highest goodput has {told[0]}; the lowest has {told[1]}."


def _bits(rows: Sequence[Row], measure: Measure, without: str) -> Iterator[str]:
    """Whose weights are those of the reference."""
    column = "differing_weights"
    known = _ordered(rows, column) if column in measure.columns else []
    alike = [row for row in known if not any(row.cells[column].values)]
    others = [row for row in known if row not in alike]
    if known:
        reference = Case(measure.reference, {}, {}, ()).name
        told = f"to the bit, the weights at the end are those of {reference} in "
        told += names(alike, without) if alike else "no case"
        yield f"{told}; they are others in {names(others, without)}." if others else f"{told}."


def _soonest(
    rows: Sequence[Row], column: str, what: str, best_word: str, without: str
) -> Iterator[str]:
    """Who reaches a loss first, who is as good, and who is last of those that reach it."""
    ordered = _ordered(rows, column)
    if not ordered:
        return
    unit = unit_of(column, [row.cells[column] for row in rows])
    best, last = ordered[0], ordered[-1]
    alike = [row for row in ordered[1:] if not differ(best, row, column)]
    sentence = f"{what} is reached {best_word} by {best.case.short(without)} "
    sentence += f"({_bare(best, column, unit)})"
    if alike:
        sentence += f", which cannot be told from {names(alike, without)}"
    if last is not best and last not in alike:
        times = _mean(last, column) / max(_mean(best, column), 1e-300)
        late = f"{_bare(last, column, unit)}, {times:.3g} times"
        sentence += f"; last by {last.case.short(without)} ({late})"
    yield sentence + "."


def _ordered(rows: Sequence[Row], column: str) -> list[Row]:
    known = [row for row in rows if row.cells[column].mean is not None]
    return sorted(known, key=lambda row: _mean(row, column))


def _mean(row: Row, column: str) -> float:
    return row.cells[column].mean or 0.0


def _bare(row: Row, column: str, unit: Unit) -> str:
    return shown(row.cells[column], column, unit)


def differ(one: Row, other: Row, column: str) -> bool:
    """Whether two means are further apart than two standard errors of their difference.

    With one seed there is no spread to go by: then they differ if they are not equal.
    """
    a, b = one.cells[column], other.cells[column]
    if a.mean is None or b.mean is None:
        return a.mean is not b.mean
    error = math.sqrt((a.spread or 0.0) ** 2 / a.seeds + (b.spread or 0.0) ** 2 / b.seeds)
    return abs(a.mean - b.mean) > 2.0 * error


def names(rows: Sequence[Row], without: str = "") -> str:
    """Some of them by name."""
    told = [row.case.short(without) for row in rows[:MOST_NAMES]]
    more = len(rows) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")
