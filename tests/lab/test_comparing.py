"""``scripts/compare_strategies.py``: what an update takes, and a table of all ways."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys

import pytest

from lab.comparing import HEADINGS, Way, compare, cost, spread, table, ways
from microgpt.strategies.registry import STRATEGIES
from tests.processes import ROOT

PARAMETERS = 4192


def test_an_update_takes_what_its_replicas_compute_and_send() -> None:
    gradient = 8 * PARAMETERS
    assert cost(Way("sync")) == (32, 8 * gradient)
    assert cost(Way("local-sgd")) == (8 * 32, 8 * gradient)
    assert cost(Way("decoupled-diloco")) == (8 * 32, 8 * gradient)
    assert cost(Way("async")) == (32, gradient)
    assert cost(Way("backup")) == (36, 9 * gradient)
    assert cost(Way("sync", compress="topk:0.01")) == (32, 8 * 42 * 10)


def test_all_strategies_are_compared_and_one_of_ones_own() -> None:
    mine = ROOT / "tests/strategies_of_users.py"
    names = [way.name for way in ways([f"{mine}:EverySecond"])]
    assert names[: len(STRATEGIES) + 1] == [*STRATEGIES, f"{mine}:EverySecond"]
    assert {"sync topk:0.01", "sync krum"} < set(names)


def test_equal_documents_and_equal_bytes() -> None:
    (sync, local) = compare([Way("sync"), Way("local-sgd")], [42, 43], 64)
    assert (sync.updates, local.updates) == ((64, 8), (8, 8))
    assert local.at_equal_bytes == local.at_equal_documents
    assert all(2.0 < loss < 2.6 for loss in sync.at_equal_documents)
    assert all(
        few > many for few, many in zip(sync.at_equal_bytes, sync.at_equal_documents, strict=True)
    )
    read = list(csv.reader(io.StringIO("\n".join(table([sync, local], "csv")))))
    assert read[0] == list(HEADINGS)
    assert [row[:4] for row in read[1:]] == [
        ["sync", "exact", "268,288", "64"], ["local-sgd", "exact", "268,288", "8"],
    ]  # fmt: skip
    shown = list(table([sync], "markdown"))
    assert len(shown) == 3
    assert spread(sync.at_equal_documents) in shown[2]


def test_a_spread_is_mean_and_standard_deviation() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert spread([1.0]) == "1.000"
    assert spread([1.0, math.inf, 2.0]) == "1 of 3 diverge"


@pytest.mark.slow
def test_the_command_prints_the_table() -> None:
    command = [
        sys.executable,
        str(ROOT / "scripts/compare_strategies.py"),
        "--quick",
        "--only",
        "local-sgd",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    heading, _, row = done.stdout.splitlines()
    assert heading == f"| {' | '.join(HEADINGS)} |"
    assert row.startswith("| local-sgd | exact | 268,288 | 8 | 2.")
