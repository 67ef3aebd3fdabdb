"""What is done to a run while it goes on: what is asked for, by whom, and to real processes."""

from __future__ import annotations

import json
import os
import queue
import select
import signal
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.core.events import Condition, ConditionChange, Controlled, ControlVerb
from coordinator.core.inputs import Asked as Wanted
from coordinator.core.inputs import Wish
from coordinator.run.laboratory import line_asked, line_done, line_of, read_line
from lab.condition_texts import read_conditions
from lab.launch import children
from lab.launch.channel import Asked, Channel, Gone
from lab.launch.children import Child
from lab.launch.control import Control
from lab.launch.requests import RefusedError, Request, Verb, read_request
from lab.launch.restarts import Restarts
from lab.launch.surroundings import Surroundings
from tests.processes import eventually
from worker.levers import Levers

SLEEPER = "import time; time.sleep(600)"
#: Ends as a worker does that is asked to leave.
POLITE = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGINT, lambda *_: sys.exit(130))\n"
    "signal.pthread_sigmask(signal.SIG_SETMASK, [])\n"
    "print('ready', flush=True)\n"
    "time.sleep(600)"
)

# Requests


def test_requests_are_read() -> None:
    assert read_request({"verb": "pause"}) == Request(Verb.PAUSE)
    slow = {"verb": "slow", "worker": "worker-2", "value": 4}
    assert read_request(slow) == Request(Verb.SLOW, "worker-2", 4.0)
    assert read_request({"verb": "learning_rate", "value": 0}) == Request(Verb.LEARNING_RATE)
    assert read_request({"verb": "kill", "worker": "worker-1", "value": None}).value == 0.0


@pytest.mark.parametrize(
    ("plain", "says"),
    [
        ([], "a request is a JSON object"),
        ({}, "there is no verb 'None': there are pause, resume"),
        ({"verb": ["kill"]}, "there is no verb"),
        ({"verb": "explode"}, "there is no verb 'explode'"),
        ({"verb": "pause", "force": True}, "a request has no 'force'"),
        ({"verb": "pause", "worker": "worker-1"}, "pause is done to the run"),
        ({"verb": "kill"}, "kill is done to a worker"),
        ({"verb": "kill", "worker": 2}, "a worker is called by its name"),
        ({"verb": "kill", "worker": ""}, "a worker is called by its name"),
        ({"verb": "kill", "worker": "x" * 201}, "a worker is called by its name"),
        ({"verb": "kill", "worker": "worker-1", "value": 1}, "kill has no value"),
        ({"verb": "slow", "worker": "worker-1"}, "the factor is a number from 1 to 100"),
        ({"verb": "slow", "worker": "worker-1", "value": 0.5}, "the factor is a number"),
        ({"verb": "slow", "worker": "worker-1", "value": True}, "the factor is a number"),
        ({"verb": "learning_rate", "value": "0.1"}, "the learning rate is a number from 0 to"),
        ({"verb": "learning_rate", "value": float("nan")}, "the learning rate is a number"),
        ({"verb": "learning_rate", "value": 10**400}, "the learning rate is a number"),
    ],
)
def test_what_is_no_request_is_one_sentence(plain: Any, says: str) -> None:
    with pytest.raises(RefusedError) as caught:
        read_request(plain)
    assert str(caught.value).startswith(says)


# The channel


@dataclass
class Page:
    """The other end of a channel, and what the supervisor hears of it."""

    news: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        self.channel = Channel(self.news)
        self.end = socket.socket(fileno=os.dup(self.channel.theirs.fileno()))
        self.end.settimeout(60)
        self.channel.begin()

    def says(self, line: bytes) -> None:
        self.end.sendall(line)

    def hears(self) -> Any:
        line = b""
        while not line.endswith(b"\n"):
            line += self.end.recv(4096)
        return json.loads(line)

    def close(self) -> None:
        self.end.close()
        self.channel.close()


@pytest.fixture
def page() -> Iterator[Page]:
    page = Page()
    yield page
    page.close()


def test_a_request_is_answered_by_the_supervisor(page: Page) -> None:
    page.says(b'{"id": 1, "verb": "pause"}\n{"id": 2, "verb": "kill", "worker": "worker-9"}\n')
    asked = page.news.get(timeout=60)
    assert isinstance(asked, Asked)
    assert asked.request == Request(Verb.PAUSE)
    assert page.news.empty(), "one after the other"
    asked.answers.put("it pauses")
    assert page.hears() == {"id": 1, "ok": True, "text": "it pauses"}
    page.news.get(timeout=60).answers.put(RefusedError("there is none"))
    assert page.hears() == {"id": 2, "ok": False, "error": "there is none"}


def test_what_is_no_request_never_reaches_the_supervisor(page: Page) -> None:
    page.says(b'{"id": 1, "verb": "explode"}\n')
    assert page.hears()["error"].startswith("there is no verb 'explode'")
    assert page.news.empty()


