"""What a report shows of updates: norms of tensors, and what strategies say of themselves."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

from coordinator.core.events import Event, Started, StrategyNumbers, TensorNorms
from lab.report import chart
from lab.report.chart import Chart, Curve
from lab.report.updates import MOST_LABELS, MOST_NAMES, MOST_POINTS, OTHERS, read_updates
from tests.lab.report.directories import make_run, started
from tests.lab.report.test_page import Outline, page_of

NAMES = ("wte", "wpe")


def norms(version: int, gradient: tuple[float, ...] = (3.0, 4.0)) -> TensorNorms:
    return TensorNorms(version, NAMES, gradient, (0.0, float(version)))


TOLD: tuple[Event, ...] = (
    norms(1),
    StrategyNumbers(1, {"drift": 0.5}, {"staleness": {"0": 1}}),
    norms(3, ()),
    StrategyNumbers(3, {"drift": 1.5}, {"staleness": {"0": 2, "10": 3, "2": 1000}, "late": {}}),
)


def test_all_that_is_told_is_read(tmp_path: Path) -> None:
    found = read_updates(make_run(tmp_path / "a", events=TOLD))
    assert found.gradient.points == [(1.0, 5.0)]
    assert found.update.points == [(1.0, 1.0), (3.0, 3.0)]
    assert found.last == norms(3, ())
    assert {name: series.points for name, series in found.numbers.items()} == {
        "drift": [(1.0, 0.5), (3.0, 1.5)]
    }
    assert found.counts == {"staleness": {"0": 3, "2": 1000, "10": 3}, "late": {}}


def test_what_is_done_again_takes_the_place_of_what_was_done(tmp_path: Path) -> None:
    again = started()
    begun = Started(again.schema, again.run, "another", 2, 4, again.level)
    path = make_run(tmp_path / "a", events=(*TOLD, begun, norms(4)))
    assert read_updates(path).update.points == [(1.0, 1.0), (4.0, 4.0)]


def test_however_much_is_told_a_little_is_kept(tmp_path: Path) -> None:
    many = [norms(version) for version in range(1, 5001)]
    names = {f"n{number}": 1.0 for number in range(100)}
    labels = {str(number): 1 for number in range(1000)}
    odd = StrategyNumbers(5000, names, {f"h{number}": labels for number in range(100)})
    found = read_updates(make_run(tmp_path / "a", events=(*many, odd)))
    points = found.update.points
    assert MOST_POINTS / 2 < len(points) <= MOST_POINTS
    assert points[0] == (1.0, 1.0)
    assert [b - a for (a, _), (b, _) in pairwise(points)] == [8.0] * 624
    assert (len(found.numbers), len(found.counts)) == (MOST_NAMES, MOST_NAMES)
    assert found.counts["h0"][OTHERS] == 1000 - MOST_LABELS


def test_the_page_shows_it_and_says_nothing_of_runs_without(tmp_path: Path) -> None:
    evil = StrategyNumbers(4, {"<script>": 1.0}, {"<b>": {"<i>": 1}})
    paths = [
        make_run(tmp_path / "one", events=(*TOLD, evil)),
        make_run(tmp_path / "two", events=(norms(2),)),
        make_run(tmp_path / "three"),
    ]
    page = page_of(paths, tmp_path)
    outline = Outline(page)
    assert "<script" not in page
    assert "<b>" not in page.replace("<b>after", "")
    assert "Updates, and what strategies say of them" in outline.texts
    assert "0: 3, 2: 1,000, 10: 3" in outline.texts
    labels = [attributes.get("aria-label") for tag, attributes in outline.tags if tag == "svg"]
    assert "Gradient by step: norm: one from 5.0000 to 5.0000, two from 5.0000 to 5.0000" in labels
    assert "Update by step: norm: one from 1.0000 to 3.0000, two from 2.0000 to 2.0000" in labels
    assert "Drift: of the weights since they were given out: one from 0.5000 to 1.5000" in labels
    assert "one: norms of tensors at step 3" in outline.texts
    without = Outline(page_of(paths[2:], tmp_path))
    assert "Updates, and what strategies say of them" not in without.texts


def heights(points: list[tuple[float, float]], *, whole: bool) -> list[float]:
    drawn = chart.draw(Chart("", "", "", [Curve("a", 0, points)], whole))
    (line,) = re.findall(r'points="([^"]+)"', drawn)
    return [float(place.split(",")[1]) for place in line.split()]


def test_norms_that_grow_are_drawn_to_their_end() -> None:
    points = [(0.0, 1.0), (1.0, 5.5), (2.0, 10.0)]
    top, bottom = float(chart.TOP), float(chart.HEIGHT - chart.BOTTOM)
    assert heights(points, whole=True) == [bottom, (top + bottom) / 2, top]
    assert heights(points, whole=False) == [bottom, top, top], "as of a loss that explodes"


def test_huge_numbers_do_not_break_the_page(tmp_path: Path) -> None:
    told = [
        TensorNorms(version, NAMES, (1.7e308, 1.7e308), (1.7e308, 0.0)) for version in range(1, 5)
    ]
    odd = [StrategyNumbers(v, {"drift": (-1) ** v * 1.7e308}, {}) for v in range(1, 5)]
    page = page_of([make_run(tmp_path / "a", events=[*told, *odd])], tmp_path)
    Outline(page)
    assert not re.search(r"\b(nan|inf)\b", page.lower())


def test_small_numbers_are_told_with_what_they_say(tmp_path: Path) -> None:
    drawn = Chart("", "step", "norm", [Curve("a", 0, [(1.0, 1.25e-7), (2.0, 0.0)])])
    assert chart.in_words(drawn) == "norm: a from 1.25e-07 to 0.0000"
