"""A report in a real browser: from the disk, without a network."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from lab.report.command import main
from tests.lab.page.conftest import DESKTOP, PHONE, Open
from tests.lab.report.directories import make_run, write_events
from tests.lab.report.test_spans import steady
from tests.marks import soak

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def report(tmp_path: Path) -> Path:
    """Of two runs with a timeline each."""
    paths = [make_run(tmp_path / "one"), make_run(tmp_path / "two", losses=[3.0, 2.5, 2.25])]
    for path in paths:
        write_events(path, [*steady(9)])
    page = tmp_path / "report.html"
    result = CliRunner().invoke(main, [*map(str, paths), "-o", str(page)])
    assert result.exit_code == 0, result.output
    return page


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), soak(PHONE, "dark")], ids=["desktop", "phone"]
)
def test_a_report_opens_from_the_disk_without_a_network(
    open_page: Open, report: Path, viewport: dict[str, int], scheme: str
) -> None:
    window = open_page(report.as_uri(), viewport=viewport, color_scheme=scheme, offline=True)
    asked = window.evaluate("performance.getEntriesByType('resource').length")
    assert asked == 0, "it is one file"
    curves = window.locator("svg").first
    assert curves.is_visible()
    box = curves.bounding_box()
    assert box is not None
    assert 200 < box["width"] <= viewport["width"]
    for name in ("one", "two"):
        assert window.get_by_text(name, exact=True).first.is_visible()
    assert window.evaluate("document.documentElement.scrollWidth <= innerWidth"), "no overflow"
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    faults = axe.Axe().run(window).response["violations"]
    serious = [fault["id"] for fault in faults if fault["impact"] in ("serious", "critical")]
    assert serious == []
