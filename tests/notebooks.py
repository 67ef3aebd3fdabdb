"""Notebooks without a notebook: run the code cells of an ``.ipynb`` file, and store what they show.

    python -m tests.notebooks docs/notebooks/*.ipynb

runs each notebook from its first cell to its last in one fresh process, and writes the outputs into
the file as a notebook would. Kept is what a cell prints and what its last expression is worth, as
text and as HTML where it has some. Only the format's plain parts are used (nbformat 4.5).
"""

from __future__ import annotations

import ast
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 120  # for one notebook
ANSWER = "ANSWER_OF_A_NOTEBOOK"  # where the fresh process leaves its outputs

Cell = dict[str, Any]


def read(path: Path) -> dict[str, Any]:
    """The notebook as plain maps."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[Cell]:
    """Its cells of code, from the first."""
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def outputs_of(notebook: dict[str, Any], place: Path) -> list[list[Cell]]:
    """What each cell of code shows when all are run in a fresh process that works in ``place``.

    Raises AssertionError with the traceback if a cell raises an error.
    """
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    answer = place / "outputs.json"
    ours = {"PYTHONPATH": str(ROOT), ANSWER: str(answer), "COLUMNS": "100"}
    done = subprocess.run(
        [sys.executable, "-c", "from tests.notebooks import play; play()"],
        input=json.dumps(sources), text=True, capture_output=True, cwd=place,
        env={**os.environ, **ours}, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outputs: list[list[Cell]] = json.loads(answer.read_text(encoding="utf-8"))
    return outputs


def play() -> None:
    """In the fresh process: cells come as JSON on standard input, outputs go to a file."""
    sources = json.load(sys.stdin)
    names = sys.modules["__main__"].__dict__
    outputs = [_shown(source, number, names) for number, source in enumerate(sources, 1)]
    Path(os.environ[ANSWER]).write_text(json.dumps(outputs), encoding="utf-8")


def _shown(source: str, number: int, names: dict[str, Any]) -> list[Cell]:
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body else None
    value = None
    with redirect_stdout(io.StringIO()) as said:
        if isinstance(last, ast.Expr):
            tree.body.pop()
            exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102  # our own notebooks
            expression = ast.Expression(last.value)
            value = eval(compile(expression, f"cell {number}", "eval"), names)  # noqa: S307  # so
        else:
            exec(compile(tree, f"cell {number}", "exec"), names)  # noqa: S102  # our own notebooks
    outputs: list[Cell] = []
    if said.getvalue():
        stream = {"output_type": "stream", "name": "stdout", "text": _lines(said.getvalue())}
        outputs.append(stream)
    if value is not None:
        data = {"text/plain": _lines(repr(value))}
        if hasattr(value, "_repr_html_"):
            data["text/html"] = _lines(value._repr_html_())
        result = {"output_type": "execute_result", "execution_count": number}
        outputs.append({**result, "metadata": {}, "data": data})
    return outputs


def _lines(text: str) -> list[str]:
    """As notebooks store a text."""
    return text.splitlines(keepends=True)


def store(path: Path) -> None:
    """Run a notebook, and write what its cells show into the file."""
    notebook = read(path)
    with tempfile.TemporaryDirectory(prefix="microgpt-notebook-") as place:
        outputs = outputs_of(notebook, Path(place))
    for number, (cell, shown) in enumerate(zip(code_cells(notebook), outputs, strict=True), 1):
        cell["execution_count"], cell["outputs"] = number, shown
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def made(cells: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """A notebook of such cells, each ``("markdown" or "code", source)``, without outputs."""
    whole = []
    for number, (kind, source) in enumerate(cells):
        cell: Cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        whole.append({**cell, "source": _lines(source)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {"cells": whole, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def main(paths: Sequence[str]) -> None:
    """Store the outputs of these notebooks."""
    for path in paths:
        store(Path(path))
        print(f"{path} has new outputs")


if __name__ == "__main__":
    main(sys.argv[1:])
