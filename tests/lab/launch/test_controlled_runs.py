"""Real runs to which something is done by their page: it is on record, and changes no bit."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.events import (
    Answered,
    Controlled,
    ControlRefused,
    EventBase,
    Joined,
    LearningRateChanged,
    Left,
    Lost,
    Paused,
    Resumed,
    Silent,
)
from lab.launch.control_options import check_control
from microgpt.checkpoint.format import load
from microgpt.support.cli import UserError
from tests.conftest import Reference
from tests.lab.page.asking import Asker, request
from tests.lab.page.serving import Viewer, page_of
from tests.marks import soak
from tests.processes import TINY, Lab, Process, eventually, session_members

pytestmark = pytest.mark.timeout(300)

FLAGS = ("--engine", "scalar", "--page", "--page-port", "0", "--control")


def train(lab: Lab, steps: int, *flags: str, seconds: float = 0.004) -> tuple[Process, Asker]:
    """A run whose workers take so many seconds for each document, and who may control it."""
    lab.slow_down(seconds)
    workers = () if "--workers" in flags else ("--workers", "2")
    size = ("--steps", str(steps), "--batch-size", "8", "--data", str(lab.data))
    run = lab.train(*FLAGS, *TINY, *workers, *size, *flags)
    return run, Asker(page_of(run))


def kinds(lab: Lab, *wanted: type[EventBase]) -> list[EventBase]:
    return [each.event for each in lab.run_dir().recorded if isinstance(each.event, wanted)]


@pytest.mark.soak
def test_whatever_is_done_to_workers_changes_no_bit(lab: Lab, reference: Reference) -> None:
    run, asker = train(lab, 200, "--worker-timeout", "1")
    directory = lab.run_dir()
    directory.happens("ready", 2)
    assert asker.does("kill", "worker-1").startswith("worker-1 is killed")
    directory.happens("lost")
    directory.happens("ready", 3)
    asker.does("freeze", "worker-2")
    directory.happens("silent")
    asker.does("thaw", "worker-2")
    directory.happens("ready", 4)
    asker.does("cut", "worker-2")
    directory.happens("lost", 2)
    assert asker.does("add") == "worker-3 is added"
    directory.happens("ready", 5)
    asker.does("restore", "worker-2")
    directory.happens("ready", 6)
    asker.does("remove", "worker-1")
    directory.happens("left")
    asker.does("slow", "worker-2", 2)
    assert run.wait() == 0, run.err
    assert load(directory.newest).state_sha256 == reference(200, 8).state_sha256
    told = [(event.verb.value, event.name) for event in directory.events(Controlled)]
    assert told == [
        ("kill", "worker-1"), ("freeze", "worker-2"), ("thaw", "worker-2"), ("cut", "worker-2"),
        ("add", "worker-3"), ("restore", "worker-2"), ("remove", "worker-1"), ("slow", "worker-2"),
    ]  # fmt: skip
    assert {event.by for event in directory.events(Controlled)} == {"page"}
    gone = [
        (type(e).__name__, e.name)
        for e in directory.events(EventBase)
        if isinstance(e, Lost | Silent | Left)
    ]
    assert gone == [
        ("Lost", "worker-1"), ("Silent", "worker-2"), ("Lost", "worker-2"), ("Left", "worker-1")
    ]  # fmt: skip
    names = [event.name for event in directory.events(Joined)]
    assert sorted(names[:2]) == ["worker-1", "worker-2"]
    assert names[2:] == ["worker-1", "worker-2", "worker-3", "worker-2"]
    assert "starting it again" not in run.err, "it was no accident"
    eventually(lambda: not session_members(run.pid), "all its processes are gone")


def test_a_pause_holds_the_run_and_nothing_else(lab: Lab, reference: Reference) -> None:
    run, asker = train(lab, 30, "--worker-timeout", "1", "--checkpoint-every", "1000")
    directory = lab.run_dir()
    directory.reaches(3)
    with Viewer(page_of(run)) as viewer:
        asker.does("pause")
        asker.does("pause")
        state = viewer.until("state", phase="paused")
    assert state["seconds_left"] > 0
    asker.does("save")
    directory.happens("controlled")
    (paused,) = directory.events(Paused)
    eventually(lambda: load(directory.newest).step >= paused.version, "a checkpoint is there")
    step = load(directory.newest).step
    assert step <= paused.version + 1
    asker.does("kill", "worker-2")
    directory.happens("ready", 3)  # more than a worker's timeout later
    assert directory.events(Silent) == []
    assert len(directory.metrics) == step
    asker.does("resume")
    assert run.wait() == 0, run.err
    (resumed,) = directory.events(Resumed)
    assert resumed.version == step
    assert resumed.seconds > 1.0
    assert re.search(r"[\d.]+ s paused; 30 steps in", run.out)
    assert load(directory.newest).state_sha256 == reference(30, 8).state_sha256


@pytest.mark.soak
def test_ctrl_c_in_a_pause_ends_and_saves(lab: Lab) -> None:
    run, asker = train(lab, 1000)
    directory = lab.run_dir()
    directory.reaches(3)
    asker.does("pause")
    directory.happens("paused")
    asker.does("freeze", "worker-1")
    directory.happens("controlled")
    run.send_group(signal.SIGINT)
    assert run.wait() == 128 + signal.SIGINT
    assert load(directory.newest).step == len(directory.metrics)
    assert directory.kinds()[-1] == "finished"
    eventually(lambda: not session_members(run.pid), "also who was frozen is gone")


def page_process(run: Process) -> int:
    for pid in session_members(run.pid):
        if b"lab.page" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            return pid
    return 0


@pytest.mark.soak
def test_what_stands_still_goes_on_when_the_page_dies(lab: Lab, reference: Reference) -> None:
    run, asker = train(lab, 40)
    lab.run_dir().reaches(3)
    asker.does("pause")
    asker.does("freeze", "worker-1")
    lab.run_dir().happens("controlled")
    os.kill(eventually(lambda: page_process(run), "the page is there"), signal.SIGKILL)
    assert run.wait() == 0, run.err
    assert "the page has ended: what stood still goes on" in run.err
    assert len(kinds(lab, Resumed)) == 1
    assert load(lab.run_dir().newest).state_sha256 == reference(40, 8).state_sha256


@pytest.mark.soak
def test_a_coordinator_that_comes_back_is_paused_as_before(lab: Lab, reference: Reference) -> None:
    run, asker = train(lab, 30)
    directory = lab.run_dir()
    directory.reaches(3)
    asker.does("slow", "worker-2", 2)
    asker.does("pause")
    directory.happens("paused")
    coordinator = next(
        pid for pid in session_members(run.pid)
        if b"coordinator" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )  # fmt: skip
    os.kill(coordinator, signal.SIGKILL)
    directory.happens("paused", 2)
    directory.happens("ready", 4)
    assert [event.factor for event in directory.events(Controlled)] == [2.0, 2.0]
    asker.does("resume")
    assert run.wait() == 0, run.err
    assert load(directory.newest).state_sha256 == reference(30, 8).state_sha256


@pytest.mark.parametrize("strategy", ["sync", soak("async")])
def test_a_learning_rate_is_changed_and_replayed_to_the_bit(lab: Lab, strategy: str) -> None:
    run, asker = train(lab, 30, "--strategy", strategy, "--checkpoint-every", "5")
    directory = lab.run_dir()
    directory.reaches(4)
    asker.does("learning_rate", value=0.05)
    directory.happens("learning_rate_changed")
    run.send_group(signal.SIGINT)
    assert run.wait() == 130
    (first,) = directory.events(LearningRateChanged)
    assert (first.by, first.learning_rate, first.before) == ("page", 0.05, 0.01)
    rates = {line["step"]: line["lr"] for line in directory.metrics}
    assert rates[first.version] == pytest.approx(0.01 * (1 - (first.version - 1) / 30))
    assert rates[first.version + 1] == pytest.approx(0.05 * (1 - first.version / 30))
    assert load(directory.newest).learning_rate == 0.05
    again = lab.train(*FLAGS[:2], "--workers", "1", "--resume", "runs/it")
    assert again.wait() == 0, again.err
    assert "with the learning rate 0.05 that it was changed to" in again.out
    assert directory.metrics[-1]["lr"] == pytest.approx(0.05 / 30)
    replay = lab.script("replay", "runs/it", "--engine", "scalar")
    assert replay.wait() == 0, replay.err + replay.out
    assert f"state_sha256 {load(directory.newest).state_sha256}" in replay.out


@pytest.mark.soak
def test_the_rate_of_local_steps_is_refused_in_one_line(lab: Lab) -> None:
    run, asker = train(lab, 12, "--strategy", "diloco", "--replicas", "2")
    lab.run_dir().reaches(1)
    asker.does("learning_rate", value=0.05)
    assert run.wait() == 0
    (refused,) = lab.run_dir().events(ControlRefused)
    assert refused.reason.startswith("the learning rate of local steps cannot be changed")
    assert run.err.count("warning: the page has asked for learning_rate: the learning rate of") == 1


@pytest.mark.soak
def test_four_times_as_slow_is_about_four_times_as_slow(lab: Lab) -> None:
    """In the processor's time: the quickest answers are those that have not waited for one."""
    flags = ("--workers", "1", "--events", "full", "--shard-size", "4")
    run, asker = train(lab, 1900, *flags, seconds=0.0)
    directory = lab.run_dir()
    directory.reaches(300)
    asker.does("slow", "worker-1", 4)
    directory.happens("controlled")
    changed = next(e.time for e in directory.recorded if isinstance(e.event, Controlled))
    done = len(directory.metrics)
    directory.reaches(done + 60)
    run.send_group(signal.SIGINT)
    run.wait()
    took = [(e.time, e.event.seconds) for e in directory.recorded if isinstance(e.event, Answered)]
    before = [seconds for time, seconds in took if time < changed - 0.5]
    after = [seconds for time, seconds in took if time > changed + 0.5]
    assert 3.0 < min(after) / min(before) < 5.5


