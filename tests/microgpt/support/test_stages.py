"""What takes long says how far it is, to whoever listens."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from microgpt.numerics import jit
from microgpt.support import stages
from microgpt.support.stages import Talk
from tests.processes import ROOT, eventually


def test_a_stage_is_told_at_once_and_the_last_detail_from_time_to_time() -> None:
    told: list[str] = []
    with Talk(told.append, "preparing", every=0.01):
        eventually(lambda: told, "what takes long is told")
        assert told[0] == "preparing, 0 s"
        stages.stage("compiling")
        assert "compiling" in told
        stages.detail("kernel 2 of 3")
        assert "kernel 2 of 3" not in told
        eventually(lambda: "kernel 2 of 3, 0 s" in told, "the detail is told")
    with Talk(told.append, "quickly done", every=10.0):
        assert stages.listened_to()
    assert not any("quickly" in text for text in told)


def test_nobody_need_listen() -> None:
    stages.stage("compiling")
    stages.detail("kernel 2 of 3")
    assert not stages.listened_to()


def test_other_threads_are_not_listened_to() -> None:
    told: list[str] = []
    with Talk(told.append, "preparing", every=10.0):
        thread = threading.Thread(target=stages.stage, args=("something else",))
        thread.start()
        thread.join()
    assert told == []


def test_who_waits_for_a_turn_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    told: list[str] = []
    with jit.turn("compiling"):

        def compile_too() -> None:
            with Talk(told.append, "preparing", every=0.05), jit.turn("compiling"):
                stages.stage("compiles")

        thread = threading.Thread(target=compile_too)
        thread.start()
        eventually(lambda: told, "the second waits")
        time.sleep(0.2)  # in which it could be said four times
    thread.join()
    waits = "waiting for another process that is compiling"
    assert len([text for text in told if text.startswith(waits)]) == 1
    assert "compiles" in told


def test_compiling_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)

    @jit.entry
    def halved(x: float) -> float:
        return x / 2

    told: list[str] = []
    with Talk(told.append, "preparing", every=10.0):
        assert halved(3.0) == halved(3.0) == 1.5
    assert told == ["compiling a kernel (once on this machine)"]


COLD = """
from worker.executor import Calculator
from worker.state import Configure

engine = Calculator("tape", lambda text: print("told:", text))
size = {"vocab_size": 27, "n_layer": 1, "n_embd": 4, "n_head": 2, "block_size": 4}
engine.configure(Configure(size))
"""


@pytest.mark.soak
def test_a_worker_tells_that_it_compiles_the_engine(tmp_path: Path) -> None:
    def run() -> list[str]:
        env = {"MICROGPT_COMPILED_DIR": str(tmp_path), "PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run(
            [sys.executable, "-c", COLD], env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert run()[0] == "told: compiling the kernels of the tape engine (once on this machine)"
    assert run() == [], "loaded is soon ready"
