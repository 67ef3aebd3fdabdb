"""Programs run from any folder, with any Python, whatever files lie there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Reference
from tests.processes import ROOT, TINY, Lab
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)
SIZE = ("--steps", "3", "--batch-size", "2", "--workers", "1", "--engine", "scalar")
PARTS = ("microgpt", "coordinator", "worker", "aggregator", "lab", "scripts")


def copy_project(target: Path) -> Path:
    for part in PARTS:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, target / part, ignore=skip)
    return target


def test_files_in_the_current_folder_shadow_no_module(lab: Lab, reference: Reference) -> None:
    for name in (*PARTS, "random", "zmq", "queue", "runpy", "click"):
        (lab.place / f"{name}.py").write_text("raise SystemExit('shadowed')\n")
    train = lab.train(*TINY, *SIZE, "--data", str(lab.data), PYTHONPATH="")
    assert train.wait() == 0, train.out + train.err
    ends_alike(lab.run_dir(), reference(3, 2))


def test_a_project_whose_path_has_a_colon(lab: Lab, reference: Reference) -> None:
    project = copy_project(lab.place / "pro:ject")
    flags = (*TINY, *SIZE, "--data", str(lab.data), "--run-dir", "runs/it")
    script = str(project / "scripts" / "train.py")
    train = lab.start(sys.executable, script, *flags, name="train", PYTHONPATH="")
    assert train.wait() == 0, train.out + train.err
    ends_alike(lab.run_dir(), reference(3, 2))


@pytest.mark.parametrize("module", ["coordinator", "worker"])
def test_a_python_without_our_packages(tmp_path: Path, module: str) -> None:
    project = copy_project(tmp_path / "project")
    command = [sys.executable, "-S", "-B", "-m", module, "--help"]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=project, env={}, capture_output=True, text=True, check=False, timeout=60
        )

    done = run()
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: this program needs click, msgpack, ")

    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "started again: $@"\n')
    python.chmod(0o755)
    done = run()
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"started again: -S -B -m {module} --help\n"


def test_an_environment_without_our_packages_is_not_tried_for_ever(tmp_path: Path) -> None:
    project = copy_project(tmp_path / "project")
    python = project / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    command = [str(python), "-S", "-B", "-m", "worker"]
    done = subprocess.run(
        command, cwd=project, env={}, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: this program needs click")


def test_without_the_systems_word_on_processors(lab: Lab) -> None:
    """As on macOS."""
    (lab.place / "else").mkdir()
    (lab.place / "else" / "sitecustomize.py").write_text("import os\ndel os.sched_getaffinity\n")
    train = lab.train("--help", run="", PYTHONPATH=str(lab.place / "else"))
    assert train.wait() == 0, train.err
    assert "number of CPU cores" in " ".join(train.out.split())