@pytest.mark.parametrize("line", [b"{\n", b"[1]\n", b'{"verb": "pause"}\n', b"x" * 5000, b""])
def test_whoever_cannot_be_answered_is_not_heard_any_more(page: Page, line: bytes) -> None:
    page.says(line)
    if not line:
        page.end.shutdown(socket.SHUT_WR)
    assert isinstance(page.news.get(timeout=60), Gone)


# Lines to the coordinator


def test_lines_to_the_coordinator_are_read_again() -> None:
    assert read_line(line_asked(Wish.LEARNING_RATE, "page", 0.1)) == Wanted(
        Wish.LEARNING_RATE, "page", 0.1
    )
    done = line_done(ControlVerb.SLOW, "page", "worker-2", 2.5)
    assert read_line(done) == Controlled("page", ControlVerb.SLOW, "worker-2", 2.5)
    killed = line_of(ConditionChange.KILLED, "worker-2", "--fail mtbf=1s,mttr=1s")
    assert read_line(killed) == Condition(
        ConditionChange.KILLED, "worker-2", "--fail mtbf=1s,mttr=1s"
    )


@pytest.mark.parametrize(
    "line",
    [b"", b"\xff\n", b"asked page\n", b"asked page explode 0.0\n", b"asked page pause nan\n",
     b"done page kill 1.0\n", b"done page explode 1.0 worker-1\n", b"set worker-1 x\n"],
)  # fmt: skip
def test_lines_that_nobody_writes_say_nothing(line: bytes) -> None:
    assert read_line(line) is None


# What is done to processes


