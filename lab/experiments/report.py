"""The report of an experiment: one HTML file that needs nothing else, no network and no script."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lab.experiments.measurement import DONE
from lab.experiments.rows import Row, as_texts
from lab.experiments.settings import DEFAULTS, text_of
from lab.experiments.simulation import Simulation
from lab.experiments.specification import Specification
from lab.report import chart
from lab.report.chart import Chart
from lab.report.html import POLICY, STYLE, folded, key, table, text

OWN_STYLE = (
    ".legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:.85rem;margin:4px 0}"
    ".found li{margin:4px 0}pre{overflow-x:auto;background:var(--card);padding:12px}"
)


def page(
    specification: Specification,
    rows: Sequence[Row],
    charts: Sequence[Chart],
    sentences: Sequence[str],
    paces: Sequence[Simulation],
) -> str:
    """The whole file. ``paces``: how fast simulated engines were; none if processes were real."""
    title = text(specification.title)
    parts = [
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
        '<meta name="viewport" content="width=device-width,initial-scale=1">',
        f"<title>{title}</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>",
        f"<h1>{title}</h1>",
        f"<p>{text(specification.question)}</p>",
        f'<p class="weak">{text(how(rows, paces))}</p>',
        '<h2>What was found</h2><ul class="found">',
        *(f"<li>{text(sentence)}</li>" for sentence in sentences),
        "</ul>",
        *_charts(charts),
        "<h2>Table</h2>",
        _table(specification, rows),
        *_failed(rows),
        "<h2>Settings</h2>",
        _settings(specification),
        "</main></body></html>\n",
    ]
    return "\n".join(parts)


def how(rows: Sequence[Row], paces: Sequence[Simulation]) -> str:
    """How the numbers came about."""
    seeds = sorted({seed for row in rows for seed in row.runs})
    runs = sum(len(row.runs) for row in rows)
    told = f"{len(rows)} cases, {runs} runs, seeds {', '.join(map(str, seeds))}. "
    if not paces:
        return (
            f"{told}Real processes on this machine; seconds are those of work, without evaluations."
        )
    each = [
        f"{one.call_microseconds:g} µs for a call and {one.document_microseconds:g} µs for a "
        f"document, ± {one.noise:.0%}"
        for one in paces
    ]
    shared = [one.machine for one in paces if one.machine is not None]
    beside = (
        f"all processes share {shared[0].processors} processors of one machine, and what they do "
        "beside takes as long as it was measured there"
        if shared
        else "the coordinator's own work takes no time"
    )
    return (
        f"{told}Simulated: real arithmetic and decisions in virtual time. Engines take "
        f"{'; '.join(each)}; {beside}."
    )


def _charts(charts: Sequence[Chart]) -> Iterator[str]:
    if charts:
        yield '<h2>Curves</h2><p class="weak">Means over seeds; the band is a standard deviation '
        yield 'on either side.</p><div class="charts">'
        for each in charts:
            what = f'{text(each.title)} <span class="weak">({text(each.y)})</span>'
            yield f"<figure><figcaption>{what}</figcaption>{chart.draw(each)}"
            names = (f"<span>{key(c.number)}{text(c.name)}</span>" for c in each.curves if c.points)
            yield f'<div class="legend">{"".join(names)}</div>'
            yield f"{folded('Numbers', chart.table(each))}</figure>"
        yield "</div>"


def _table(specification: Specification, rows: Sequence[Row]) -> str:
    head, *lines = as_texts(rows, specification.measure)
    return table(head, lines)


def _failed(rows: Sequence[Row]) -> Iterator[str]:
    lines = [
        [f"{row.case.name}, seed {seed}", run.reason]
        for row in rows
        for seed, run in row.runs.items()
        if run.outcome != DONE
    ]
    if lines:
        yield f"<h2>Failed</h2>{table(['run', 'why'], lines, 'text')}"


def _settings(specification: Specification) -> str:
    """What holds for all cases: what the file says, and the rest as it usually is."""
    told: dict[str, object] = {}
    for layer in specification.layers:
        told |= layer.settings
    varied = {name for axis in specification.axes for c in axis.choices for name in c.settings}
    rows = [[name, text_of(value)] for name, value in told.items() if name not in varied]
    usual = [
        [name, text_of(value) if value is not None else "auto"]
        for name, value in DEFAULTS.items()
        if name not in told and name not in varied
    ]
    return table(["setting", "of all cases"], rows) + folded(
        f"{len(usual)} as they usually are", table(["setting", "of all cases"], usual)
    )
