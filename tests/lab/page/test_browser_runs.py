"""The page in a real browser: what it gets of a run that goes on, is over, fails or comes back."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab.page.conftest import Open
from tests.lab.page.serving import served


@pytest.mark.timeout(120)
def test_a_page_opens(open_page: Open, tmp_path: Path) -> None:
    with served(tmp_path) as page:
        window = open_page(page.url)
        assert "microGPT" in window.title()
