"""Curves of several runs in one drawing: an inline SVG, with the same numbers as a table."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from lab.report.palette import HUES, hue

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 26, 12, 44
MOST_POINTS = 400  # of a curve; more are drawn as means of neighbours
ROWS = 8  # of a table
DASH = 8

Point = tuple[float, float]


class Curve(NamedTuple):
    """``points`` in the order of their x. ``number``: that of the run, for its colour.

    ``faint``: it is drawn behind the others, and left out of words, tables and legends. ``band``:
    around each point, from where to where it is spread, or nothing.
    """

    name: str
    number: int
    points: Sequence[Point]
    faint: bool = False
    band: Sequence[tuple[float, float]] = ()


class Chart(NamedTuple):
    """What is drawn; ``x`` and ``y`` say what the axes are, with their units.

    ``whole``: however high a curve goes, else those of a loss that explodes are cut off. ``log``:
    the x axis is logarithmic; what is not positive is left out. ``top``: where the y axis ends at
    the latest; what lies above is drawn at the edge. ``log_y``: the y axis is logarithmic, too.
    """

    title: str
    x: str
    y: str
    curves: Sequence[Curve]
    whole: bool = False
    log: bool = False
    top: float | None = None
    log_y: bool = False


def running_mean(values: Sequence[float], window: int) -> list[float]:
    """The mean of each value and those before it, up to ``window`` in all."""
    found, total = [], 0.0
    for at, value in enumerate(values):
        total += value / window
        if at >= window:
            total -= values[at - window] / window
        found.append(total * (window / min(at + 1, window)))
    return found


def thinned(points: Sequence[Point], most: int = MOST_POINTS) -> list[Point]:
    """Means of neighbours, so that there are no more than so many."""
    size = math.ceil(len(points) / most)
    if size <= 1:
        return list(points)
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    return [
        (math.fsum(x / len(group) for x, _ in group), math.fsum(y / len(group) for _, y in group))
        for group in groups
    ]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers from ``low`` to ``high``, no more than ``most`` + 1."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    if not 0.0 < raw < math.inf:
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next((power * m for m in (1, 2, 5) if power * m >= raw), power * 10)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [at * step for at in range(first, last + 1)] if last - first < 50 else [low]


def text_of(number: float) -> str:
    """A number at an axis."""
    if number == round(number) and abs(number) < 1e15:
        return f"{round(number):,}"
    return f"{number:.6g}"


def decades(low: float, high: float) -> list[float]:
    """Powers of ten from ``low`` to ``high``; with 2 and 5 times of them where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1, 2, 5) if high < 100 * low else (1,)
    found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    return [number for number in found if low * 0.999 <= number <= high * 1.001]


