"""While a program imports, garbage is not looked for; once it runs, it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

#: Says at the end of the process whether garbage is collected, and whether imports are left out.
TELL = """
import atexit, gc, sys
atexit.register(lambda: print(gc.isenabled(), gc.get_freeze_count() > 5000, file=sys.stderr))
"""


@pytest.mark.parametrize(
    "program",
    [
        ("-m", "coordinator"),
        ("-m", "worker"),
        (str(ROOT / "scripts" / "train.py"),),
        (str(ROOT / "scripts" / "sample.py"),),
        ("-m", "lab.command_line", "worker"),
        ("-m", "lab.command_line", "sample"),
    ],
    ids=lambda program: Path(program[-1]).stem,
)
def test_every_program_collects_garbage_once_it_has_begun(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(TELL)
    done = subprocess.run(
        [sys.executable, *program, "--help"], cwd=ROOT, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == "True True\n"


def test_nothing_of_a_program_that_begins_is_garbage_to_look_for() -> None:
    code = (
        "import gc; from microgpt.support import startup; startup.begins()\n"
        "print(gc.isenabled(), gc.get_freeze_count()); startup.is_over()\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False 0\nTrue True\n"


@pytest.mark.parametrize(("given", "threads"), [({}, 1), ({"OPENBLAS_NUM_THREADS": "2"}, 2)])
def test_no_threads_are_started_for_what_is_not_computed(
    given: dict[str, str], threads: int
) -> None:
    code = (
        "import os; from microgpt.support import startup; startup.begins(); import numpy\n"
        "print(len(os.listdir('/proc/self/task')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=given, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert int(done.stdout) == min(threads, len(os.sched_getaffinity(0)))
