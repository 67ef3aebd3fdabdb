"""The laws for one's own: ours keep them, and each is broken by something that breaks it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.checking.laws import verdicts
from lab.checking.subject import SubjectError, find
from lab.listing import entries
from tests.marks import soak
from tests.processes import ROOT

WRONG = Path(__file__).with_name("wrong_ones.py")
SCRIPT = ROOT / "scripts/check_strategy.py"
USERS = ROOT / "tests"
#: Of each kind and promise one; the bits of all strategies under faults are those of
#: tests/lab/simulation.
OFTEN = ("sync", "diloco", "async", "topk", "krum", "sgd")


def broken(spec: str, schedules: int = 12) -> dict[str, str]:
    """What each broken law says first, with what was found."""
    tried = verdicts(find(spec), range(100, 100 + schedules), lambda law: lambda done, total: None)
    return {law.says.partition(":")[0]: problem for law, problem in tried if problem}


NAMES = [entry.name if entry.name in OFTEN else soak(entry.name) for entry in entries()]


@pytest.mark.parametrize("name", NAMES)
def test_ours_keep_the_laws(name: str) -> None:
    assert broken(name) == {}


@pytest.mark.parametrize(
    "spec",
    [
        "strategies_of_users.py:EverySecond:every=3",
        soak("strategies_of_users.py:EverySecond:3"),
        soak("compressors_of_users.py:Every:n=3"),
        soak("compressors_of_users.py:Falls:0.1"),
    ],
)
def test_those_of_users_do(spec: str) -> None:
    assert broken(f"{USERS}/{spec}") == {}


@pytest.mark.parametrize(
    ("name", "law", "found"),
    [
        ("Counts", "deterministic", "step 1 has other bits"),
        ("Grows", "resumed from a checkpoint, a run has the same bits", "step 4 has other bits"),
        ("Looks", "exact", "has other bits than in the quiet run"),
        ("Sleeps", "learns", "the loss falls from 3."),
        ("Raises", "deterministic", "open raises AttributeError: 'View' object has no attribute"),
        ("Stammers", "exact", "numbers raises ZeroDivisionError: float division by zero (line "),
        (
            "Longer",
            "any finite vector makes a payload that is read, of at most size() bytes",
            "the payload has 16768 bytes, more than 16767",
        ),
        ("Trusting", "what nobody has made is refused or a finite vector", "decompress raises"),
    ],
)
def test_what_breaks_a_law_is_found(name: str, law: str, found: str) -> None:
    assert found in broken(f"{WRONG}:{name}")[law]


def test_what_cannot_be_checked_is_told() -> None:
    for spec, reason in (
        (f"{WRONG}:Nothing", "is nothing that can be checked: a strategy has open"),
        (f"{WRONG}:Nobody", "has no class 'Nobody'"),
        ("gone.py:Mine", "there is no file 'gone.py'"),
        ("sinc", "there is no 'sinc': give FILE.py:Class, or one of sync"),
        ("topk:2.0", "density must be above 0"),
    ):
        with pytest.raises(SubjectError) as caught:
            find(spec)
        assert reason in str(caught.value)


def test_the_command_says_what_it_found_and_ends_with_it() -> None:
    for spec, code, words in (
        ("sync", 0, "all laws are kept"),
        (f"{WRONG}:Looks", 1, "has other bits than in the quiet run"),
        ("sinc", 1, "error: there is no 'sinc'"),
    ):
        command = [sys.executable, str(SCRIPT), spec, "--schedules", "8", "--seed", "100"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == code
        assert words in done.stdout + done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.soak
def test_pytest_tries_the_laws_on_one_of_ones_own() -> None:
    for name, outcome in (("Sleeps", "1 failed, 3 passed"), ("Counts", "3 failed, 1 passed")):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["--strategy", f"{WRONG}:{name}", "tests/lab/checking"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert outcome in done.stdout
