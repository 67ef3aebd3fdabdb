"""Tables of text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def lines(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """The rows, the first of which is the header, as lines with columns of one width.

    ``left``: columns whose texts begin at the left. A row of two cells that should have more is a
    name and a remark.
    """
    whole = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(map(len, column)) for column in zip(*whole, strict=True)]
    widths[0] = max(len(row[0]) for row in rows)
    found = []
    for row in rows:
        cells = [
            f"{cell:{widths[at]}}" if at in left or row not in whole else f"{cell:>{widths[at]}}"
            for at, cell in enumerate(row)
        ]
        found.append("  ".join(cells).rstrip())
    return found
