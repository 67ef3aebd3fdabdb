"""What the page's own files must keep: the palette of the report, and no data as HTML."""

from __future__ import annotations

import re
from pathlib import Path

from lab.page import charts
from lab.report.palette import DARK, HUES, LIGHT

STATIC = Path(charts.__file__).parent / "static"
MOST_LINES = 300


def _variables(css: str, selector: str) -> dict[str, str]:
    body = css[css.index(selector) :].split("{", 1)[1].split("}")[0]
    return dict(re.findall(r"--(\w+): (#[0-9a-f]{6});", body))


def test_the_colours_are_those_of_the_report() -> None:
    css = (STATIC / "style.css").read_text()
    for selector, ground, at in (
        (":root {", LIGHT, 0),
        (':root[data-theme="dark"]', DARK, 1),
        (':root:not([data-theme="light"])', DARK, 1),
    ):
        hues = {f"c{number}": pair[at] for number, pair in enumerate(HUES)}
        assert _variables(css, selector) == {**ground, **hues}


def test_no_script_makes_html_of_text() -> None:
    for path in STATIC.glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function",
            path.read_text(),
        )
        assert found == [], path.name


def test_nothing_is_fetched_from_elsewhere() -> None:
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert re.findall(r"https?://\S+", text) == [], path.name


def test_the_scripts_stay_short() -> None:
    lengths = {path.name: len(path.read_text().splitlines()) for path in STATIC.iterdir()}
    assert {name: count for name, count in lengths.items() if count > MOST_LINES} == {}


def test_the_chart_library_lies_in_its_package() -> None:
    assert charts.library().parts[-5:] == ("bokeh", "server", "static", "js", "bokeh.min.js")
    assert charts.library().stat().st_size > 500_000
