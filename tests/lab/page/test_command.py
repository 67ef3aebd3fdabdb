"""``microgpt page``: a real process that serves the folder of a real run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.page import needs, server
from lab.page.follower import Follower
from lab.page.until import Until
from microgpt.support import signals
from microgpt.support.cli import UserError
from tests.lab.page.serving import Viewer, served
from tests.processes import PATIENCE, ROOT, TINY, Lab

STEPS = 12


def test_a_finished_run_is_shown(lab: Lab) -> None:
    flags = ("--steps", str(STEPS), "--workers", "2", "--data", str(lab.data), "--engine", "scalar")
    assert lab.train(*flags, *TINY, "--events", "full", run="runs/it").wait() == 0
    with served(lab.place / "runs/it") as page, Viewer(page) as viewer:
        _, name, data = next(viewer.messages())
    assert name == "snapshot"
    assert data["run"]["name"] == "it"
    assert data["run"]["promise"] == "exact"
    assert (data["state"]["phase"], data["state"]["step"]) == ("finished", STEPS)
    assert data["steps"]["step"] == [*range(1, STEPS + 1)]
    assert data["steps"]["documents"] == [32 * step for step in range(1, STEPS + 1)]
    used = [span for span in data["spans"] if span[5:7] == ["answered", "work"]]
    assert sum(span[9] for span in used) == 32 * STEPS
    assert {mark["kind"] for mark in data["marks"]} >= {"started", "joined", "finished"}
    assert {worker["name"] for worker in data["workers"]} == {"worker-1", "worker-2"}


def test_a_folder_that_is_still_empty_waits(tmp_path: Path) -> None:
    with served(tmp_path) as page, Viewer(page) as viewer:
        _, _, data = next(viewer.messages())
    assert (data["run"], data["state"]["phase"], data["spans"]) == ({}, "waiting", [])


@pytest.mark.soak
def test_a_page_may_end_after_its_run(lab: Lab) -> None:
    """As in a container: begun before the run, it ends when nobody writes to the run any more."""
    page = lab.script("page", "runs/it", "--port", "0", "--linger", "0.3")
    page.says("showing runs/it")
    run = lab.train(*TINY, "--steps", "3", "--data", str(lab.data), "--engine", "scalar")
    assert run.wait() == 0
    assert page.wait() == 0


def test_a_folder_that_is_missing_is_one_line(lab: Lab) -> None:
    page = lab.script("page", "runs/none")
    assert page.wait() == 1
    assert page.err == "error: there is no folder runs/none: which run is to be shown?\n"


def test_packages_that_are_missing_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(needs, "PACKAGES", ("click", "no_such_package", "nor_this"))
    with pytest.raises(UserError) as caught:
        needs.require("--page")
    assert str(caught.value) == (
        "--page needs more packages, the extra 'page': pip install no-such-package nor-this"
    )


@pytest.mark.parametrize("script", ["page", "top", "export"])
def test_ctrl_c_right_at_the_start_ends_without_a_word(script: str, tmp_path: Path) -> None:
    with signals.held_back():  # until it is ready for them
        process = subprocess.Popen(
            [sys.executable, f"scripts/{script}.py", str(tmp_path)], cwd=ROOT,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        process.send_signal(signal.SIGINT)
    try:
        assert process.communicate(timeout=PATIENCE) == (b"", b"")
    finally:
        process.kill()
    assert process.returncode == 130


def test_an_error_of_the_page_ends_it_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> bool:
        raise LookupError("a fault")

    monkeypatch.setattr(Follower, "poll", fails)
    before = {number: signal.getsignal(number) for number in signals.SIGNALS}
    listening = server.listen("127.0.0.1", 0, exactly=False)
    try:
        with pytest.raises(UserError, match=r"^the page cannot go on: LookupError\('a fault'\)$"):
            server.serve(tmp_path, listening, "127.0.0.1", Until(), None)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