@pytest.mark.soak
def test_without_the_flag_there_is_no_control(lab: Lab) -> None:
    lab.slow_down(0.01)
    size = ("--steps", "1000", "--batch-size", "8", "--data", str(lab.data), "--workers", "1")
    run = lab.train(*FLAGS[:-1], *TINY, *size)
    page = page_of(run)
    lab.run_dir().reaches(1)
    assert request(page, "GET", "/api/control", {}).status == 404
    with Viewer(page) as viewer:
        assert viewer.until("snapshot")["run"]["control"] is False
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in session_members(run.pid)]
    words = {word for command in commands for word in command.split(b"\0")}
    assert not words & {b"--control", b"--levers"}
    run.send_group(signal.SIGINT)
    run.wait()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"control": True}, "--control needs --page"),
        ({"page": True, "page_token": "x" * 20}, "--page-token is for --control"),
        ({"page": True, "control": True, "page_token": "short"}, "--page-token has at least 16"),
        ({"page": True, "control": True, "page_token": "16 letters, but no"}, "--page-token has"),
        (
            {"page": True, "control": True, "page_host": "0.0.0.0"},  # noqa: S104  # what is tried
            "--control at 0.0.0.0, where others can reach the page, needs --page-token",
        ),
        ({"page": True, "control": True, "page_host": "name"}, "--control at name, where others"),
    ],
)
def test_flags_that_do_not_go_together(given: dict[str, Any], says: str) -> None:
    fine = {"page": False, "control": False, "page_token": "", "page_host": "127.0.0.1"}
    with pytest.raises(UserError) as caught:
        check_control({**fine, **given})
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.1.2.3"])
def test_on_this_machine_no_token_is_needed(host: str) -> None:
    check_control({"page": True, "control": True, "page_token": "", "page_host": host})
    check_control({"page": True, "control": True, "page_token": "auto", "page_host": "0.0.0.0"})  # noqa: S104


@pytest.mark.soak
def test_the_printed_address_has_the_token(lab: Lab) -> None:
    lab.slow_down(0.01)
    size = ("--steps", "1000", "--batch-size", "8", "--data", str(lab.data), "--workers", "1")
    run = lab.train(*FLAGS, *TINY, *size, "--page-token", "auto")
    page = page_of(run)
    path = re.fullmatch(r"http://127\.0\.0\.1:\d+(/\?token=[\w-]{32})", page.url)
    assert path
    entered = request(page, "GET", path[1], {})
    asker = Asker(page, entered.headers["set-cookie"].partition(";")[0])
    asker.does("pause")
    lab.run_dir().happens("paused")
    config = json.loads((lab.run_dir().path / "config.json").read_text())
    assert "token" not in json.dumps(config)
    run.send_group(signal.SIGINT)
    run.wait()
