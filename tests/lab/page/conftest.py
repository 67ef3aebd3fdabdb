"""A real browser for tests of the page: Chromium of the system, driven by playwright.

One browser for each file of tests: no other event loop can run beside playwright's. Where there is
none, these tests are skipped. They stand in files named ``test_browser_...``, each of which goes to
one process (``tests/scheduling.py``).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.page.serving import Served, served

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
#: What Chromium breaks requests off with when the machine gets another network, as by tests of
#: Docker beside these; a page that was being loaded is loaded again.
NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
AGAIN = 5

Open = Callable[..., Any]
Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves the page of a run directory, with flags if there are any, until the test is over."""
    with contextlib.ExitStack() as stack:

        def serve(run_dir: Path, *flags: str) -> Served:
            return stack.enter_context(served(run_dir, *flags))

        yield serve


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A ``playwright`` browser."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("there is no chromium: apt-get install chromium")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        yield browser
        browser.close()


class Console:
    """What a page complains of: errors in its console, failed requests, uncaught exceptions.

    ``expected``: texts that are no fault, such as of a server that a test has killed.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self.expected: list[str] = [NETWORK_CHANGED]

    def watch(self, page: Any) -> None:
        """Listen to a page."""
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.faults.append(f"{message.text} ({message.location.get('url', '')})")

    def forgets(self, text: str) -> bool:
        """Whether a fault has this in it. Those that have are gone afterwards."""
        kept = [fault for fault in self.faults if text not in fault]
        found, self.faults = len(kept) < len(self.faults), kept
        return found

    @property
    def unexpected(self) -> list[str]:
        """The faults that no test expects."""
        return [fault for fault in self.faults if not any(text in fault for text in self.expected)]


@pytest.fixture
def console() -> Console:
    """Of all pages of a test; see ``open_page``."""
    return Console()


@pytest.fixture
def open_page(browser: Any, console: Console, serve: Serve) -> Iterator[Open]:
    """Opens ``url`` in a new window: ``open_page(url, viewport=PHONE, color_scheme="dark")``.

    At the end no page may have complained in its console; they are closed before their servers.
    """
    contexts: list[Any] = []

    def open_page(url: str, **settings: Any) -> Any:
        context = browser.new_context(**{"viewport": DESKTOP, **settings})
        contexts.append(context)
        page = context.new_page()
        console.watch(page)
        page.goto(url)
        for _ in range(AGAIN):
            if not console.forgets(NETWORK_CHANGED):
                break
            page.reload()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert console.unexpected == []
