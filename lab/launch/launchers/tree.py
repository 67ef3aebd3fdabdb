"""Workers of this machine below aggregators, which are child processes as well.

An aggregator that ends is started again at the address where its workers look for it.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from dataclasses import replace

from coordinator.net.private_socket import private_address
from lab.launch import children
from lab.launch.children import AtWork, Child
from lab.launch.launchers.base import (
    Place,
    Plan,
    WorkerRequest,
    command_line,
    python,
)
from lab.launch.launchers.processes import MOMENT_SECONDS, Crew, WorkerProcesses, signal_name
from lab.launch.logs import WorkerLogs
from lab.launch.restarts import Restarts
from lab.launch.surroundings import ANY_PORT
from microgpt.support import cli
from microgpt.support.isolation import isolated

CURVE = "--curve"
PLANNED = "AGGREGATOR-{number}"  # its address, before it is known


def aggregator_name(number: int) -> str:
    """That of the aggregator with this number, from 1 on."""
    return f"aggregator-{number}"


class Aggregators:
    """The ``count`` aggregators of a run. ``addresses``: of those that are known, by number."""

    def __init__(self, count: int, request: WorkerRequest, place: Place) -> None:
        self._request, self._place = request, place
        self._logs = WorkerLogs(place.directory)
        self._close = ExitStack()
        self._children: dict[int, Child] = {}
        self._due = dict.fromkeys(range(1, count + 1), 0.0)
        self._restarts = {number: Restarts() for number in self._due}
        self.addresses: dict[int, str] = {}
        self.exit_code: int | None = None
        # Nobody else reaches a private socket, so that workers may look there before anybody does.
        private = request.address.startswith("ipc://")
        for number in self._due if private else ():
            self.addresses[number] = self._close.enter_context(private_address())

    def all_known(self, count: int) -> bool:
        """Whether workers can be told where to connect to."""
        return len(self.addresses) == count

    def tend(self, now: float) -> float | None:
        """Start those whose time has come; returns when the next one's will be."""
        for number, at in sorted(self._due.items()):
            if at <= now:
                del self._due[number]
                self._start(number)
        return min(self._due.values(), default=None)

    def _start(self, number: int) -> None:
        name = aggregator_name(number)
        bind = self.addresses.get(number, ANY_PORT)
        flags = [*aggregator_flags(self._request, name, bind), *curve_of(self._request)]

        def command(announce: int) -> list[str]:
            ours = ["--parent", str(os.getpid()), "--announce", str(announce)]
            return isolated("aggregator", *flags, *ours)

        with self._logs.open_named(name) as log:
            self._children[number] = children.start(number, command, log, (), self._place.news)

    def owns(self, child: Child) -> bool:
        """Whether it is one of these."""
        return self._children.get(child.number) is child

    def hear(self, news: AtWork | Child) -> None:
        """One of ours listens, or has ended."""
        now = time.monotonic()
        if isinstance(news, AtWork):
            self.addresses[news.child.number] = news.text
            self._restarts[news.child.number].works(now)
            return
        number, code = news.number, news.process.returncode
        del self._children[number]
        name, restarts = aggregator_name(number), self._restarts[number]
        if code == 0:
            return  # it was told that the run is over
        how = signal_name(-code) if code < 0 else f"exit code {code}"
        pause = None if code in (1, 2) else restarts.died(now)
        if pause is None:
            cli.say(f"{name} cannot work: {self._logs.last_words_of(name)}", error=True)
            self.exit_code = 1
            return
        when = f" in {pause:g} s" if pause else ""
        cli.say(f"{name} was killed ({how}); starting it again{when}", error=True)
        self._due[number] = now + pause

    def ask_to_leave(self) -> None:
        """As Ctrl-C would."""
        self._due.clear()
        children.ask_to_leave(self._children.values())

    def stop(self) -> None:
        """End those that have not, and take their sockets away."""
        everybody = [*self._children.values()]
        children.wait(everybody, time.monotonic() + MOMENT_SECONDS)
        children.kill(everybody)
        self._close.close()


def aggregator_flags(request: WorkerRequest, name: str, bind: str) -> list[str]:
    """The command line of ``python -m aggregator`` for one of them."""
    return ["--connect", request.address, "--bind", bind, "--name", name]


def curve_of(request: WorkerRequest) -> tuple[str, ...]:
    """The flag for the keys that workers of this machine are let in with, if there are any."""
    place = request.flags.index(CURVE) if CURVE in request.flags else len(request.flags)
    return request.flags[place : place + 2]


def without_keys(request: WorkerRequest) -> WorkerRequest:
    """Workers of aggregators that only this machine can reach: they need no keys."""
    if CURVE not in request.flags:
        return request
    place = request.flags.index(CURVE)
    return replace(request, flags=(*request.flags[:place], *request.flags[place + 2 :]))


class TreeProcesses(WorkerProcesses):
    """``WorkerProcesses`` below ``count`` aggregators, by turns."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._count = count
        self._aggregators: Aggregators | None = None

    def _number_above(self, number: int) -> int:
        """Which aggregator worker ``number`` is below."""
        return (number - 1) % self._count + 1

    def plan(self, request: WorkerRequest) -> Plan:
        """One command line for each aggregator and each worker."""
        lines = []
        for number in range(1, self._count + 1):
            name, bind = aggregator_name(number), PLANNED.format(number=number)
            words = python("aggregator", *aggregator_flags(request, name, bind))
            lines.append(f"{name}: {command_line(words)}")
        for number, name in enumerate(request.names, 1):
            there = request.at(PLANNED.format(number=self._number_above(number)), None)
            words = python("worker", *there.worker_flags(name, None))
            lines.append(f"{name}: {command_line(words)}")
        return Plan(tuple(lines))

    def start(self, request: WorkerRequest, place: Place) -> None:
        """They are started as soon as ``tend`` is called."""
        self._aggregators = Aggregators(self._count, request, place)
        super().start(without_keys(request), place)

    def address_above(self, crew: Crew, number: int) -> str:
        """That of the worker's aggregator."""
        assert self._aggregators is not None  # noqa: S101  # nobody is started before it is there
        return self._aggregators.addresses[self._number_above(number)]

    def tend(self, now: float) -> float | None:
        """Start and kill those whose time has come; workers, once aggregators can be found."""
        if self._aggregators is None:
            return None
        due = [self._aggregators.tend(now)]
        if self._aggregators.all_known(self._count):
            due.append(super().tend(now))
        return min((at for at in due if at is not None), default=None)

    def hear(self, news: AtWork | Child) -> None:
        """One of ours is at work, or has ended."""
        child = news.child if isinstance(news, AtWork) else news
        if self._aggregators is not None and self._aggregators.owns(child):
            self._aggregators.hear(news)
        else:
            super().hear(news)

    def exhausted(self) -> int | None:
        """See ``Launcher``; also if an aggregator cannot work."""
        failed = None if self._aggregators is None else self._aggregators.exit_code
        return super().exhausted() if failed is None else failed

    def ask_to_leave(self) -> None:
        """As Ctrl-C would."""
        super().ask_to_leave()
        if self._aggregators is not None:
            self._aggregators.ask_to_leave()

    def stop(self) -> None:
        """Who does not leave in time is killed."""
        super().stop()
        if self._aggregators is not None:
            self._aggregators.stop()
