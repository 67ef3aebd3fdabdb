"""Starts a coordinator and workers as child processes, restarts what dies, ends everything.

A coordinator that is killed comes back at the same address and goes on from its newest good
checkpoint; a worker that is killed is replaced, or all are started again with it
(``lab.conditions.OnFailure``); a worker that leaves politely is not. Who dies again and again soon
after its start is given up.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from types import FrameType
from typing import BinaryIO

from coordinator.run.directory_owner import OwnedRunDir, last_save
from lab.conditions import OnFailure
from lab.launch import children
from lab.launch.channel import Asked, Channel, Gone
from lab.launch.children import AtWork, Child, News
from lab.launch.control import Control
from lab.launch.logs import WorkerLogs
from lab.launch.restarts import Restarts
from lab.launch.surroundings import Surroundings
from microgpt.support import cli, signals
from microgpt.support.cli import INTERRUPTED, UserError
from microgpt.support.isolation import isolated

#: After Ctrl-C workers have this long to end by themselves, and a moment after the coordinator.
LEAVE_SECONDS = 0.9
MOMENT_SECONDS = 0.3
#: The coordinator has the last steps to save, and gives up a slow disk by itself. On a machine so
#: busy that this takes long it is waited for all the same.
SAVE_SECONDS = 10.0
POLITE = (0, *(128 + number for number in signals.SIGNALS))


class Supervisor:
    """One run on this machine. ``coordinator`` and ``worker`` are their command line flags.

    ``private``: nobody else can bind to the address ``bind``. ``surroundings``: what workers meet.
    ``control``: None unless somebody may do something to the run while it goes on.
    """

    def __init__(
        self,
        directory: OwnedRunDir,
        *,
        bind: str,
        private: bool,
        coordinator: list[str],
        worker: list[str],
        workers: int,
        resume: str | None,
        surroundings: Surroundings,
    ) -> None:
        self._directory = directory
        self._bind, self._resume = bind, resume
        self._logs = WorkerLogs(directory)
        self._saved_before = last_save(directory.path)
        # Nobody else can be at our private socket, so that workers may start before the
        # coordinator. At an address of the user's somebody may: they wait until it is taken.
        self._address = bind if private else ""
        self._due = dict.fromkeys(range(workers + 1), 0.0)  # when who is to be started
        self._coordinator, self._worker = coordinator, worker
        self._surroundings = surroundings
        self._kills: dict[int, float] = {}  # when which worker is to be killed
        self._children: dict[int, Child] = {}
        self._restarts = {number: Restarts() for number in range(workers + 1)}
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self.control: Control | None = None
        if surroundings.controlled:
            parts = surroundings, self._children, self._due, self._restarts
            self.control = Control(*parts)
        self._signal = 0  # the first that wants us to end
        self._exit_code: int | None = None

    def channel(self) -> Channel:
        """A way for a process to ask for what ``control`` does. To be closed after the run."""
        return Channel(self._news)

    def listen(self) -> None:
        """From here on signals end the run and not just this process."""
        cli.expect_block(True)  # the coordinator's
        for caught in signals.SIGNALS:
            signal.signal(caught, self._on_signal)

    def run(self) -> int:
        """Until the run is over. Returns the exit code; no child is left. Raises UserError."""
        try:
            while self._exit_code is None:
                self._start_due()
                self._kill_due()
                news = self._next_news()
                if isinstance(news, AtWork):
                    self._on_work(news)
                elif self._signal:
                    self._exit_code = 128 + self._signal
                elif isinstance(news, Asked | Gone):
                    self._on_wish(news)
                elif news is not None:
                    self._on_end(news)
            return self._exit_code
        finally:
            self._end_all()

    def _next_news(self) -> News:
        """What happens next to a child; None after a signal, or if somebody is to be started."""
        due = [at for number, at in self._due.items() if number == 0 or self._address]
        due += self._kills.values()
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        with contextlib.suppress(queue.Empty):
            return self._news.get(timeout=timeout)
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or int(number)
        self._news.put(None)

    def _on_work(self, news: AtWork) -> None:
        now, number = time.monotonic(), news.child.number
        if self._children.get(number) is not news.child:
            return  # it has been stopped since
        self._restarts[number].works(now)
        if number and (seconds := self._surroundings.seconds_to_failure(number)) is not None:
            self._kills[number] = now + seconds
        if number == 0:
            self._directory.keep()
            # One that comes back must be where its workers look for it, also if it had chosen
            # the port.
            self._bind, self._address = news.text, reachable(news.text)

    def _on_end(self, child: Child) -> None:
        code = child.process.returncode
        if self._children.get(child.number) is not child:
            return  # it was stopped with all others
        self._children.pop(child.number)
        self._kills.pop(child.number, None)
        pause = self._surroundings.seconds_to_return(child.number)
        if pause is None and self.control is not None:
            pause = self.control.seconds_to_return(child.number)
        if self.control is not None and self.control.has_left(child.number):
            self._say(f"{child.name} has left")
        elif pause is not None:
            self._start_again(child, pause)
        elif child.number == 0 and code >= 0:
            self._exit_code = code
        elif code < 0:
            self._on_killed(child, _signal_name(code))
        elif code == 0:
            return  # told to stop; the coordinator will end, too
        elif code in POLITE:
            self._say(f"{child.name} has left")
            self._stop_without_workers(INTERRUPTED)
        else:
            self._say(f"{child.name} cannot work: {self._logs.last_words(child.number)}")
            self._stop_without_workers(1)

    def _on_wish(self, news: Asked | Gone) -> None:
        if self.control is None:
            return
        if isinstance(news, Asked):
            self.control.take(news)
            return
        if self.control.undo():
            self._say("the page has ended: what stood still goes on")
        self._stop_without_workers(INTERRUPTED)

    def _on_killed(self, child: Child, how: str) -> None:
        if child.number == 0:
            cli.clear_block()
        now, restarts = time.monotonic(), self._restarts[child.number]
        pause = restarts.died(now)
        if pause is not None:
            when = f" in {pause:g} s" if pause else ""
            self._say(f"{child.name} was killed ({how}); starting it again{when}")
            self._start_again(child, pause)
            return
        text = f"{child.name} was killed {restarts.deaths} times soon after its start ({how})"
        if child.number == 0:
            raise UserError(f"{text}; it is given up")
        self._say(f"{text}; it is given up: {self._logs.last_words(child.number)}")
        self._stop_without_workers(1)

    def _start_again(self, failed: Child, pause: float) -> None:
        """A process that has failed is back in ``pause`` seconds; the others, as it was wanted."""
        policy, others = self._surroundings.on_failure, list(self._children.values())
        self._due[failed.number] = time.monotonic() + pause
        if policy is not OnFailure.REPLACE:
            children.kill(others)
            self._children.clear()
            self._kills.clear()
            back = max(self._due.values()) if policy is OnFailure.RESTART else time.monotonic()
            self._due |= dict.fromkeys((child.number for child in others), back)
        self._surroundings.killed(failed.number, failed.name)

    def _stop_without_workers(self, code: int) -> None:
        if not any(self._children) and not any(self._due):  # the coordinator is 0
            self._say("no worker is left; stopping")
            self._exit_code = code

    def _kill_due(self) -> None:
        """Workers fail when the conditions want it."""
        now = time.monotonic()
        for number, at in list(self._kills.items()):
            if at <= now and (child := self._children.get(number)) is not None:
                del self._kills[number]
                if child.process.poll() is None:
                    child.process.kill()
                    self._surroundings.kills(number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number, at in sorted(self._due.items()):
            if at <= now and (number == 0 or self._address):
                del self._due[number]
                if number:
                    self._start_worker(number)
                else:
                    self._start_coordinator()

    def _start_coordinator(self) -> None:
        saved = last_save(self._directory.path)
        # Until it has saved something it has not begun, and begins as the user has said.
        resume = self._resume if saved == self._saved_before else "auto"
        more = [] if resume is None else ["--resume", resume]
        lock, around = self._directory.descriptor, self._surroundings
        flags = [*self._coordinator, "--bind", self._bind, *more, "--lock", str(lock)]
        flags += around.coordinator_flags()
        if self.control is not None:
            self.control.coordinator_starts()
        self._start(0, "coordinator", flags, None, lock, *around.descriptors)

    def _start_worker(self, number: int) -> None:
        name = f"worker-{number}"
        address = self._surroundings.address(number, self._address)
        flags = [*self._worker, "--connect", address, "--name", name]
        flags += self._surroundings.worker_flags(number)
        self._surroundings.starts(number, name)
        with self._logs.open(number) as log:
            self._start(
                number, "worker", flags, log, *self._surroundings.worker_descriptors(number)
            )

    def _start(
        self, number: int, module: str, flags: list[str], log: BinaryIO | None, *passed: int
    ) -> None:
        def command(announce: int) -> list[str]:
            ours = ["--parent", str(os.getpid()), "--announce", str(announce)]
            return isolated(module, *flags, *ours)

        self._children[number] = children.start(number, command, log, passed, self._news)

    def _end_all(self) -> None:
        """Ask everybody to leave, wait for the coordinator to save, and end the others."""
        began = time.monotonic()
        if self.control is not None:
            self.control.thaw_all()
        everybody = [child for _, child in sorted(self._children.items())]
        children.ask_to_leave(everybody)
        coordinator = [child for child in everybody if child.number == 0]
        workers = [child for child in everybody if child.number]
        until = began + LEAVE_SECONDS
        children.wait(coordinator, until)
        moment = time.monotonic() + MOMENT_SECONDS if coordinator else until
        children.wait(workers, max(until, moment))
        children.kill(workers)  # the coordinator has the processors for itself now
        children.wait(coordinator, began + SAVE_SECONDS)
        if children.kill(coordinator):
            cli.clear_block()
            self._say("the coordinator did not end, and was killed")
        self._hear_last_news(everybody)

    def _hear_last_news(self, ended: list[Child]) -> None:
        """Whether the run has begun decides what is left behind."""
        for child in ended:
            if child.watcher is not None:
                child.watcher.join(MOMENT_SECONDS)
        while not self._news.empty():
            if isinstance(news := self._news.get(), AtWork):
                self._on_work(news)

    def _say(self, text: str) -> None:
        cli.say(text, error=True)


def reachable(bind: str) -> str:
    """The address at which this machine's workers find a coordinator bound to every interface."""
    return bind.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:")


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
