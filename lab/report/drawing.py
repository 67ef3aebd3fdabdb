"""A timeline as an inline SVG: a row for each worker, a bar for each shard."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from coordinator.core.events import Condition, Expelled, Lost, Silent
from lab.report.chart import text_of, ticks
from lab.report.palette import HUES
from lab.report.spans import Lane, Mark, Span
from lab.report.timeline import Timeline, told_at

WIDTH, LEFT, RIGHT, TOP, ROW, BOTTOM = 1000, 130, 16, 8, 30, 44
BAR = 20  # high
LEAST = 0.6  # wide
LETTERS = 16  # of a name


def draw(timeline: Timeline) -> str:
    """The window of the timeline; empty if nobody had work in it."""
    if not timeline.lanes:
        return ""
    height = TOP + ROW * len(timeline.lanes) + BOTTOM
    label = f"What {len(timeline.lanes)} workers did: {in_words(timeline)}"
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {WIDTH} {height}" '
            f'width="{WIDTH}" height="{height}" aria-label="{escape(label)}">',
            *_axis(timeline, height),
            *(part for lane in timeline.lanes for part in _row(timeline, lane)),
            *_marks(timeline, height),
            "</svg>",
        ]
    )


def in_words(timeline: Timeline) -> str:
    """What the window is, in a sentence."""
    begin, end = (told_at(timeline, time) for time in (timeline.first, timeline.last))
    many = len(timeline.spans)
    return f"second {begin:.3f} to {end:.3f} since the start of the run, {many:,} shards"


def name_of(timeline: Timeline, lane: Lane) -> str:
    """A worker's name and number."""
    name = timeline.names.get(lane, ("", ""))[0]
    return f"{name} ({lane.number})" if name else f"worker {lane.number}"


def _x(timeline: Timeline, time: float) -> float:
    length = max(timeline.last - timeline.first, 1e-9)
    share = (time - timeline.first) / length
    return LEFT + (WIDTH - LEFT - RIGHT) * min(max(share, 0.0), 1.0)


def _axis(timeline: Timeline, height: int) -> Iterator[str]:
    bottom = height - BOTTOM
    begin, end = (told_at(timeline, time) for time in (timeline.first, timeline.last))
    for second in ticks(begin, end, 8):
        x = _x(timeline, timeline.begin + second)
        yield f'<path class="grid" d="M{x:.1f},{TOP}V{bottom}"/>'
        text = f'<text class="tick" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
        yield f"{text}{text_of(round(second, 6))}</text>"
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text class="unit" x="{middle:.1f}" y="{height - 6}" text-anchor="middle">'
    yield "seconds since the start</text>"


def _row(timeline: Timeline, lane: Lane) -> Iterator[str]:
    y = TOP + ROW * timeline.lanes.index(lane)
    name = name_of(timeline, lane)
    short = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
    yield f'<text x="{LEFT - 10}" y="{y + 19}" text-anchor="end">{escape(short)}'
    yield f"<title>{escape(name)}</title></text>"
    for span in timeline.spans:
        if span.lane == lane:
            yield _bar(timeline, span, y + (ROW - BAR) / 2)


def _bar(timeline: Timeline, span: Span, y: float) -> str:
    """Pale while the worker had the shard, full while its engine was at work."""
    colour = "none" if span.kind == "evaluation" else f"f{span.shard.round % len(HUES)}"
    parts = [_box(timeline, span.begin, span.end, y + BAR / 4, BAR / 2, f"flight {colour}")]
    if span.computing is not None:
        parts.append(_box(timeline, span.computing, span.end, y, BAR, colour))
    if span.outcome != "answered" or span.kind in ("backup", "trial"):
        parts.append(_box(timeline, span.begin, span.end, y, BAR, "dropped"))
    shard = span.shard
    documents = f"documents {shard.start + 1:,} to {shard.start + shard.count:,}"
    milliseconds = (span.end - span.begin) * 1e3
    about = (
        f"round {shard.round:,}: {span.kind}, {documents} with version {shard.version:,}, "
        f"{span.outcome} after {milliseconds:.1f} ms"
    )
    return f"<g><title>{escape(about)}</title>{''.join(parts)}</g>"


def _box(t: Timeline, begin: float, end: float, y: float, height: float, kind: str) -> str:
    left = _x(t, begin)
    width = max(_x(t, end) - left, LEAST)
    return (
        f'<rect class="{kind}" x="{left:.2f}" y="{y:g}" width="{width:.2f}" height="{height:g}"/>'
    )


def _marks(timeline: Timeline, height: int) -> Iterator[str]:
    """Workers that went without a word, and conditions, within the window."""
    for mark in timeline.marks:
        if timeline.first <= mark.time <= timeline.last and _is_shown(mark):
            x = _x(timeline, mark.time)
            line = f'<path class="happened" d="M{x:.1f},{TOP - 4}V{height - BOTTOM}"/>'
            yield f"<g><title>{escape(mark.text)}</title>{line}</g>"


def _is_shown(mark: Mark) -> bool:
    return isinstance(mark.event, Condition | Expelled | Lost | Silent)
