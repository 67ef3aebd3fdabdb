"""What ``bench.py scaling`` has found as one drawing: an SVG of four charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lab.bench.scale.points import Point, efficiency, ideal
from lab.report.chart import HEIGHT, WIDTH, Chart, Curve, draw
from lab.report.palette import COLOURS, DRAWING, HUES

HEAD = 26  # above each chart, for its title
#: A drawing in a drawing has its own size, whatever the outer one is shrunk to.
STYLE = f"svg{{background:var(--ground)}}svg svg{{height:{HEIGHT}px;max-width:none}}"
Value = Callable[[Point], float]


def drawn(points: Sequence[Point]) -> str:
    """Steps and documents per second, efficiency, and the time spent waiting, by workers.

    For each batch what was measured, with its spread, what the model says, and the ideal.
    """
    charts = [
        _chart(
            points, "steps per second", lambda each: 1.0 / each.seconds,
            lambda each: 1.0 / each.predicted.seconds,
            lambda each: ideal(points, each) / each.batch,
            lambda each, speed: speed / each.batch,
        ),
        _chart(
            points, "thousand documents per second", lambda each: each.documents_per_second / 1e3,
            lambda each: each.predicted.documents_per_second / 1e3,
            lambda each: ideal(points, each) / 1e3,
            lambda each, speed: speed / 1e3,
        ),
        _chart(
            points, "efficiency: documents per second, of so many times one worker's",
            lambda each: efficiency(points, each),
            lambda each: each.predicted.documents_per_second / ideal(points, each),
            lambda each: 1.0,
            lambda each, speed: speed / ideal(points, each),
        ),
        _waiting(points),
    ]  # fmt: skip
    kept = [chart for chart in charts if any(curve.points for curve in chart.curves)]
    return _together(kept)


def _batches(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each batch, by workers."""
    return [
        [each for each in points if each.batch == batch]
        for batch in sorted({each.batch for each in points})
    ]


def _chart(
    points: Sequence[Point],
    title: str,
    measured: Value,
    model: Value,
    ends: Value,
    spread: Callable[[Point, float], float],
) -> Chart:
    """``spread`` makes of documents per second what the chart shows."""
    curves = list[Curve]()
    for number, some in enumerate(_batches(points)):
        name = f"batch {some[0].batch:,}"
        band = [(spread(each, each.least), spread(each, each.most)) for each in some]
        curves += [
            Curve(name, number, _curve(some, measured), band=band),
            Curve(f"{name}, model", number + len(HUES), _curve(some, model)),
            Curve(f"{name}, ideal", number, _curve(some, ends), faint=True),
        ]
    top = 1.4 * max(y for curve in curves if not curve.faint for _, y in curve.points)
    return Chart(title, "workers", title, curves, whole=True, top=top)


def _curve(some: Sequence[Point], value: Value) -> list[tuple[float, float]]:
    return [(float(each.workers), value(each)) for each in some]


def _waiting(points: Sequence[Point]) -> Chart:
    """Which share of their time workers were not in their engines."""
    curves = [
        Curve(
            f"batch {some[0].batch:,}", number,
            [
                (float(each.workers), 1.0 - each.shares.computing)
                for each in some if each.shares is not None
            ],
        )
        for number, some in enumerate(_batches(points))
    ]  # fmt: skip
    title = "share of the workers' time outside their engines"
    return Chart(title, "workers", title, curves, whole=True, top=1.2)


def _together(charts: Sequence[Chart]) -> str:
    """One below the other."""
    row = HEIGHT + HEAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{WIDTH}" '
        f'height="{row * len(charts)}" viewBox="0 0 {WIDTH} {row * len(charts)}" '
        f'aria-label="scaling">',
        f"<style>{COLOURS}{DRAWING}{STYLE}</style>",
    ]
    for at, chart in enumerate(charts):
        parts.append(f'<text class="unit" x="8" y="{row * at + 18}">{chart.title}</text>')
        parts.append(f'<g transform="translate(0,{row * at + HEAD})">{draw(chart, " ")}</g>')
    return "".join([*parts, "</svg>\n"])
