"""Compressors, optimizers and rules in a user's file, with real processes: run, resumed, broken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import microgpt
from microgpt.checkpoint.format import load
from microgpt.distribution import Distribution
from microgpt.strategies.parts import make_distribution
from tests.marks import soak
from tests.processes import ROOT, TINY, TINY_MODEL, Lab

FILE = ROOT / "tests/compressors_of_users.py"
EVERY = f"{FILE}:Every:n=2"
SETTINGS: dict[str, Any] = {**TINY_MODEL}
SIZE = (*TINY, "--batch-size", "4", "--data", "embedded", "--engine", "scalar")
OWN = ("--compress", EVERY, "--replicas", "2", "--strategy", "local-sgd", "--inner-optimizer")
FALLS = (*OWN, f"{FILE}:Falls", "--strategy-option", "steps=2")


def test_a_run_with_ones_own_files_has_the_same_bits_and_goes_on_if_they_are_named(
    lab: Lab,
) -> None:
    train = lab.train(*SIZE, "--steps", "3", "--workers", "2", *FALLS)
    assert train.wait() == 0, train.err
    saved = load(lab.run_dir().newest)
    expected = microgpt.train(
        "embedded", steps=3, batch_size=4, **SETTINGS, strategy="local-sgd",
        strategy_options={"steps": 2}, replicas=2, compress=EVERY, inner_optimizer=f"{FILE}:Falls",
    ).checkpoint  # fmt: skip
    assert saved.training.distribution == Distribution(
        2, "mean", EVERY, error_feedback=True, inner_optimizer=f"{FILE}:Falls"
    )
    assert saved.state_sha256 == expected.state_sha256
    more = ("--engine", "scalar", "--resume", "runs/it", "--steps", "4", "--workers", "1")
    for named, missing in (((), "--compress"), (("--compress", EVERY), "--inner-optimizer")):
        again = lab.train(*more, *named)
        assert again.wait() == 1
        assert f"to run that file, say so with {missing} {FILE}" in again.err
    other = lab.train(*more, "--compress", f"{FILE}:Every:n=3", *FALLS[-4:-2])
    assert other.wait() == 1
    assert "contradicts the checkpoint" in other.err
    further = lab.train(*more, "--compress", EVERY, "--inner-optimizer", f"{FILE}:Falls")
    assert further.wait() == 0, further.err
    assert load(lab.run_dir().newest).step == 4


def test_a_worker_runs_its_own_copy_and_only_if_told(lab: Lab) -> None:
    coordinator = lab.coordinator(*SIZE[:-2], "--steps", "2", "--compress", EVERY)
    address = lab.run_dir().endpoint()
    distrusts = lab.worker(address, "--trust", f"{FILE}:Wrong")
    assert distrusts.wait() == 1
    assert f"to run that file, start the worker with --trust {FILE}:Every" in distrusts.err
    copy = lab.place / FILE.name
    copy.write_text(FILE.read_text() + "\nprint('the copy is run')\n")
    trusts = lab.worker(address, "--trust", f"{copy}:Every")
    assert trusts.wait() == 0, trusts.err
    assert "the copy is run" in trusts.out
    assert coordinator.wait() == 0, coordinator.err


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("Wrong", "compressor Wrong: compress raises KeyError: 'on purpose' (line "),
        soak("Signature", "takes 2 positional arguments but 5 were given (line "),
    ],
)
def test_a_broken_compressor_is_one_line_and_the_weights_are_safe(
    named: str, words: str, lab: Lab
) -> None:
    train = lab.train(*SIZE, "--steps", "3", "--workers", "1", "--compress", f"{FILE}:{named}")
    assert train.wait() == 1
    (line,) = (line for line in train.err.splitlines() if line.startswith("worker-1 cannot work"))
    assert words in line
    assert line.endswith(f" of {FILE.name})")
    assert "Traceback" not in train.out + train.err
    assert load(lab.run_dir().newest).step == 0
    assert "to go on: " in train.out


MINE = (
    "from dataclasses import dataclass\nfrom microgpt.compression.f32 import F32\n"
    "@dataclass(frozen=True)\nclass Mine(F32):\n"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = 1\n\nx.y\n", "'int' object has no attribute 'y' (line 3 of mine.py)"),
        soak("def f(:\n", "mine.py, line 1: "),
        soak("class Mine:\n    pass\n", "must be a dataclass"),
        soak(f"{MINE}    def __post_init__(self):\n        1 / 0\n", "by zero (line 6 of mine.py"),
        soak(
            f"{MINE}    def init(self, shapes):\n        {{}}[1]\n",
            "KeyError: 1 (line 6 of mine.py",
        ),
        soak(
            f"{MINE}    def size(self, shapes):\n        return None\n", "size raises TypeError: "
        ),
        soak(
            f"{MINE}    feedback = property(lambda self: self.x)\n", "no attribute 'x' (line 5 of"
        ),
    ],
)
def test_a_file_that_cannot_be_run_is_one_line(text: str, reason: str, lab: Lab) -> None:
    (lab.place / "mine.py").write_text(text)
    train = lab.train(*SIZE, "--steps", "3", "--compress", "mine.py:Mine")
    assert train.wait() == 1
    (line,) = train.err.splitlines()
    assert line.startswith("error: ")
    assert reason in line


def test_files_are_found_from_wherever_a_run_is_gone_on_with(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.place)
    (lab.place / "mine.py").write_text(FILE.read_text())
    made = make_distribution(compress="mine.py:Every:n=3", error_feedback=True)
    assert made == replace(Distribution(), compress=f"{lab.place.resolve()}/mine.py:Every:n=3")


@pytest.mark.soak
def test_a_rule_that_a_strategy_cannot_use_is_one_line(lab: Lab) -> None:
    train = lab.train("--strategy", "async", "--aggregate", "krum")
    assert train.wait() == 1
    assert train.err.splitlines() == [
        "error: --aggregate krum needs the vectors of several replicas at once, and "
        "--strategy async takes them one by one"
    ]
