"""The experiments that come with the project: what each would run, and its tiny version, run."""

from __future__ import annotations

import csv
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lab.experiments.command import main
from tests.processes import ROOT, Lab

SHIPPED = sorted((ROOT / "experiments").glob("*.toml"))
#: Nobody listens there: the embedded names are taken for the 32,033, at once.
NOWHERE = {"MICROGPT_NAMES_URL": "http://127.0.0.1:1/names.txt"}


def axes_of(plain: dict[str, Any], quick: bool) -> list[list[str]]:
    """The labels of each axis, read from the file without the program's own reader."""
    matrix = dict(plain.get("matrix", {}))
    if quick:
        matrix |= plain["quick"].get("matrix", {})
    return [[_label(label) for label in choices] for choices in matrix.values()]


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def runs_of(plain: dict[str, Any], quick: bool) -> tuple[int, int]:
    """How many cases, and how many runs."""
    cases = len(plain.get("case", []))
    if axes := axes_of(plain, quick):
        cases += math.prod(map(len, axes))
    return cases, cases * seeds_of(plain, quick)


def seeds_of(plain: dict[str, Any], quick: bool) -> int:
    """How many; 42, 43 and 44 if nothing is said."""
    usual = plain.get("seeds", [42, 43, 44])
    return len(plain["quick"].get("seeds", usual) if quick else usual)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_a_shipped_experiment_would_run(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {**NOWHERE, "MICROGPT_CACHE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    plain = tomllib.loads(path.read_text())
    for quick in (False, True):
        flags = ["--quick"] if quick else []
        told = CliRunner().invoke(main, [str(path), "--dry-run", *flags], catch_exceptions=False)
        cases, runs = runs_of(plain, quick)
        *names, many, left = told.stdout.splitlines()
        assert len(set(names)) == len(names) == cases
        assert many == f"{cases} cases, {runs} runs"
        assert left.startswith("about ")
    losses = plain.get("measure", {}).get("losses")
    assert not losses or 2.2 in losses
    page = (ROOT / "docs/experiments" / f"{path.stem}.md").read_text()
    assert f"experiments/{path.name}" in page
    assert f"({path.stem}.md)" in (ROOT / "docs/experiments/README.md").read_text()
    assert list(tmp_path.glob("results*")) == []


@pytest.mark.soak
@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_experiment_has_a_quick_run(path: Path, lab: Lab) -> None:
    process = lab.script("experiment", str(path), "--quick", **NOWHERE)
    assert process.wait(600.0) == 0
    plain = tomllib.loads(path.read_text())
    place = lab.place / "results" / f"{path.stem}-quick"
    with open(place / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    cases, runs = runs_of(plain, True)
    assert len(rows) == cases
    axes = [*plain.get("matrix", {})]
    labels = [
        tuple(row[axis] for axis in axes) for row in rows[: cases - len(plain.get("case", []))]
    ]
    assert len(set(labels)) == len(labels)
    for found, wanted in zip(zip(*labels, strict=True), axes_of(plain, True), strict=True):
        assert sorted(set(found)) == sorted(wanted)
    seeds = seeds_of(plain, True)
    for row in rows:
        assert (row["seeds"], row["failed"], row["validation n"]) == (str(seeds), "0", str(seeds))
        assert 1.5 < float(row["validation mean"]) < 3.6  # log(27) is 3.3: nothing has come apart
        assert float(row["bytes per step mean"]) > 0
        if plain.get("measure", {}).get("time", True):
            assert float(row["steps/s mean"]) > 0
    assert len(list(place.glob("trials/*/result.json"))) == runs
    assert "<svg" in (place / "report.html").read_text()
    again = lab.script("experiment", str(path), "--quick", **NOWHERE)
    assert again.wait(60.0) == 0
    assert f"{runs} of {runs} runs are finished, and kept" in again.err
    assert again.out == process.out
