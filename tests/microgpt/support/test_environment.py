"""Environment variables: every one that exists is known, and a misspelt one is named once."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from microgpt.support.cli import variables_of
from microgpt.support.environment import CHECKED, KNOWN, OTHERS, PREFIX, unknown
from tests.processes import ROOT, TINY, Lab

pytestmark = pytest.mark.timeout(300)
NAME = re.compile(r"MICROGPT_[A-Z0-9]+(?:_[A-Z0-9]+)*")
#: Examples of wrong or made-up ones.
MADE_UP = {"MICROGPT_SOME_FLAG", "MICROGPT_BATHC_SIZE", "MICROGPT_HOME"}

LISTS = """
import sys
sys.path.insert(0, "scripts")
sys.argv = ["x"]
import coordinator.__main__, worker.__main__, train, simulate, chaos, bench, tape
from microgpt.support.cli import variables_of
modules = coordinator.__main__, worker.__main__, train, simulate, chaos, bench, tape
print(*sorted(set().union(*(variables_of(module.main) for module in modules))))
"""


def test_every_option_of_every_command_is_known() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTS], cwd=ROOT, check=True, capture_output=True, text=True
    )
    read = set(done.stdout.split())
    assert {"MICROGPT_BATCH_SIZE", "MICROGPT_COORDINATOR", "MICROGPT_SCHEDULES"} <= read
    assert read <= KNOWN


def test_every_variable_that_is_named_anywhere_is_known() -> None:
    listed = subprocess.run(
        ["git", "ls-files"],  # noqa: S607
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    named: set[str] = set()
    for path in listed:
        if (ROOT / path).is_file() and not path.endswith("test_environment.py"):
            text = (ROOT / path).read_text(encoding="utf-8", errors="replace")
            named |= set(NAME.findall(text))
    assert len(named) > 40
    assert named - KNOWN - MADE_UP <= {CHECKED}
    assert {PREFIX + name for name in OTHERS} <= named, "none that is gone"


def test_the_nearest_name() -> None:
    assert list(unknown(["MICROGPT_BATHC_SIZE", "MICROGPT_STEPS", "HOME", "MICROGPT_ZZZZ"])) == [
        "there is no variable MICROGPT_BATHC_SIZE, it changes nothing: is MICROGPT_BATCH_SIZE "
        "meant?",
        "there is no variable MICROGPT_ZZZZ, it changes nothing",
    ]
    assert list(unknown(["MICROGPT_NEW"], own=["MICROGPT_NEW"])) == []


def test_a_misspelt_variable_is_named_once_and_not_by_each_child(lab: Lab) -> None:
    flags = (*TINY, "--steps", "2", "--data", str(lab.data), "--workers", "2", "--engine", "scalar")
    train = lab.train(*flags, MICROGPT_BATHC_SIZE="3", MICROGPT_PATIENCE="0")
    assert train.wait() == 0, train.err
    assert train.err == (
        "warning: there is no variable MICROGPT_BATHC_SIZE, it changes nothing: "
        "is MICROGPT_BATCH_SIZE meant?\n"
    )
    logs = "".join(path.read_text() for path in (lab.run_dir().path / "logs").iterdir())
    assert "MICROGPT_BATHC_SIZE" not in logs
    other = lab.script("sample", str(lab.run_dir().newest), MICROGPT_CACHEDIR="x")
    assert other.wait() == 0
    assert other.err == (
        "warning: there is no variable MICROGPT_CACHEDIR, it changes nothing: "
        "is MICROGPT_CACHE_DIR meant?\n"
    )


def test_variables_of_a_command() -> None:
    import worker.__main__

    read = variables_of(worker.__main__.main)
    assert {"MICROGPT_CONNECT", "MICROGPT_COORDINATOR", "MICROGPT_PATIENCE"} <= read
