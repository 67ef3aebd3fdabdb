"""``scripts/compare_strategies.py``: what an update takes, and a table of all ways."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
from collections.abc import Sequence

import pytest

import microgpt
from lab.comparing import (
    GOALS,
    HEADINGS,
    Training,
    Way,
    compare,
    cost,
    spread,
    table,
    taken,
    ways,
)
from microgpt.strategies.registry import STRATEGIES
from tests.processes import ROOT

PARAMETERS = 4192


def losses(trainings: Sequence[Training]) -> list[float]:
    return [each.loss for each in trainings]


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
    few, many = losses(sync.at_equal_bytes), losses(sync.at_equal_documents)
    assert losses(local.at_equal_bytes) == losses(local.at_equal_documents)
    assert all(2.0 < loss < 2.6 for loss in many)
    assert all(one > other for one, other in zip(few, many, strict=True))
    read = list(csv.reader(io.StringIO("\n".join(table([sync, local], "csv")))))
    assert read[0] == list(HEADINGS)
    assert [row[:4] for row in read[1:]] == [
        ["sync", "exact", "268,288", "64"], ["local-sgd", "exact", "268,288", "8"],
    ]  # fmt: skip
    shown = list(table([sync], "markdown"))
    assert len(shown) == 3
    assert spread(many) in shown[2]


@pytest.mark.soak
def test_a_goal_is_reached_at_the_first_evaluation_that_shows_it() -> None:
    (sync,) = compare([Way("sync")], [42], 240)
    [found] = sync.at_equal_documents
    # The same training in another way, evaluated as often.
    same = microgpt.train(
        "embedded", steps=240, batch_size=32, validation_fraction=0.1, eval_every=8
    )
    assert found.loss == same.validations[-1].loss
    at = [next((v.step for v in same.validations if v.loss <= goal), None) for goal in GOALS]
    assert [each and each[0] for each in found.reached] == at
    assert at[0] is not None
    assert at[1] is None
    soon, none = found.reached
    assert soon is not None
    assert 0.0 < soon[1] < 60.0
    assert none is None
    _, _, row = table([sync], "markdown")
    assert row.split(" | ")[5].startswith(f"{268_288 * at[0] / 1e6:,.3g} MB, ")
    assert row.split(" | ")[6] == "-"


def test_bytes_and_seconds_to_a_loss_are_means_of_all_seeds_or_none() -> None:
    assert taken([(100, 1.0), (300, 2.0)], 1e5) == "20 MB, 1.50 s"
    assert taken([(100, 1.0), None], 1e5) == "1 of 2"
    assert taken([None, None], 1e5) == "-"


def test_a_spread_is_mean_and_standard_deviation() -> None:
    assert spread([1.0, 2.0, 3.0]) == "2.000 ± 1.000"
    assert spread([1.0]) == "1.000"
    assert spread([1.0, math.inf, 2.0]) == "1 of 3 diverge"


@pytest.mark.soak
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
