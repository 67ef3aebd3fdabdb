"""Checkpoints as rows of a table, wherever they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

NONE = "-"


class Row(NamedTuple):
    """The cells of a checkpoint; of one with a problem only the first."""

    cells: tuple[str, ...]
    problem: str = ""


def print_table(header: Sequence[str], rows: Iterable[Row]) -> None:
    """Columns as wide as what is in them; without the validation if there is none."""
    rows = list(rows)
    whole = [row.cells for row in rows if not row.problem]
    used = [
        at
        for at, name in enumerate(header)
        if name != "validation" or any(row[at] != NONE for row in whole)
    ]
    first = max(len(row.cells[0]) for row in [Row((header[0],)), *rows])
    widths = {at: max(len(row[at]) for row in [header, *whole]) for at in used}
    for cells, problem in [Row(tuple(header)), *rows]:
        others = [problem] if problem else [f"{cells[at]:>{widths[at]}}" for at in used[1:]]
        print("  ".join([f"{cells[0]:{first}}", *others]))


def loss_text(loss: float | None) -> str:
    """Four digits."""
    return NONE if loss is None else f"{loss:.4f}"


def validation_text(step: int, validation: tuple[int, float] | None) -> str:
    """The loss of held-out documents, and its step if that is an earlier one than ``step``."""
    if validation is None:
        return NONE
    at, loss = validation
    return loss_text(loss) if at == step else f"{loss:.4f} (step {at})"
