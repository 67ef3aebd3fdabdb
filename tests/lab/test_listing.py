"""``scripts/strategies.py`` and the help of ``train`` name all there is, with its options."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from microgpt.aggregation.registry import AGGREGATIONS
from microgpt.compression.registry import COMPRESSORS
from microgpt.optim.registry import OPTIMIZERS
from microgpt.strategies.registry import STRATEGIES
from microgpt.support.options import make
from tests.processes import ROOT

TABLES: dict[str, dict[str, type[Any]]] = {
    "strategy": {**STRATEGIES},
    "compressor": {**COMPRESSORS},
    "aggregation rule": {**AGGREGATIONS},
    "optimizer": {**OPTIMIZERS},
}


def run(script: str, *arguments: str) -> str:
    command = [sys.executable, str(ROOT / f"scripts/{script}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_all_are_listed_with_options_that_make_them() -> None:
    listed = json.loads(run("strategies", "--json"))
    names = {kind: [e["name"] for e in listed if e["kind"] == kind] for kind in TABLES}
    assert names == {kind: list(table) for kind, table in TABLES.items()}
    assert len(listed) == sum(map(len, TABLES.values()))
    for entry in listed:
        table = TABLES[entry["kind"]]
        given = ",".join(f"{o['name']}={o['default']}" for o in entry["options"])
        spec = ":".join([entry["name"], *([given] if given else [])])
        assert make("thing", table, spec, ValueError) == table[entry["name"]]()
        assert entry["about"]
        assert "``" not in entry["about"]


def test_one_is_described_by_its_own_words() -> None:
    listed = json.loads(run("strategies", "--json"))
    (diloco,) = (entry for entry in listed if entry["name"] == "diloco")
    assert diloco == {
        "kind": "strategy",
        "name": "diloco",
        "about": "local steps of AdamW, and Nesterov momentum on what they have come to",
        "promise": "exact",
        "paper": "2311.08105",
        "options": [{"name": "steps", "type": "int", "default": 8}],
    }
    text = run("strategies")
    assert diloco["about"] in text
    assert "steps: int = 8 | exact | arXiv 2311.08105" in text


@pytest.mark.parametrize("kind", TABLES)
def test_the_help_of_train_names_all_of_them(kind: str) -> None:
    words = " ".join(run("train", "--help").split()).replace("- ", "-")  # where a line may end
    assert [name for name in TABLES[kind] if name not in words] == []
    assert "{names}" not in words
    assert "diloco (steps=8)" in words


def test_starting_a_run_imports_nothing_for_the_help() -> None:
    code = "import sys, lab.launch.train; print('numpy' in sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout == "False\n"
