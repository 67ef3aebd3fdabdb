"""The report: whole, escaped, the same for the same runs, and of what the runs have recorded."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from coordinator.core.events import Joined
from lab.report import chart
from lab.report.chart import Chart, Curve
from lab.report.command import main
from lab.report.palette import DARK, HUES, LIGHT
from tests.conftest import Reference
from tests.lab.report.directories import RUN, add_checkpoints, make_run, write_events
from tests.lab.report.test_spans import steady
from tests.lab.report.trace_reader import Trace

SVG = "{http://www.w3.org/2000/svg}"
EMPTY = {"meta", "br"}


class Outline(HTMLParser):
    """Elements and texts of a page; elements that are not closed are an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def count(self, tag: str) -> int:
        return [name for name, _ in self.tags].count(tag)


def reported(paths: Sequence[Path], *flags: str) -> Result:
    return CliRunner().invoke(main, [*map(str, paths), *flags], catch_exceptions=True)


def page_of(paths: Sequence[Path], place: Path) -> str:
    result = reported(paths, "-o", str(place / "report.html"))
    assert result.exception is None, result.exception
    return (place / "report.html").read_text()


@pytest.fixture
def pair(tmp_path: Path, reference: Reference) -> list[Path]:
    """Two runs with all that a report shows."""
    paths = [
        make_run(tmp_path / "one", validations={2: 2.75, 4: 1.75}),
        make_run(tmp_path / "two", losses=[3.0, 2.5, 2.25], seed=7, conditions=["--slow 3x"]),
    ]
    for path in paths:
        write_events(path, [*steady(9)])
        add_checkpoints(path, [replace(reference(4, 2), run=RUN, step=step) for step in (2, 4)])
    return paths


def test_all_is_on_the_page(pair: list[Path], tmp_path: Path, reference: Reference) -> None:
    outline = Outline(page_of(pair, tmp_path))
    for heading in (
        "Curves", "Losses at equal steps", "Timelines", "What happened", "Settings and outcome",
        "Samples", "States",
    ):  # fmt: skip
        assert heading in outline.texts
    assert outline.count("svg") == 7  # five charts and two timelines
    assert "≠ seed" in outline.texts
    assert "--slow 3x" in outline.texts
    assert replace(reference(4, 2), step=4).state_sha256 in outline.texts
    assert any("one and two: losses differ from step 3" in text for text in outline.texts)
    bars = [tag for tag, _ in outline.tags].count("rect")
    assert bars == 2 * 2 * 8  # two runs with eight shards each, pale and full