class Run:
    """A supervisor's children, and what its coordinator is told."""

    def __init__(self, place: Path, workers: int = 2, script: str = SLEEPER) -> None:
        self.around = Surroundings(read_conditions(workers), 42, control=True)
        self.children: dict[int, Child] = {}
        self.due: dict[int, float] = {}
        self.restarts = {number: Restarts() for number in range(workers + 1)}
        self.control = Control(self.around, self.children, self.due, self.restarts)
        self.news: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.log = place / "log"
        with open(self.log, "wb") as log:
            for number in range(1, workers + 1):
                self.children[number] = children.start(
                    number, lambda _: [sys.executable, "-c", script], log, (), self.news
                )

    def does(self, verb: Verb, worker: str = "", value: float = 0.0) -> str:
        return self.control.perform(Request(verb, worker, value))

    def told(self) -> list[Any]:
        """What the coordinator can read by now."""
        (descriptor,) = self.around.descriptors
        data = b""
        while select.select([descriptor], [], [], 0)[0]:
            data += os.read(descriptor, 4096)
        return [read_line(line) for line in data.splitlines()]

    def state(self, number: int) -> str:
        """That of the process: R, S, T (stopped), Z."""
        stat = Path(f"/proc/{self.children[number].process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0]

    def levers(self, number: int) -> Levers:
        """As the worker sees them."""
        return Levers(self.around.worker_descriptors(number)[0])

    def close(self) -> None:
        children.kill(self.children.values())
        self.around.__exit__(None, None, None)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    run = Run(tmp_path)
    yield run
    run.close()


def controlled(verb: ControlVerb, name: str, factor: float = 1.0) -> Controlled:
    return Controlled("page", verb, name, factor)


def test_a_worker_is_killed_and_comes_back(run: Run) -> None:
    said = run.does(Verb.KILL, "worker-2")
    assert said == "worker-2 is killed, and started again in 1 s"
    assert run.news.get(timeout=60) is run.children[2]
    assert run.children[2].process.returncode == -signal.SIGKILL
    assert run.told() == [controlled(ControlVerb.KILL, "worker-2")]
    assert run.control.seconds_to_return(2) == 1.0
    assert run.control.seconds_to_return(2) is None, "the next time it is an accident"
    with pytest.raises(RefusedError, match="worker-2 does not run at the moment"):
        run.does(Verb.KILL, "worker-2")


def test_a_worker_is_frozen_and_goes_on(run: Run) -> None:
    run.does(Verb.FREEZE, "worker-1")
    eventually(lambda: run.state(1) == "T", "it is stopped")
    run.does(Verb.THAW, "worker-1")
    eventually(lambda: run.state(1) != "T", "it goes on")
    with pytest.raises(RefusedError, match="worker-1 is not frozen"):
        run.does(Verb.THAW, "worker-1")
    told = [controlled(verb, "worker-1") for verb in (ControlVerb.FREEZE, ControlVerb.THAW)]
    assert run.told() == told


def test_the_levers_of_a_worker_are_its_own(run: Run) -> None:
    one, two = run.levers(1), run.levers(2)
    assert (two.slowness, two.cut) == (1.0, False)
    run.does(Verb.SLOW, "worker-2", 4.0)
    run.does(Verb.CUT, "worker-2")
    assert (two.slowness, two.cut) == (4.0, True)
    assert (one.slowness, one.cut) == (1.0, False)
    run.does(Verb.SLOW, "worker-2", 1.0)
    run.does(Verb.RESTORE, "worker-2")
    assert (two.slowness, two.cut) == (1.0, False)
    with pytest.raises(RefusedError, match="the link of worker-2 is not cut"):
        run.does(Verb.RESTORE, "worker-2")
    assert [event.verb for event in run.told()] == ["slow", "cut", "slow", "restore"]


def test_workers_come_and_are_sent_home(tmp_path: Path) -> None:
    run = Run(tmp_path, script=POLITE)
    try:
        eventually(lambda: run.log.read_bytes().count(b"ready") == 2, "both listen to signals")
        assert run.does(Verb.ADD) == "worker-3 is added"
        assert run.due[3] <= time.monotonic()
        assert run.around.worker_flags(3)[0] == "--levers"
        run.does(Verb.FREEZE, "worker-1")
        run.does(Verb.REMOVE, "worker-1")
        assert run.news.get(timeout=60) is run.children[1]
        assert run.children[1].process.returncode == 130
        assert run.control.has_left(1)
        with pytest.raises(RefusedError, match="worker-1 has been asked to leave"):
            run.does(Verb.SLOW, "worker-1", 2.0)
        assert run.does(Verb.ADD) == "worker-4 is added", "no number comes twice"
        kinds = [(event.verb, event.name) for event in run.told()]
        assert kinds == [
            ("add", "worker-3"), ("freeze", "worker-1"), ("remove", "worker-1"), ("add", "worker-4")
        ]  # fmt: skip
    finally:
        run.close()


def test_a_number_of_workers_is_brought_about(tmp_path: Path) -> None:
    run = Run(tmp_path, script=POLITE)
    try:
        eventually(lambda: run.log.read_bytes().count(b"ready") == 2, "both listen to signals")
        assert run.control.scale(3) == "3 workers instead of 2"
        assert sorted(run.due) == [3]
        assert run.control.scale(1) == "1 workers instead of 3"
        assert not run.due, "who was to be started is not"
        assert run.news.get(timeout=60) is run.children[2]
        with pytest.raises(RefusedError, match="a run has at most 4,096 workers"):
            run.control.scale(4095)
        kinds = [(event.by, event.verb, event.name) for event in run.told()]
        assert kinds == [
            ("command", "add", "worker-3"), ("command", "remove", "worker-2"),
            ("command", "remove", "worker-3"),
        ]  # fmt: skip
    finally:
        run.close()


@pytest.mark.parametrize("name", ["worker-9", "worker-0", "worker-01", "the coordinator", "2", "?"])
def test_nobody_else_is_touched(run: Run, name: str) -> None:
    for verb in (Verb.KILL, Verb.SLOW, Verb.CUT):
        with pytest.raises(RefusedError, match="is no worker that was started here"):
            run.does(verb, name, 2.0)
    assert run.told() == []


def test_what_is_the_coordinators_goes_there(run: Run) -> None:
    run.does(Verb.PAUSE)
    run.does(Verb.SAVE)
    run.does(Verb.LEARNING_RATE, value=0.25)
    run.does(Verb.RESUME)
    assert run.told() == [
        Wanted(Wish.PAUSE, "page"), Wanted(Wish.SAVE, "page"),
        Wanted(Wish.LEARNING_RATE, "page", 0.25), Wanted(Wish.RESUME, "page"),
    ]  # fmt: skip


def test_the_next_coordinator_is_told_what_holds(run: Run) -> None:
    run.control.coordinator_starts()
    assert run.told() == []
    run.does(Verb.PAUSE)
    run.does(Verb.SLOW, "worker-1", 3.0)
    run.does(Verb.CUT, "worker-2")
    run.does(Verb.FREEZE, "worker-2")
    run.told()
    run.control.coordinator_starts()
    assert run.told() == [
        controlled(ControlVerb.SLOW, "worker-1", 3.0), controlled(ControlVerb.CUT, "worker-2"),
        controlled(ControlVerb.FREEZE, "worker-2"), Wanted(Wish.PAUSE, "page"),
    ]  # fmt: skip


def test_what_stands_still_goes_on_when_the_page_has_ended(run: Run) -> None:
    assert not run.control.undo()
    run.does(Verb.PAUSE)
    run.does(Verb.FREEZE, "worker-1")
    run.does(Verb.SLOW, "worker-2", 3.0)
    run.does(Verb.CUT, "worker-2")
    run.told()
    assert run.control.undo()
    eventually(lambda: run.state(1) != "T", "it goes on")
    assert (run.levers(2).slowness, run.levers(2).cut) == (1.0, False)
    assert run.told() == [
        Wanted(Wish.RESUME, "page"), controlled(ControlVerb.THAW, "worker-1"),
        controlled(ControlVerb.SLOW, "worker-2"), controlled(ControlVerb.RESTORE, "worker-2"),
    ]  # fmt: skip
    assert not run.control.undo()


def test_a_coordinator_that_does_not_listen_holds_nobody(run: Run) -> None:
    answers: queue.SimpleQueue[str | RefusedError] = queue.SimpleQueue()
    for _ in range(10_000):
        run.control.take(Asked(Request(Verb.SAVE), answers))
        if isinstance(said := answers.get(timeout=60), RefusedError):
            break
    assert str(said) == "it cannot be done now: Resource temporarily unavailable"
