"""The guide and its notebooks are true: what they show is what comes out."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from tests import notebooks
from tests.marks import soak

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
#: Pages and notebooks that compute for so long that others stand for them in ``make test``.
LONG = (
    "batch-size", "compression", "links-and-skew", "quorum-and-grace", "from-one-worker-to-many",
)  # fmt: skip
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def sessions(text: str) -> list[tuple[str, str]]:
    """The statements of a page's Python, each with what is said to be its value, or ""."""
    code = "\n".join(BLOCK.findall(text))
    lines = code.splitlines()
    found = []
    for statement in ast.parse(code).body:
        shown = ""
        if isinstance(statement, ast.Expr):
            shown = lines[(statement.end_lineno or 0) - 1].partition("  # ")[2]
        found.append((ast.unparse(statement), shown))
    return found


@pytest.mark.parametrize(
    "page",
    [
        soak(page, id=page.stem) if page.stem in LONG else page
        for page in PAGES
        if page.name != "README.md"
    ],
    ids=lambda page: page.stem,
)
def test_what_a_page_shows_comes_out(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    compared = 0
    for code, shown in sessions(page.read_text()):
        if shown:
            assert repr(eval(code, names)) == shown, code  # noqa: S307  # our own page
            compared += 1
        else:
            exec(code, names)  # noqa: S102  # our own page
    if page.name != "faults-and-goodput.md":  # whose session is in a shell
        assert compared > 1


@pytest.mark.parametrize(
    "path",
    [soak(path, id=path.stem) if path.stem in LONG else path for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_shows_what_comes_out(path: Path, tmp_path: Path) -> None:
    notebook = notebooks.read(path)
    stored = [cell["outputs"] for cell in notebooks.code_cells(notebook)]
    assert notebooks.outputs_of(notebook, tmp_path) == stored
    numbers = [cell["execution_count"] for cell in notebooks.code_cells(notebook)]
    assert numbers == list(range(1, len(stored) + 1))
    assert sum(map(bool, stored)) > len(stored) // 2


def test_a_wrong_output_is_noticed(tmp_path: Path) -> None:
    cells = [("code", "x = 0.1"), ("code", 'print("x")\nx + 0.2'), ("markdown", "x")]
    first, second = notebooks.outputs_of(notebooks.made(cells), tmp_path)
    assert first == []
    assert second[0] == {"output_type": "stream", "name": "stdout", "text": ["x\n"]}
    assert second[1]["data"] == {"text/plain": ["0.30000000000000004"]}
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        notebooks.outputs_of(notebooks.made([("code", "1 / 0")]), tmp_path)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_of_a_notebook_lead_somewhere(path: Path) -> None:
    cells = notebooks.read(path)["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert LINK.findall(text)
    for target in LINK.findall(text):
        assert (path.parent / target).exists(), target


def test_the_path_leads_over_every_page_and_notebook() -> None:
    linked = set(LINK.findall((ROOT / "docs" / "guide" / "README.md").read_text()))
    assert {page.name for page in PAGES} - {"README.md"} <= linked
    assert {f"../notebooks/{path.name}" for path in NOTEBOOKS} <= linked
    assert len(NOTEBOOKS) == 3