class _Scale:
    """From numbers to places in the drawing. What lies above ``high`` is drawn at the edge."""

    def __init__(self, curves: Sequence[Curve], chart: Chart) -> None:
        points = [point for curve in curves for point in curve.points]
        xs, ys = [x for x, _ in points], [y for _, y in points]
        self.log, self.log_y = chart.log, chart.log_y
        self.left, self.right = min(xs) if chart.log else min(0.0, *xs, 0.0), max(xs)
        lowest = min(ys) if chart.log_y else -math.inf  # a band may go down to nothing
        ys += [edge for curve in curves for edges in curve.band for edge in edges]
        self.low = max(min(ys), lowest)
        # A run whose loss explodes must not flatten all the others.
        starts = [curve.points[0][1] for curve in curves if curve.points]
        self.high = max(ys) if chart.whole else min(max(ys), max(1.5 * max(starts), self.low))
        if chart.top is not None and chart.top > self.low:
            self.high = min(self.high, chart.top)
        if self.high <= self.low and chart.log_y:
            self.low, self.high = self.low / 2, self.low * 2
        elif self.high <= self.low:
            margin = max(0.5, abs(self.low) / 4)
            self.low, self.high = self.low - margin, self.low + margin

    def x(self, x: float) -> float:
        if self.log:
            share = math.log(x / self.left) / (math.log(self.right / self.left) or 1.0)
        else:
            share = (x - self.left) / ((self.right - self.left) or 1.0)
        return LEFT + (WIDTH - LEFT - RIGHT) * share

    def y(self, y: float) -> float:
        if self.log_y:
            share = math.log(max(y, self.low) / self.low) / math.log(self.high / self.low)
        else:  # halves: the difference of two numbers may be beyond all numbers
            share = (y / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * min(share, 1.0)


def draw(chart: Chart, style: str = "") -> str:
    """The SVG; empty if no curve has a point. ``style``: a sheet for one that stands alone."""
    curves = [_thinner(_positive(curve, chart)) for curve in chart.curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    scale, label = _Scale(curves, chart), f"{chart.title}: {in_words(chart)}"
    front = [curve for curve in curves if not curve.faint]
    behind = [curve for curve in curves if curve.faint]
    points = len(front) > 1 and all(len(curve.points) == 1 for curve in curves)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" aria-label="{escape(label)}">',
        f"<style>{style}</style>" if style else "",
        *_axes(chart, scale),
        *(_band(curve, scale) for curve in curves if curve.band),
        *(_line(curve, scale, _before(curve, curves), points) for curve in behind + front),
    ]
    if style and not points:
        parts += _legend(front, scale)
    return "".join([*parts, "</svg>"])


def _positive(curve: Curve, chart: Chart) -> Curve:
    """Without points that a logarithmic axis has no place for."""
    kept = [
        at
        for at, (x, y) in enumerate(curve.points)
        if (x > 0 or not chart.log) and (y > 0 or not chart.log_y)
    ]
    band = [curve.band[at] for at in kept] if curve.band else ()
    return curve._replace(points=[curve.points[at] for at in kept], band=band)


def _thinner(curve: Curve) -> Curve:
    """With no more points than can be seen, and the band likewise."""
    xs = [x for x, _ in curve.points]
    sides = (zip(xs, side, strict=True) for side in zip(*curve.band, strict=True))
    edges = [[y for _, y in thinned([*side])] for side in sides]
    return curve._replace(points=thinned(curve.points), band=[*zip(*edges, strict=True)])


def _axes(chart: Chart, scale: _Scale) -> list[str]:
    bottom, parts = HEIGHT - BOTTOM, []
    for number in (decades if scale.log_y else ticks)(scale.low, scale.high):
        y = scale.y(number)
        parts.append(f'<path class="grid" d="M{LEFT},{y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(_text(LEFT - 7, y + 4, "end", "tick", text_of(number)))
    for number in (decades if scale.log else ticks)(scale.left, scale.right):
        parts.append(_text(scale.x(number), bottom + 18, "middle", "tick", text_of(number)))
    parts.append(f'<path class="axis" d="M{LEFT},{bottom}H{WIDTH - RIGHT}"/>')
    middle = LEFT + (WIDTH - LEFT - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 8, "middle", "unit", chart.x))
    return parts


def _before(curve: Curve, curves: Sequence[Curve]) -> int:
    """How many curves of other runs lie under this one, on the same points."""
    same = [c for c in curves if c.points == curve.points and c.faint == curve.faint]
    return sum(other.number < curve.number for other in same)


def _band(curve: Curve, scale: _Scale) -> str:
    """What is between the edges of the spread, pale."""
    xs = [scale.x(x) for x, _ in curve.points]
    lower = [f"{x:.1f},{scale.y(low):.1f}" for x, (low, _) in zip(xs, curve.band, strict=True)]
    upper = [f"{x:.1f},{scale.y(high):.1f}" for x, (_, high) in zip(xs, curve.band, strict=True)]
    if len(xs) == 1:  # a line up and down
        return f'<path class="line l{hue(curve.number)}" d="M{lower[0]}L{upper[0]}"/>'
    return f'<polygon class="band f{hue(curve.number)}" points="{" ".join(lower + upper[::-1])}"/>'


def _line(curve: Curve, scale: _Scale, before: int, named: bool) -> str:
    """``before``: so many equal ones are drawn already, and must be seen through the gaps.

    ``named``: a single point has its name beside it.
    """
    colour, again = hue(curve.number), " again" if curve.number >= len(HUES) else ""
    again += " faint" if curve.faint else ""
    places = [f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in curve.points]
    name = f"<title>{escape(curve.name)}</title>"
    if len(places) == 1:  # a line of one point cannot be seen
        x, y = places[0].split(",")
        dot = f'<circle class="f{colour}" cx="{x}" cy="{y}" r="3">{name}</circle>'
        return dot + (_beside(curve, float(x), float(y)) if named else "")
    dashes = f' stroke-dasharray="{DASH} {DASH * before}" stroke-dashoffset="{DASH * -before}"'
    kind = f'class="line l{colour}{again}"{dashes if before else ""}'
    line = f'<polyline {kind} points="{" ".join(places)}">{name}</polyline>'
    if len(places) <= 40 and not curve.faint:  # few enough for each to be seen
        dots = [place.split(",") for place in places]
        line += "".join(f'<circle class="f{colour}" cx="{x}" cy="{y}" r="2.4"/>' for x, y in dots)
    return line


def _beside(curve: Curve, x: float, y: float) -> str:
    """The name of a point, where the drawing has room for it."""
    right, low = x > LEFT + (WIDTH - LEFT - RIGHT) * 0.6, y > HEIGHT - BOTTOM - 20
    below = curve.number % 2 == 1 and not low  # neighbours are less in each other's way
    place = max(y + 14 if below else y - 5, TOP + 6.0)
    return _text(x - 7 if right else x + 7, place, "end" if right else "start", "tick", curve.name)


def _legend(curves: Sequence[Curve], scale: _Scale) -> list[str]:
    """Where there is room: at the left if curves rise, else at the right."""
    rise = sum(scale.y(c.points[0][1]) - scale.y(c.points[-1][1]) for c in curves)
    side, line, anchor = (LEFT + 8, 28, "start") if rise > 0 else (WIDTH - RIGHT - 20, -6, "end")
    parts = []
    for at, curve in enumerate(curves):
        y, again = TOP + 12 + 17 * at, " again" if curve.number >= len(HUES) else ""
        name = curve.name if len(curve.name) <= 40 else f"{curve.name[:39]}…"
        parts.append(f'<path class="line l{hue(curve.number)}{again}" d="M{side},{y - 4}h20"/>')
        parts.append(_text(side + line, y, anchor, "tick", name))
    return parts


def _text(x: float, y: float, anchor: str, kind: str, text: str) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(text)}</text>'


