"""The page beside a run: it sees the end, and nothing that becomes of it touches the run."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from microgpt.checkpoint.format import load
from tests.conftest import Reference
from tests.lab.page.serving import Viewer, page_of
from tests.marks import soak
from tests.processes import TINY, Lab, Process, eventually, session_members

FLAGS = ("--workers", "2", "--engine", "scalar", "--page", "--page-port", "0", "--quiet")


def train(lab: Lab, steps: int, *flags: str) -> Process:
    return lab.train(*FLAGS, *TINY, "--steps", str(steps), "--data", str(lab.data), *flags)


def page_process(train: Process) -> int:
    """The number of the page's process."""

    def found() -> int:
        for pid in session_members(train.pid):
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if b"lab.page" in file.read().split(b"\0"):
                    return pid
        return 0

    return eventually(found, "there is a process of the page")


@pytest.mark.soak
def test_viewers_see_the_run_and_its_end(lab: Lab) -> None:
    lab.slow_down(0.005)
    run = train(lab, 40)
    with Viewer(page_of(run)) as viewer:
        got = [*viewer.messages()]  # until the server has ended
    assert run.wait() == 0
    assert got[0][1] == "snapshot"
    steps = [step for _, name, data in got if name == "steps" for step in data["step"]]
    assert [*got[0][2]["steps"]["step"], *steps] == [*range(1, 41)]
    states = [data for _, name, data in got if name == "state"]
    assert (states[-1]["phase"], states[-1]["step"]) == ("finished", 40)
    digest = load(lab.run_dir().newest).state_sha256
    assert (states[-1]["checkpoint"], states[-1]["state_sha256"]) == (40, digest)
    assert any(name == "spans" for _, name, _ in got)
    numbers = [int(ident.rpartition("-")[2]) for ident, name, _ in got if name != "ping"]
    assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
    assert session_members(run.pid) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, soak(signal.SIGSTOP)])
def test_a_page_that_dies_or_hangs_changes_nothing(
    lab: Lab, reference: Reference, number: signal.Signals
) -> None:
    lab.slow_down(0.002)
    run = train(lab, 30)
    pid = page_process(run)
    lab.run_dir().reaches(3)
    os.kill(pid, number)
    assert run.wait() == 0
    told = "the page has ended: exit code -9; the run goes on" in run.err
    assert told == (number == signal.SIGKILL)
    assert load(lab.run_dir().newest).state_sha256 == reference(30).state_sha256
    assert session_members(run.pid) == []


def test_the_page_ends_when_its_launcher_is_killed(lab: Lab) -> None:
    lab.slow_down(0.05)
    run = train(lab, 1900)
    page_process(run)
    page_of(run)
    run.send(signal.SIGKILL)
    eventually(lambda: session_members(run.pid) == [], "nobody of the run is left")


@pytest.mark.soak
def test_a_port_that_is_taken_is_told_and_the_level_of_events_is_the_users(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        lab.slow_down(0.02)
        run = train(lab, 1900, "--page-port", port, "--events", "rounds")
        run.says(f"the page has ended: cannot listen at 127.0.0.1, port {port}: Address")
        lab.run_dir().happens("round_closed")
        run.send(signal.SIGINT)
        assert run.wait() == 130
    assert "whoever can reach" not in run.err
    assert "assigned" not in lab.run_dir().kinds()
