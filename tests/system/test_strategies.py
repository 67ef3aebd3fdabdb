"""A strategy of a user has the same bits in notebook, simulator and real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import microgpt
from lab.simulation.arithmetic import STAND_IN
from lab.simulation.plan import make_plan
from lab.simulation.play import play
from microgpt.checkpoint.format import Checkpoint, load
from microgpt.strategies.registry import load_strategy
from tests.marks import soak
from tests.processes import ROOT, TINY, TINY_MODEL, Lab

FILE = ROOT / "tests/strategies_of_users.py"
MINE = f"{FILE}:EverySecond"
OPTION = ("--strategy", MINE, "--strategy-option", "every=3")
SIZE = (*TINY, "--batch-size", "3", "--steps", "4")
SETTINGS: dict[str, Any] = {"steps": 4, "batch_size": 3, **TINY_MODEL}


@pytest.fixture(scope="module")
def expected() -> Checkpoint:
    """In a notebook, which is the serial runner."""
    return microgpt.train(
        "embedded", **SETTINGS, strategy=load_strategy(MINE, {"every": 3})
    ).checkpoint


def test_real_processes_run_a_strategy_of_a_file(lab: Lab, expected: Checkpoint) -> None:
    flags = (*SIZE, "--data", "embedded", "--engine", "scalar", "--workers", "2", *OPTION)
    train = lab.train(*flags)
    assert train.wait() == 0, train.err
    saved = load(lab.run_dir().newest)
    assert saved.state_sha256 == expected.state_sha256
    assert (saved.training, saved.next_document) == (expected.training, expected.next_document)
    again = lab.train("--resume", str(lab.run_dir().path), "--steps", "5", "--workers", "1")
    assert again.wait() == 1
    assert "to run that file, say so with --strategy" in again.err
    named = ("--resume", str(lab.run_dir().path), "--steps", "5", "--strategy", MINE)
    other = lab.train(*named, "--strategy-option", "every=2")
    assert other.wait() == 1
    assert "contradicts the checkpoint" in other.err
    further = lab.train(*named, "--workers", "1", "--engine", "scalar")
    assert further.wait() == 0, further.err
    saved = load(lab.run_dir().newest)
    assert (saved.step, saved.training.strategy_options) == (5, {"every": 3})


@pytest.mark.parametrize("method", [soak("open"), soak("enough"), "update"])
def test_an_error_of_a_strategy_is_one_line_and_nothing_is_lost(
    method: str, lab: Lab, tmp_path: Path
) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    mine = ["--strategy", f"{FILE}:BreaksAt"]
    for option in (f"method={method}", "step=2", f"switch={switch}"):
        mine += ["--strategy-option", option]
    flags = (*SIZE, "--data", "embedded", "--engine", "scalar", "--workers", "2")
    train = lab.train(*flags, *mine)
    assert train.wait() == 1
    (line,) = (line for line in train.err.splitlines() if line.startswith("error: "))
    assert f"strategy BreaksAt: {method} raises KeyError: 'on purpose' (line " in line
    assert "(the state before is saved in runs/it/checkpoint.msgpack)" in line
    assert "Traceback" not in train.out + train.err
    assert load(lab.run_dir().newest).step == 2
    switch.unlink()
    more = ("--resume", "runs/it", "--engine", "scalar", "--workers", "1")
    again = lab.train(*more, *mine)
    assert again.wait() == 0, again.err
    sync = microgpt.train("embedded", **SETTINGS).checkpoint
    saved = load(lab.run_dir().newest)
    assert (saved.step, saved.weights, saved.losses) == (4, sync.weights, sync.losses)


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        soak(("--strategy", "sinc"), "did you mean sync?"),
        soak(("--strategy-option", "x=1"), "has no option 'x'"),
        (("--strategy", f"{FILE}:Nobody"), "has no class 'Nobody'"),
    ],
)
def test_a_strategy_that_cannot_be_is_one_line(
    lab: Lab, flags: tuple[str, ...], reason: str
) -> None:
    train = lab.train(*SIZE, "--data", "embedded", *flags)
    assert train.wait() == 1
    assert reason in train.err
    assert "Traceback" not in train.err


def test_schedules_of_faults_change_no_bits_of_it() -> None:
    for seed in range(15):
        result = play(make_plan(seed, None, 1.0), STAND_IN, strategy=load_strategy(MINE, {}))
        assert result.problem == ""