def in_words(chart: Chart) -> str:
    """What the curves show, in a sentence."""
    told = [
        f"{curve.name} from {_said(curve.points[0][1])} to {_said(curve.points[-1][1])}"
        for curve in chart.curves
        if curve.points and not curve.faint
    ]
    return f"{chart.y}: {', '.join(told)}"


def _said(number: float) -> str:
    """With four places behind the point, if that says something."""
    return f"{number:.4g}" if 0.0 < abs(number) < 1e-3 else f"{number:.4f}"


def table(chart: Chart) -> str:
    """The curves in an HTML table: at some places what each was there, or the last time before."""
    curves = [
        c._replace(points=thinned(c.points)) for c in chart.curves if c.points and not c.faint
    ]
    ends = [curve.points[-1][0] for curve in curves]
    if not ends:
        return ""
    head = "".join(f'<th scope="col">{escape(curve.name)}</th>' for curve in curves)
    rows = []
    for at in range(1, ROWS + 1):
        x = max(ends) * at / ROWS
        cells = "".join(f"<td>{_value(curve.points, x)}</td>" for curve in curves)
        rows.append(f'<tr><th scope="row">{text_of(round(x, 2))}</th>{cells}</tr>')
    return (
        f'<table><thead><tr><th scope="col">{escape(chart.x)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _value(points: Sequence[Point], x: float) -> str:
    at = bisect_right([place for place, _ in points], x * (1 + 1e-12))
    ended = at == len(points) and x > points[-1][0] * (1 + 1e-9)
    return "-" if at == 0 or ended else _said(points[at - 1][1])
