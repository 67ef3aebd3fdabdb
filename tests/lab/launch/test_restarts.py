"""When a child that has died is started again, and that the real ones are given up."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.launch.restarts import PAUSES, STEADY_SECONDS, Restarts
from tests.marks import soak
from tests.processes import TINY, Lab


def test_pauses_grow_and_end() -> None:
    restarts = Restarts()
    pauses = [restarts.died(now) for now in range(len(PAUSES) + 1)]
    assert pauses == [*PAUSES, None]
    assert sorted(PAUSES) == [*PAUSES]
    assert restarts.deaths == len(PAUSES) + 1


def test_long_starts_are_no_work() -> None:
    restarts = Restarts()
    assert [restarts.died(1000.0 * n) for n in range(len(PAUSES) + 1)] == [*PAUSES, None]


def test_who_has_worked_for_a_while_begins_again() -> None:
    restarts = Restarts()
    assert [restarts.died(0.0) for _ in range(3)] == [*PAUSES[:3]]
    restarts.works(10.0)
    assert restarts.died(10.0 + STEADY_SECONDS / 2) == PAUSES[3]
    restarts.works(30.0)
    assert restarts.died(30.0 + STEADY_SECONDS) == PAUSES[0]
    assert restarts.died(31.0 + STEADY_SECONDS) == PAUSES[1], "its work was that of the last life"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("who", "last"),
    [
        ("worker", "no worker is left; stopping"),
        soak("coordinator", "error: the coordinator was killed 6 times soon after its start"),
    ],
)
def test_who_always_dies_is_given_up(lab: Lab, tmp_path: Path, who: str, last: str) -> None:
    dying = tmp_path / "dying"
    dying.mkdir()
    (dying / "sitecustomize.py").write_text(
        "import os, sys\n"
        f"if {who!r} in sys.orig_argv:\n"
        "    os.write(2, b'no such instruction\\n')\n"
        "    os.abort()\n"
    )
    flags = ("--data", str(lab.data), "--workers", "1", "--engine", "scalar")
    train = lab.train(*TINY, *flags, PYTHONPATH=str(dying))
    assert train.wait() == (1 if who == "coordinator" else train.popen.returncode) != 0
    lines = [line for line in train.err.splitlines() if line != "no such instruction"]
    name = "worker-1" if who == "worker" else "the coordinator"
    again = [line for line in lines if f"{name} was killed (SIGABRT); starting it again" in line]
    assert [line.partition("again")[2] for line in again] == [
        f" in {pause:g} s" if pause else "" for pause in PAUSES
    ]
    assert lines[-1].startswith(last)
    assert "(SIGABRT)" in lines[-1] or "it is given up: no such instruction" in lines[-2]
