"""Pieces of the report's HTML. A stranger's text may be given to all of them: it is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lab.report.palette import hue
from microgpt.support.cli import printable


def text(stranger: str) -> str:
    """A stranger's text on one line, for HTML."""
    return escape(printable(stranger))


def key(at: int) -> str:
    """A patch of the colour of run ``at``."""
    return f'<span class="key k{hue(at)}" aria-hidden="true"></span>'


def folded(summary: str, inner: str) -> str:
    """What is seen when somebody wants to; nothing if there is nothing."""
    return f"<details><summary>{text(summary)}</summary>{inner}</details>" if inner else ""


def scroll(inner: str, label: str) -> str:
    """What may be wider than the page."""
    name = f'role="region" aria-label="{text(label)}"'
    return f'<div class="scroll" tabindex="0" {name}>{inner}</div>'


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "", marked: int = 0
) -> str:
    """A table in which a stranger's texts may stand. The first ``marked`` rows are coloured."""
    cells = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = []
    for at, (first, *others) in enumerate(rows):
        row = f'<th scope="row">{text(first)}</th>'
        row += "".join(f"<td>{text(cell)}</td>" for cell in others)
        body.append(f'<tr class="other">{row}</tr>' if at < marked else f"<tr>{row}</tr>")
    whole = f'<table class="{kind}"><thead><tr>{cells}</tr></thead>'
    return scroll(f"{whole}<tbody>{''.join(body)}</tbody></table>", f"Table: {head[-1]}")
