"""``microgpt top``: a frame for a pipe, and live in a real terminal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT, TINY, Lab, Process, eventually
from tests.terminals import Tmux

FLAGS = ("--workers", "2", "--engine", "scalar", "--events", "full", "--quiet", *TINY)


def train(lab: Lab, steps: int) -> Process:
    return lab.train(*FLAGS, "--steps", str(steps), "--data", str(lab.data))


def test_a_pipe_gets_one_frame(lab: Lab) -> None:
    assert train(lab, 6).wait() == 0
    process = lab.script("top", "runs/it", COLUMNS="80")
    assert process.wait() == 0
    assert process.err == ""
    lines = process.out.splitlines()
    assert lines[0] == "it  finished: all 6 steps are done  sync, exact"
    assert lines[1].startswith("step 6 / 6 ━━━")
    assert lines[4].split()[:4] == ["worker", "state", "documents/s", "computing"]
    assert sorted(line.split()[0] for line in lines[5:7]) == ["worker-1", "worker-2"]
    assert lines[-1].endswith("all 6 steps are done")
    assert "\x1b" not in process.out
    assert max(map(len, lines)) <= 80
    plain = lab.script("top", "runs/it", "--once", PYTHONIOENCODING="ascii:backslashreplace")
    assert plain.wait() == 0
    assert plain.out.isascii()


def test_a_folder_that_is_not_there_is_one_line(lab: Lab) -> None:
    process = lab.script("top", "runs/none")
    assert process.wait() == 1
    assert process.err == "error: there is no folder runs/none: which run is to be shown?\n"


@pytest.fixture
def tmux(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tmux]:
    if Tmux.missing():
        pytest.skip("there is no tmux here")
    terminal = Tmux(tmp_path_factory.mktemp("t"), 90, 20)
    try:
        yield terminal
    finally:
        terminal.close()


def top(lab: Lab, tmux: Tmux, path: Path) -> None:
    kept = {"MICROGPT_CACHE_DIR": lab.env["MICROGPT_CACHE_DIR"]}
    tmux.run(sys.executable, str(ROOT / "scripts/top.py"), str(path), **kept)


def row(tmux: Tmux, begin: str) -> str:
    return next((line for line in tmux.screen if line.startswith(begin)), "")


@pytest.mark.soak
def test_a_terminal_shows_a_run_as_it_goes_until_q(lab: Lab, tmux: Tmux) -> None:
    lab.slow_down(0.002)
    run = train(lab, 1900)
    lab.run_dir().reaches(2)
    top(lab, tmux, lab.run_dir().path)
    eventually(lambda: row(tmux, "it  running  sync, exact"), "the run is shown")
    eventually(lambda: set(row(tmux, "worker-1")) & set("▁▂▃▄▅▆▇█·"), "its strip")
    before = row(tmux, "step ")
    eventually(lambda: row(tmux, "step ") > before, "it goes on")
    tmux.resize(60, 12)
    eventually(lambda: fits(tmux, 60), "one view, as wide as the terminal")
    tmux.type("q")
    eventually(lambda: not is_there(tmux), "it has ended")
    tmux.run("stty", "-a")
    eventually(lambda: any(" icanon" in line for line in tmux.screen), "keys are lines again")
    run.send(signal.SIGTERM)
    run.wait()


def is_there(tmux: Tmux) -> bool:
    try:
        return tmux.find(str(ROOT / "scripts/top.py")) > 0
    except AssertionError:
        return False


def fits(tmux: Tmux, columns: int) -> bool:
    shown = [line for line in tmux.screen if line]
    begins = [sum(line.startswith(name) for line in shown) for name in ("step ", "worker-2")]
    return begins == [1, 1] and max(map(len, shown)) <= columns
