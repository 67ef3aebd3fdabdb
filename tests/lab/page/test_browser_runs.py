"""The page in a real browser: what it gets of a run that goes on, is over, fails or comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.page.conftest import Open, Serve


@pytest.mark.timeout(120)
def test_a_page_opens(open_page: Open, serve: Serve, tmp_path: Path) -> None:
    window = open_page(serve(tmp_path).url)
    assert "microGPT" in window.title()
