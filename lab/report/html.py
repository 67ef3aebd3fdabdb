"""Pieces of the report's HTML. A stranger's text may be given to all of them: it is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from lab.report.palette import COLOURS, DRAWING, hue
from microgpt.support.cli import printable

#: How pages look.
STYLE = (
    COLOURS
    + DRAWING
    + "*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--text);"
    "font:16px/1.5 system-ui,sans-serif}main{max-width:1180px;margin:auto;padding:24px 16px 64px}"
    "h1{font-size:1.6rem;margin:0 0 4px}h2{font-size:1.2rem;margin:40px 0 8px}"
    "h3{font-size:1rem;margin:20px 0 4px}p{margin:4px 0 12px}.weak{color:var(--weak)}"
    ".cards,.charts{display:grid;gap:16px;grid-template-columns:"
    "repeat(auto-fit,minmax(min(100%,240px),1fr))}"
    ".charts{grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr))}"
    ".card{background:var(--card);border-radius:10px;padding:12px 16px;min-width:0;"
    "overflow-wrap:anywhere}"
    ".card h2,.card h3{margin:0;font-size:1rem}.card p{margin:0}figure{margin:0;min-width:0}"
    "figcaption{font-weight:600}.key{display:inline-block;width:1.6em;height:.45em;"
    "border-radius:2px;margin-right:.5em;vertical-align:middle}"
    ".scroll{overflow-x:auto}.scroll svg{width:100%;min-width:820px}table{border-collapse:collapse;"
    "font-variant-numeric:tabular-nums;font-size:.9rem}td,th{padding:3px 12px 3px 0;"
    "text-align:right;vertical-align:top;white-space:nowrap}"
    "th:first-child{text-align:left;font-weight:normal}"
    "thead th{font-weight:600;border-bottom:1px solid var(--rule)}"
    ".text td,.text th{text-align:left;white-space:normal}tr.other{background:var(--mark)}"
    "summary{cursor:pointer;color:var(--weak)}code{overflow-wrap:anywhere}"
    "@media print{details{display:none}}"
    + "".join(f".k{n}{{background:var(--c{n})}}" for n in range(6))
)
#: What a browser may load for them: nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


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
