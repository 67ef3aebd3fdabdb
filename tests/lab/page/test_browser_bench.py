"""``bench.py page-drawing`` measures the real page, and tells all that it has measured."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.lab.page.conftest import NAMES
from tests.processes import Lab

pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.mark.soak
@pytest.mark.skipif(not any(map(shutil.which, NAMES)), reason="there is no chromium")
def test_drawing_is_measured(lab: Lab) -> None:
    little = ("--points", "50", "--bars", "200", "--repeats", "3", "--seconds", "6")
    bench = lab.script("bench", "page-drawing", *little)
    assert bench.wait() == 0
    lines = bench.out.splitlines()
    number = r" +[\d.]+"
    measured = rf"{number} ms until it is drawn \(worst [\d.]+\),{number} ms of the processor"
    drawn = [line for line in lines if re.search(measured, line)]
    names = ["chart loss", "chart rate", "chart bytes", *(f"timeline of {n}" for n in (2, 4, 64))]
    assert [line.startswith(name) for line, name in zip(drawn, names, strict=True)] == [True] * 6
    assert re.fullmatch(r" ( [\d.]+){7} MB", lines[-1])


def test_without_a_browser_it_says_what_it_needs(lab: Lab) -> None:
    bench = lab.script("bench", "page-drawing", PATH=str(lab.place))
    assert bench.wait() == 1
    assert bench.err.splitlines()[-1].endswith("apt-get install chromium")
