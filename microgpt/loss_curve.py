"""The losses of a training as a picture: an inline SVG with its meaning in words. Needs nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

WIDTH, HEIGHT = 480, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 26  # around the curve, for the labels
MOST_POINTS = 240  # of the curve; more losses are drawn as means of neighbours
_TRAINING, _VALIDATION = "#1f77b4", "#d62728"

Point = tuple[float, float]  # a step from 1, and a loss in nats per token


def in_words(losses: Sequence[float], validations: Sequence[Point]) -> str:
    """What the curve shows, in a sentence. ``losses``: of every step, from 1."""
    if not losses:
        return "no steps yet"
    steps = f"{len(losses):,} step{'s' if len(losses) > 1 else ''}"
    text = f"{steps}, loss {losses[0]:.4f} to {losses[-1]:.4f}"
    if validations:
        text += f", validation loss {validations[-1][1]:.4f}"
    return text


def loss_curve(losses: Sequence[float], validations: Sequence[Point]) -> str:
    """An ``<svg>`` of finite losses, empty without any. Readers of screens get ``in_words``."""
    if not losses:
        return ""
    curve = _thinned(losses)
    values = [loss for _, loss in (*curve, *validations)]
    low, high = min(values), max(values)
    last = max(len(losses), 2)

    def place(point: Point) -> str:
        step, loss = point
        x = LEFT + (WIDTH - LEFT - RIGHT) * ((step - 1) / (last - 1))
        share = (loss / 2 - low / 2) / (high / 2 - low / 2) if high > low else 0.5
        return f"{x:.1f},{HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share:.1f}"

    words = escape(f"Loss curve: {in_words(losses, validations)}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{words}" '
        f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="none">',
        f"<title>{words}</title>",
        f'<path d="M{LEFT},{TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" stroke="currentColor" '
        'stroke-opacity="0.4"/>',
        _label(LEFT - 6, TOP + 8, "end", f"{high:.4g}"),
        _label(LEFT - 6, HEIGHT - BOTTOM, "end", f"{low:.4g}"),
        _label(LEFT, HEIGHT - 8, "start", "step 1"),
        _label(WIDTH - RIGHT, HEIGHT - 8, "end", f"step {len(losses):,}"),
        _line(map(place, curve), _TRAINING),
    ]
    if validations:
        parts.append(_line(map(place, validations), _VALIDATION, ' stroke-dasharray="4 2"'))
        parts.append(
            f'<text x="{WIDTH - RIGHT}" y="{TOP + 8}" text-anchor="end">'
            f'<tspan fill="{_TRAINING}">training</tspan> '
            f'<tspan fill="{_VALIDATION}">validation (dashed)</tspan></text>'
        )
    return "".join([*parts, "</svg>"])


def _thinned(losses: Sequence[float]) -> list[Point]:
    size = math.ceil(len(losses) / MOST_POINTS)
    groups = [losses[first : first + size] for first in range(0, len(losses), size)]
    return [
        (1 + at * size + (len(group) - 1) / 2, math.fsum(x / len(group) for x in group))
        for at, group in enumerate(groups)
    ]


def _line(places: Iterable[str], colour: str, more: str = "") -> str:
    points = list(places)
    if len(points) == 1:  # a line of one point cannot be seen
        x, y = points[0].split(",")
        return f'<circle cx="{x}" cy="{y}" r="2.5" fill="{colour}"/>'
    path = " ".join(points)
    return f'<polyline points="{path}" stroke="{colour}" stroke-width="1.5"{more}/>'


def _label(x: int, y: int, anchor: str, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="{anchor}" fill="currentColor">{text}</text>'
