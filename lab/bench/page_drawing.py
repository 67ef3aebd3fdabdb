"""``bench.py page-drawing``: how fast the page draws, and whether its memory grows, in Chromium.

The page is the real one, served from a folder without a run; its messages are made up in the
browser, so that neither a coordinator nor the network is measured.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from microgpt.support import cli
from microgpt.support.cli import UserError, say

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
GOAL_MS = 50.0
TICKS_A_SECOND = 10
LANES = (2, 4, 64)
SCRIPT = (Path(__file__).parent / "page_drawing.js").read_text


@click.command("page-drawing")
@click.option("--points", type=cli.Whole(2), default=10_000, help="Steps on the charts.")
@click.option("--bars", type=cli.Whole(2), default=20_000, help="Shards on the timeline.")
@click.option("--repeats", type=cli.Whole(3), default=15, help="Drawings of each kind.")
@click.option("--seconds", type=cli.Whole(0), default=3600, help="Of a run that is replayed.")
def page_drawing(points: int, bars: int, repeats: int, seconds: int) -> None:
    """Time the page's drawing in a headless Chromium; replay a long run and watch its memory.

    A drawing is measured from the call until nothing more is drawn: the library draws in a later
    frame, so that up to 17 ms of it are waiting.
    """
    with opened_page() as (page, session):
        page.evaluate(f"() => {{ {SCRIPT()} }}")
        say(f"{points:,} points on a chart, {bars:,} shards on the timeline; goal {GOAL_MS:g} ms")
        for name in ("loss", "rate", "bytes"):
            page.evaluate(f"bench.prepareChart('{name}', {points})")
            _say(f"chart {name}", repeats, page, session)
        for lanes in LANES:
            mode = page.evaluate(f"bench.prepareTimeline({bars}, {lanes})")
            _say(f"timeline of {lanes} workers, {mode}", repeats, page, session)
        if seconds:
            _replay(page, session, seconds)


def _say(name: str, repeats: int, page: Any, session: Any) -> None:
    page.evaluate("bench.draw(2)")  # a warm-up
    before = _metrics(session)["TaskDuration"]
    found = page.evaluate(f"bench.draw({repeats})")
    busy = (_metrics(session)["TaskDuration"] - before) / repeats * 1000
    say(
        f"{name:<34} {found['drawn']:5.1f} ms until it is drawn (worst {found['worst']:.1f}), "
        f"{busy:5.1f} ms of the processor"
    )


def _replay(page: Any, session: Any, seconds: int) -> None:
    """Messages of so many seconds, as fast as they are taken; the heap after each sixth."""
    say(f"heap while {seconds:,} s of 700 steps/s and 1,400 shards/s are replayed:")
    parts, heaps = 6, [_heap(session)]
    for _ in range(parts):
        page.evaluate(f"bench.replay({seconds * TICKS_A_SECOND // parts})")
        heaps.append(_heap(session))
    say("  " + " ".join(f"{heap / 1e6:.1f}" for heap in heaps) + " MB")


def _heap(session: Any) -> float:
    session.send("HeapProfiler.collectGarbage")
    return _metrics(session)["JSHeapUsedSize"]


def _metrics(session: Any) -> dict[str, float]:
    found = session.send("Performance.getMetrics")["metrics"]
    return {metric["name"]: float(metric["value"]) for metric in found}


@contextmanager
def opened_page() -> Iterator[tuple[Any, Any]]:
    """The page of a folder without a run, in a browser, and the browser's debugging session.

    Raises UserError if there is no browser, or no playwright to drive it.
    """
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        raise UserError(f"there is no browser ({', '.join(BROWSERS)}): apt-get install chromium")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError(f"this needs playwright: pip install '.[dev]' ({error})") from error
    with (
        tempfile.TemporaryDirectory() as folder,
        _served(folder) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(url)
        page.locator("#phase[data-phase=waiting]").wait_for()
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        yield page, session
        browser.close()


@contextmanager
def _served(folder: str) -> Iterator[str]:
    reading, writing = os.pipe()
    command = [sys.executable, "-m", "lab.page", folder, "--port", "0", "--announce", str(writing)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(command, pass_fds=[writing], cwd=root)  # noqa: S603 - our own
    os.close(writing)
    try:
        with open(reading) as pipe:
            url = pipe.readline().strip()
        if not url:
            raise UserError("the page's server has not started")
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