def test_it_needs_no_network_and_no_script(pair: list[Path], tmp_path: Path) -> None:
    page = page_of(pair, tmp_path)
    outline = Outline(page)
    assert outline.count("script") + outline.count("link") + outline.count("img") == 0
    names = {name for _, attributes in outline.tags for name in attributes}
    assert not names & {"src", "href", "srcset", "onload", "onclick"}
    assert set(re.findall(r"https?://[^\"' ]+", page)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in page
    assert "@import" not in page


def test_charts_have_words_and_tables(pair: list[Path], tmp_path: Path) -> None:
    outline = Outline(page_of(pair, tmp_path))
    labels = [attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg"]
    assert all(labels)
    assert labels[0] == (
        "Loss by step: each step: one from 3.0000 to 1.5000, two from 3.0000 to 2.2500"
    )
    assert outline.count("details") >= 4
    scopes = [attributes.get("scope") for tag, attributes in outline.tags if tag == "th"]
    assert set(scopes) == {"col", "row"}


def test_the_same_runs_make_the_same_page(pair: list[Path], tmp_path: Path) -> None:
    assert page_of(pair, tmp_path) == page_of(pair, tmp_path)


def test_what_strangers_say_is_escaped(tmp_path: Path) -> None:
    evil = '</title><script>alert("1")</script>'
    path = make_run(tmp_path / "<script>x<", conditions=[f"--slow {evil}"])
    told = [*steady(4)]
    told[1] = (0.0, Joined(1, evil, f"{evil}\x1b"))
    write_events(path, told)
    page = page_of([path], tmp_path)
    assert "<script" not in page
    assert "\x1b" not in page
    assert "&lt;script&gt;" in page
    Outline(page)


def test_half_a_run_has_a_page(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", losses=[])
    (path / "events.jsonl").unlink()
    (path / "checkpoint.msgpack").write_bytes(b"damaged")
    outline = Outline(page_of([path], tmp_path))
    assert outline.count("svg") == 0
    assert any("events.jsonl cannot be read" in text for text in outline.texts)
    assert any("passed over" in text for text in outline.texts)


def test_a_report_of_long_runs_is_small(tmp_path: Path) -> None:
    losses = [1.0 + 1 / step for step in range(1, 10_001)]
    paths = [make_run(tmp_path / name, losses=losses) for name in "abcd"]
    for path in paths:
        write_events(path, [*steady(2000)])
    assert len(page_of(paths, tmp_path)) < 5e5


def test_huge_losses_do_not_break_the_charts(tmp_path: Path) -> None:
    losses = [1.7e308, -1.7e308, 3.0] * 500
    path = make_run(tmp_path / "a", losses=losses, validations={1: 1.7e308})
    page = page_of([path], tmp_path)
    Outline(page)
    assert "nan" not in page.lower().replace("nano", "")


def test_a_drawing_of_its_own_is_xml(pair: list[Path], tmp_path: Path) -> None:
    assert reported(pair, "--svg", str(tmp_path / "loss.svg")).exception is None
    root = ElementTree.fromstring((tmp_path / "loss.svg").read_text())  # noqa: S314  # our own
    assert root.tag == f"{SVG}svg"
    assert len(root.findall(f"{SVG}polyline")) == 2
    texts = [element.text for element in root.iter(f"{SVG}text")]
    assert {"one", "two", "step"} <= {*texts}


def test_pixels_are_drawn_where_matplotlib_is(pair: list[Path], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="an extra")
    odd = make_run(tmp_path / "_a $x$ ^ \\frac{", losses=[2.0])
    assert reported([*pair, odd], "--png", str(tmp_path / "loss.png")).exception is None
    data = (tmp_path / "loss.png").read_bytes()
    width, height = struct.unpack(">II", data[16:24])
    assert (data[:8], width, height) == (b"\x89PNG\r\n\x1a\n", 1200, 675)


def test_without_matplotlib_a_line_says_what_is_missing(
    pair: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if it were not installed
    text = str(reported(pair, "--png", str(tmp_path / "loss.png")).exception)
    assert text.startswith("--png needs matplotlib: pip install matplotlib, or take --svg")


def test_a_trace_is_written(pair: list[Path], tmp_path: Path) -> None:
    assert reported(pair, "--trace", str(tmp_path / "trace.json")).exception is None
    trace = Trace((tmp_path / "trace.json").read_text())
    assert [len(events) for events in trace.complete.values()] == [8, 8]


def test_what_cannot_be_done_is_one_line(tmp_path: Path) -> None:
    path = make_run(tmp_path / "a", losses=[])
    folder, missing = str(tmp_path), f"there is no {tmp_path}/config.json"
    for paths, flags, text in (
        ([path], (), "say what to write: -o report.html, --trace"),
        ([tmp_path], ("-o", "x"), missing),
        ([path], ("--png", f"{folder}/x"), "the runs have no steps to draw"),
        ([path], ("--svg", f"{folder}/x"), "the runs have no steps to draw"),
        ([path], ("-o", f"{folder}/none/x"), f"{folder}/none/x cannot be written"),
    ):
        result = reported(paths, *flags)
        assert str(result.exception).startswith(text)
        assert type(result.exception).__name__ == "UserError"


# --- parts ---------------------------------------------------------------------------------------


def test_a_curve_lies_where_its_numbers_are() -> None:
    drawn = chart.draw(Chart("Title", "x", "y", [Curve("a", 0, [(0.0, 2.0), (10.0, 1.0)])]))
    (points,) = re.findall(r'points="([^"]+)"', drawn)
    left, bottom = chart.LEFT, chart.HEIGHT - chart.BOTTOM
    right = chart.WIDTH - chart.RIGHT
    assert points == f"{left:.1f},{chart.TOP:.1f} {right:.1f},{bottom:.1f}"


def test_equal_curves_are_seen_through_each_other() -> None:
    points = [(0.0, 2.0), (1.0, 1.0)]
    curves = [Curve(name, at, points) for at, name in enumerate("abc")]
    drawn = chart.draw(Chart("Title", "x", "y", [*curves, Curve("d", 3, [(0.0, 1.5), (1.0, 1.0)])]))
    dashes = re.findall(r'<polyline class="line l(\d)"(?: stroke-dasharray="([^"]+)")?', drawn)
    assert dashes == [("0", ""), ("1", "8 8"), ("2", "8 16"), ("3", "")]


def test_long_curves_are_thinned_to_means() -> None:
    points = [(float(x), float(x % 2)) for x in range(10_000)]
    thin = chart.thinned(points)
    assert len(thin) == chart.MOST_POINTS
    assert thin[0] == (12.0, 0.48)
    assert sum(y for _, y in thin) / len(thin) == pytest.approx(0.5)


def test_a_running_mean_looks_back() -> None:
    assert chart.running_mean([4.0, 2.0, 0.0, 8.0], 2) == [4.0, 3.0, 1.0, 4.0]
    assert chart.running_mean([4.0, 2.0], 1) == [4.0, 2.0]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 10.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]),
        (2.1, 3.4, [2.5, 3.0]),
        (0.0, 120.0, [0.0, 50.0, 100.0]),
        (1.0, 1.0, [1.0]),
        (0.0, float("inf"), [0.0]),
        (-1.7e308, 1.7e308, [-1.7e308]),
    ],
)
def test_axes_have_round_numbers(low: float, high: float, expected: list[float]) -> None:
    assert chart.ticks(low, high) == pytest.approx(expected)


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.1."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    dark, light = sorted((luminance(a), luminance(b)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize(("at", "ground"), [(0, LIGHT), (1, DARK)])
def test_colours_stand_out_from_the_ground(at: int, ground: dict[str, str]) -> None:
    for pair in HUES:
        assert contrast(pair[at], ground["ground"]) >= 3.0  # of graphics
    for name in ("text", "weak"):
        for under in ("ground", "card"):
            assert contrast(ground[name], ground[under]) >= 4.5  # of text
    assert contrast(ground["text"], ground["mark"]) >= 4.5
