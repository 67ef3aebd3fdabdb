"""What the documentation names exists: files, tests, make targets and flags."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")
TEST = re.compile(r"(test_\w+)\.py(?:::(test_\w+))?|(?<=`)::(test_\w+)")
FILE = re.compile(r"`((?:microgpt|coordinator|worker|lab|scripts|tests|docs|golden)/[\w./-]*)`")
NAMED = re.compile(r"`([\w/]+\.py)::([A-Za-z_][\w.]*)`")
TRAIN_FLAG = re.compile(r"make train ARGS=\"([^\"]*)\"")


@cache
def functions(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing_names(text: str) -> list[str]:
    """Files and functions that a page names and the project does not have.

    Files are those in backticks that begin with a room; functions are named ``file.py::name`` or
    ``file.py::Class.name``.
    """
    wrong = [name for name in FILE.findall(text) if not (ROOT / name).exists()]
    for file, name in NAMED.findall(text):
        if (ROOT / file).exists():
            if name not in definitions(ROOT / file):
                wrong.append(f"{file}::{name}")
        elif "/" in file:
            wrong.append(file)
    return wrong


@cache
def definitions(path: Path) -> frozenset[str]:
    """Functions and classes of a file, methods with the name of their class before them."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, ast.FunctionDef))
            found |= {f"{node.name}.{method.name}" for method in methods}
    return frozenset(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_files_and_functions_exist(page: Path) -> None:
    assert missing_names(page.read_text()) == []


def test_a_name_that_does_not_exist_is_noticed() -> None:
    text = "`microgpt/value.py::Value.backward` `microgpt/` `worker/state.py` `test_docs.py::x`"
    assert missing_names(text) == []
    assert missing_names("`microgpt/adam.py`") == ["microgpt/adam.py"]
    assert missing_names("`lab/sim/`, `coordinator/handout.py::Handout`") == [
        "lab/sim/",
        "coordinator/handout.py",
    ]
    assert missing_names("`microgpt/value.py::Value.back`") == ["microgpt/value.py::Value.back"]


def test_the_architecture_names_every_room() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in ROOT.glob("*/*/__init__.py")}
    assert len(rooms) > 10
    assert {room for room in rooms if f"`{room}`" not in page} == set()
    assert len(NAMED.findall(page)) > 25  # the walk


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(page.read_text()):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_exist(page: Path) -> None:
    file: Path | None = None
    for module, name, further in TEST.findall(page.read_text()):
        if module:
            file = next(iter((ROOT / "tests").rglob(f"{module}.py")), ROOT / "none")
            assert file.exists(), f"{page.name} names {file.name}"
        wanted = name or further
        if wanted:
            assert file is not None
            assert wanted in functions(file), f"{page.name} names {wanted}, not in {file.name}"


def test_guarantees_name_tests_at_all() -> None:
    assert len(TEST.findall((ROOT / "docs" / "guarantees.md").read_text())) > 20


def test_make_targets_of_the_readme_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z]+)", readme, re.MULTILINE))
    assert {"train", "test"} <= named <= targets


def test_flags_of_the_readme_exist() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "train.py"), "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    named = set(re.findall(r"--[a-z-]+", " ".join(TRAIN_FLAG.findall(PAGES[0].read_text()))))
    assert {"--workers", "--resume"} <= named
    assert named <= set(re.findall(r"--[a-z0-9-]+", shown))


@pytest.mark.soak
def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines of the README's Python session give what stands behind them."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGES[0].read_text(), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for line in "".join(blocks).splitlines():
        code, _, shown = line.partition("  # ")
        if shown:
            assert repr(eval(code, names)) == shown, code  # noqa: S307  # our own README
        elif code:
            exec(code, names)  # noqa: S102  # our own README
