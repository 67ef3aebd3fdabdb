"""Curves in a drawing: bands of spread, a logarithmic axis, points with their names."""

from __future__ import annotations

import re

import pytest

from lab.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Chart, Curve, decades, draw

POINTS = ((1.0, 3.0), (10.0, 2.0), (100.0, 1.0))


def places(svg: str, kind: str) -> list[tuple[float, float]]:
    """The corners of the first line or polygon of a class."""
    found = re.search(rf'class="{kind}[^>]* points="([^"]*)"', svg)
    assert found is not None
    pairs = [pair.split(",") for pair in found[1].split()]
    return [(float(x), float(y)) for x, y in pairs]


def test_a_band_goes_along_the_lower_edge_and_back_along_the_upper_one() -> None:
    band = [(2.5, 3.0), (1.5, 2.5), (0.5, 1.5)]
    svg = draw(Chart("t", "x", "y", [Curve("a", 1, POINTS, band=band)]))
    line, corners = places(svg, "line"), places(svg, "band f1")
    assert [x for x, _ in corners] == [x for x, _ in line] + [x for x, _ in reversed(line)]
    per_nat = (HEIGHT - BOTTOM - TOP) / 2.5  # from 0.5 to 3.0
    below = [low[1] - y for low, (_, y) in zip(corners[:3], line, strict=True)]
    assert below == pytest.approx([0.5 * per_nat] * 3, abs=0.11)
    assert svg.index('class="band') < svg.index('class="line')
    assert "band" not in draw(Chart("t", "x", "y", [Curve("a", 1, POINTS)]))


def test_on_a_logarithmic_axis_tenfold_is_equally_far_and_zero_is_left_out() -> None:
    curve = Curve("a", 0, ((0.0, 4.0), *POINTS), band=[(4.0, 5.0)] + [(y, y) for _, y in POINTS])
    svg = draw(Chart("t", "x", "y", [curve], log=True))
    width = WIDTH - LEFT - RIGHT
    assert [x for x, _ in places(svg, "line")] == [LEFT, LEFT + width / 2, LEFT + width]
    assert decades(0.5, 20.0) == [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    assert decades(1e-3, 1e3) == [pytest.approx(10.0**power) for power in range(-3, 4)]


def test_the_other_axis_may_be_logarithmic_too_and_a_band_ends_at_its_foot() -> None:
    points = ((0.0, 1e-12), (1.0, 0.0), (2.0, 1e-8), (3.0, 1e-4))
    band = [(-1e-12, 1e-12), (0.0, 0.0), (1e-8, 1e-8), (1e-4, 1e-4)]
    chart = Chart("t", "x", "y", [Curve("a", 1, points, band=band)], whole=True, log_y=True)
    svg = draw(chart)
    high, low = float(TOP), float(HEIGHT - BOTTOM)
    assert [y for _, y in places(svg, "line")] == [low, (high + low) / 2, high]
    assert [y for _, y in places(svg, "band f1")][:3] == [low, (high + low) / 2, high]
    assert [f">1e-{power:02}<" in svg for power in (12, 11, 8, 5)] == [True] * 4


@pytest.mark.parametrize("log_y", [False, True])
def test_a_single_point_lies_in_the_middle(log_y: bool) -> None:
    svg = draw(Chart("t", "x", "y", [Curve("a", 0, [(3.0, 1e-17)])], whole=True, log_y=log_y))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    assert f'cy="{middle:.1f}"' in svg


@pytest.mark.parametrize(("last", "side"), [(4.0, "start"), (2.0, "end")])
def test_names_stand_where_curves_leave_room(last: float, side: str) -> None:
    curves = [Curve("mine", 0, [(1.0, 3.0), (2.0, last)]), Curve("b", 1, [(1.0, 3.0), (2.0, 3.0)])]
    svg = draw(Chart("t", "x", "y", curves, whole=True), style="x")
    assert f'text-anchor="{side}">mine<' in svg


def test_what_lies_above_the_top_is_drawn_at_the_edge() -> None:
    svg = draw(Chart("t", "x", "y", [Curve("a", 0, POINTS)], top=2.0))
    assert [y for _, y in places(svg, "line")] == [TOP, TOP, HEIGHT - BOTTOM]


def test_where_all_are_points_each_has_its_name_beside_it_and_there_is_no_legend() -> None:
    one, two = Curve("<one>", 0, [(1.0, 2.0)]), Curve("two", 1, [(9.0, 3.0)])
    svg = draw(Chart("t", "x", "y", [one, two]), style="x")
    texts = re.findall(r'text-anchor="(\w+)">([^<]*)</text>', svg)
    assert ("start", "&lt;one&gt;") in texts
    assert ("end", "two") in texts
    assert svg.count("two</text>") == 1
    mixed = draw(Chart("t", "x", "y", [one, Curve("two", 1, POINTS)]), style="x")
    assert mixed.count("two</text>") == 1  # in the legend
