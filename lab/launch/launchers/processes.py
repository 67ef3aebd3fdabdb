"""Workers as child processes of the supervisor: started, started again, killed, sent home.

A worker that is killed is replaced; one that leaves politely is not. Who dies again and again soon
after its start is given up.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator

from lab.conditions import OnFailure
from lab.launch import children
from lab.launch.children import AtWork, Child
from lab.launch.control import Control
from lab.launch.launchers.base import (
    Launcher,
    Place,
    Plan,
    WorkerHandle,
    WorkerRequest,
    WorkerStatus,
    command_line,
    python,
    worker_name,
)
from lab.launch.logs import WorkerLogs, lines_of
from lab.launch.requests import RefusedError
from lab.launch.restarts import Restarts
from microgpt.support import cli, signals
from microgpt.support.cli import INTERRUPTED, UserError
from microgpt.support.isolation import isolated

#: After Ctrl-C workers have this long to end by themselves, and a moment after the coordinator.
LEAVE_SECONDS = 0.9
MOMENT_SECONDS = 0.3
POLITE = (0, *(128 + number for number in signals.SIGNALS))


class WorkerProcesses(Launcher):
    """One child process for each worker, on this machine unless ``_command`` says otherwise."""

    remote = False

    def __init__(self) -> None:
        self._children: dict[int, Child] = {}
        self._due: dict[int, float] = {}  # when who is to be started
        self._kills: dict[int, float] = {}  # when who is to be killed, as the conditions want it
        self._restarts: dict[int, Restarts] = {}
        self._ended: dict[int, str] = {}  # who is not started again, and why
        self._crew: Crew | None = None  # once we are asked for workers
        self._leave_by = 0.0
        self._exit_code: int | None = None

    # --- what a launcher does --------------------------------------------------------------------

    def plan(self, request: WorkerRequest) -> Plan:
        """One command line for each worker."""
        lines = (
            (name, python("worker", *request.worker_flags(name, None))) for name in request.names
        )
        return Plan(tuple(f"{name}: {command_line(words)}" for name, words in lines))

    def start(self, request: WorkerRequest, place: Place) -> None:
        """They are started as soon as ``tend`` is called."""
        self.control = Control(place.surroundings, self._children, self._due, self._restarts)
        self._crew = Crew(request, place, self.control)
        for number in range(1, request.count + 1):
            self._restarts[number] = Restarts()
            self._due[number] = 0.0

    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """All that were ever started."""
        return tuple(self._handle(number) for number in sorted(self._restarts))

    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """From its file in the run directory. Raises UserError."""
        if self._crew is None:
            raise UserError("no worker has been started yet")
        run = self._crew.place.directory.path
        return lines_of(run, name, lambda: follow and name in self._running_names())

    def scale(self, count: int) -> str:
        """See ``Control.scale``. Raises UserError."""
        if self.control is None:
            raise UserError("no worker has been started yet")
        try:
            return self.control.scale(count)
        except RefusedError as error:
            raise UserError(str(error)) from error
        except OSError as error:
            raise UserError(f"it cannot be done now: {error.strerror}") from error

    def ask_to_leave(self) -> None:
        """As Ctrl-C would."""
        if self.control is not None:
            self.control.thaw_all()
        self._due.clear()
        children.ask_to_leave(self._everybody())
        self._leave_by = time.monotonic() + LEAVE_SECONDS

    def stop(self) -> None:
        """Who does not leave in time is killed."""
        everybody = self._everybody()
        children.wait(everybody, max(self._leave_by, time.monotonic() + MOMENT_SECONDS))
        children.kill(everybody)
        for child in everybody:
            if child.watcher is not None:
                child.watcher.join(MOMENT_SECONDS)
        self._children.clear()

    def tend(self, now: float) -> float | None:
        """Start and kill those whose time has come."""
        if self._crew is None:
            return None
        for number, at in sorted(self._due.items()):
            if at <= now:
                del self._due[number]
                self._start(self._crew, number)
        for number, at in list(self._kills.items()):
            if at <= now and (child := self._children.get(number)) is not None:
                del self._kills[number]
                if child.process.poll() is None:
                    child.process.kill()
                    self._crew.around.kills(number)
        return min((*self._due.values(), *self._kills.values()), default=None)

    def hear(self, news: AtWork | Child) -> None:
        """One of ours is at work, or has ended."""
        child = news.child if isinstance(news, AtWork) else news
        if self._crew is None or self._children.get(child.number) is not child:
            return  # it was stopped with all others
        if isinstance(news, AtWork):
            self._on_work(self._crew, child)
        else:
            self._on_end(self._crew, child)

    def restart_all(self, at: float) -> None:
        """Those that are due already come when they are."""
        others = self._everybody()
        children.kill(others)
        self._children.clear()
        self._kills.clear()
        self._due |= dict.fromkeys((child.number for child in others), at)

    def exhausted(self) -> int | None:
        """Why nobody is left has been said when the last one ended."""
        return self._exit_code

    def stop_without_workers(self, code: int) -> None:
        """Note the exit code, and say so, if nobody is left."""
        if not self._children and not self._due:
            _say("no worker is left; stopping")
            self._exit_code = code

    # --- one worker ------------------------------------------------------------------------------

    def _command(self, request: WorkerRequest, name: str, *more: str) -> list[str]:
        """The command that runs a worker, with ``more`` flags."""
        return isolated("worker", *request.worker_flags(name, None), *more)

    def address_above(self, crew: Crew, number: int) -> str:
        """Where a worker connects to if nothing is between."""
        return crew.request.address

    def _start(self, crew: Crew, number: int) -> None:
        name, around = worker_name(number), crew.around
        request = crew.request.at(around.address(number, self.address_above(crew, number)), None)
        flags = around.worker_flags(number)
        around.starts(number, name)

        def command(announce: int) -> list[str]:
            ours = ["--parent", str(os.getpid()), "--announce", str(announce)]
            return self._command(request, name, *flags, *ours)

        with crew.logs.open(number) as log:
            passed = around.worker_descriptors(number)
            child = children.start(number, command, log, passed, crew.place.news)
        self._children[number] = child

    def _on_work(self, crew: Crew, child: Child) -> None:
        now = time.monotonic()
        self._restarts[child.number].works(now)
        if (seconds := crew.around.seconds_to_failure(child.number)) is not None:
            self._kills[child.number] = now + seconds

    def _on_end(self, crew: Crew, child: Child) -> None:
        code, number = child.process.returncode, child.number
        self._children.pop(number, None)
        self._kills.pop(number, None)
        pause = crew.around.seconds_to_return(number)
        if pause is None:
            pause = crew.control.seconds_to_return(number)
        if crew.control.has_left(number):
            self._ends(child, "has left")
        elif pause is not None:
            self._restarts[number].restarts += 1
            self._start_again(crew, child, pause)
        elif (how := self._killed(code)) is not None:
            self._on_killed(crew, child, how)
        elif code == 0:
            self._ended[number] = "has ended"  # told to; the coordinator will end, too
        elif code in POLITE:
            self._ends(child, "has left")
            self.stop_without_workers(INTERRUPTED)
        else:
            self._ends(child, f"cannot work: {crew.logs.last_words(number)}")
            self.stop_without_workers(1)

    def _killed(self, code: int) -> str | None:
        """How a process with this exit code was killed; None if it has ended by itself."""
        return signal_name(-code) if code < 0 else None

    def _on_killed(self, crew: Crew, child: Child, how: str) -> None:
        restarts = self._restarts[child.number]
        pause = restarts.died(time.monotonic())
        if pause is not None:
            when = f" in {pause:g} s" if pause else ""
            _say(f"{child.name} was killed ({how}); starting it again{when}")
            self._start_again(crew, child, pause)
            return
        text = f"was killed {restarts.deaths} times soon after its start ({how}); it is given up"
        self._ends(child, f"{text}: {crew.logs.last_words(child.number)}")
        self.stop_without_workers(1)

    def _start_again(self, crew: Crew, failed: Child, pause: float) -> None:
        """A worker that has failed is back in ``pause`` seconds; the others, as it was wanted."""
        policy, now = crew.around.on_failure, time.monotonic()
        self._due[failed.number] = now + pause
        if policy is not OnFailure.REPLACE:
            back = max(self._due.values()) if policy is OnFailure.RESTART else now
            self.restart_all(back)
            crew.place.restart_coordinator(back)
        crew.around.killed(failed.number, failed.name)

    def _ends(self, child: Child, why: str) -> None:
        self._ended[child.number] = why
        _say(f"{child.name} {why}")

    # --- all of them -----------------------------------------------------------------------------

    def _everybody(self) -> list[Child]:
        return [child for _, child in sorted(self._children.items())]

    def _running_names(self) -> set[str]:
        return {worker_name(number) for number in (*self._children, *self._due)}

    def _handle(self, number: int) -> WorkerHandle:
        name, again = worker_name(number), self._restarts[number].restarts
        if number in self._children:
            return WorkerHandle(name, self._where(number), WorkerStatus.RUNNING, again)
        if number in self._due:
            return WorkerHandle(name, "", WorkerStatus.WAITING, again, "is started again soon")
        return WorkerHandle(name, "", WorkerStatus.ENDED, again, self._ended.get(number, ""))

    def _where(self, number: int) -> str:
        return socket.gethostname()


class Crew:
    """What there is once a launcher of processes has been asked for workers."""

    def __init__(self, request: WorkerRequest, place: Place, control: Control) -> None:
        self.request, self.place, self.control = request, place, control
        self.around, self.logs = place.surroundings, WorkerLogs(place.directory)


def signal_name(number: int) -> str:
    """What people call a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _say(text: str) -> None:
    cli.say(text, error=True)
