"""Without a home, and where another user has been: everything works, and a line says so."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from microgpt.support.cache_directory import cache_folder
from tests.marks import soak
from tests.microgpt.engine.test_tape_cache import PROGRAM
from tests.processes import ROOT, TINY

pytestmark = pytest.mark.timeout(300)
NOBODY = 54_321  # a user id without an entry
#: Reading is allowed, because this Python may lie in root's home.
CAPABILITIES = "-all,+dac_read_search"
BECOME = (
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    f"--inh-caps={CAPABILITIES}", f"--ambient-caps={CAPABILITIES}",
    f"--bounding-set={CAPABILITIES}",
)  # fmt: skip


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory in which a user id that nobody has may start programs."""
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become another user, with setpriv")
    directory = Path(tempfile.mkdtemp())  # the tests' own folder is root's alone
    try:
        os.chown(directory, NOBODY, NOBODY)
        if as_nobody(directory, "-c", "import llvmlite").returncode:
            pytest.skip("another user cannot use this Python")
        yield directory
    finally:
        shutil.rmtree(directory)


def as_nobody(place: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run Python without HOME as a user id without an entry."""
    keep = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    env = {**keep, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **more}
    return subprocess.run(
        [*BECOME, sys.executable, *command],
        cwd=place, env=env, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def test_the_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MICROGPT_CACHE_DIR", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MICROGPT_CACHE_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "microgpt"


def test_a_run_without_a_home(place: Path) -> None:
    (place / "names.txt").write_text("anna\nbo\n")
    done = as_nobody(
        place, str(ROOT / "scripts/train.py"), "--data", "names.txt", "--steps", "2", "--workers",
        "1", *TINY, "--engine", "scalar",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "all 2 steps are done" in done.stdout
    assert done.stderr == "", "so short a run compiles nothing"
    assert sorted(path.name for path in place.iterdir()) == ["names.txt", "runs"]


def test_compiled_code_without_a_home(place: Path) -> None:
    (place / "halved.py").write_text(PROGRAM)
    done = as_nobody(place, "halved.py")
    assert done.stdout.split() == ["1.5", "0", "True"]
    assert done.stderr == (
        "warning: there is no home directory to keep compiled code in: it is compiled each time\n"
    )


def test_names_without_a_home(place: Path) -> None:
    code = "from microgpt.data.dataset import load_dataset; print(load_dataset('names').name)"
    done = as_nobody(place, "-c", code, MICROGPT_NAMES_URL="http://127.0.0.1:9/names.txt")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "embedded\n"
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("theirs", ["folder", soak("lock"), soak("all")])
def test_compiled_code_beside_that_of_another_user(place: Path, theirs: str) -> None:
    (place / "halved.py").write_text(PROGRAM)
    cache = place / "cache"
    cache.mkdir()
    os.chown(cache, NOBODY, NOBODY)
    where = as_nobody(
        place, "-c", "from microgpt.numerics import jit; print(jit.cache_directory())",
        MICROGPT_COMPILED_DIR=str(cache),
    )  # fmt: skip
    shared = Path(where.stdout.strip())
    assert shared.parent == cache
    if theirs == "folder":
        (shared / "engine_0123").mkdir(mode=0o755)  # by root, which we are
    elif theirs == "lock":
        (shared / "compiling.lock").touch(mode=0o644)
    else:
        os.chown(shared, 0, 0)
    own = shared.with_name(f"{shared.name}-user-{NOBODY}")
    for expected in ("1.5 0 True", "1.5 1 False"):
        done = as_nobody(place, "halved.py", MICROGPT_COMPILED_DIR=str(cache))
        assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("warning: ")
        assert line.endswith(f": compiled code is kept in {own} instead")
    assert not (place / "__pycache__").exists()
