"""Starts a coordinator and has workers started, restarts what dies, ends everything.

A coordinator that is killed comes back at the same address and goes on from its newest good
checkpoint; if it dies again and again soon after its start it is given up. Workers are the
launcher's (``launchers/base.py``): they are replaced when they die, or all are started again with
whoever has failed (``lab.conditions.OnFailure``).
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from coordinator.run.directory_owner import OwnedRunDir, last_save
from lab.conditions import OnFailure
from lab.launch import children
from lab.launch.channel import Asked, Channel, Gone
from lab.launch.children import AtWork, Child, News, NewsQueue
from lab.launch.control_socket import ControlSocket
from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.base import Launcher, Place, WorkerKeys, WorkerRequest, as_json
from lab.launch.launchers.processes import LEAVE_SECONDS, MOMENT_SECONDS, signal_name
from lab.launch.requests import OF_A_COMMAND, RefusedError, Verb
from lab.launch.restarts import Restarts
from lab.launch.surroundings import Surroundings
from microgpt.support import cli, signals
from microgpt.support.cli import INTERRUPTED, UserError
from microgpt.support.isolation import isolated

#: The coordinator has the last steps to save, and gives up a slow disk by itself. On a machine so
#: busy that this takes long it is waited for all the same.
SAVE_SECONDS = 10.0


@dataclass(frozen=True)
class Endpoint:
    """Where the coordinator listens: ``bind``. ``private``: nobody else can bind to it.

    ``advertise``: the host in the address that workers on other machines get, "" for local ones.
    ``curve``: the folder of its keys, if they come with keys.
    """

    bind: str
    private: bool = False
    advertise: str = ""
    curve: Path | None = None

    def address(self, bound: str) -> str:
        """Where workers find a coordinator that is bound to the address ``bound``."""
        if self.advertise and bound.startswith("tcp://"):
            return f"tcp://{self.advertise}:{bound.rpartition(':')[2]}"
        return bound.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:")


class Supervisor:
    """One run. ``coordinator``: the command line flags of its coordinator, which runs here.

    ``request``: the workers, as ``launcher`` will be asked for them when the address and the keys
    are known. ``surroundings``: what the run meets. ``record``: what another process is told of
    this launch.
    """

    def __init__(
        self,
        directory: OwnedRunDir,
        *,
        endpoint: Endpoint,
        coordinator: list[str],
        launcher: Launcher,
        request: WorkerRequest,
        resume: str | None,
        surroundings: Surroundings,
        record: LaunchRecord,
    ) -> None:
        self._directory = directory
        self._endpoint, self._bind, self._resume = endpoint, endpoint.bind, resume
        self._saved_before = last_save(directory.path)
        self._due: float | None = 0.0  # when the coordinator is to be started
        self._coordinator: Child | None = None
        self._flags, self._launcher, self._request = coordinator, launcher, request
        self._surroundings = surroundings
        self._restarts = Restarts()
        self._news: NewsQueue = queue.SimpleQueue()
        self._record = record
        self._asked = False  # whether the launcher has been asked for the workers
        self._signal = 0  # the first that wants us to end
        self._exit_code: int | None = None

    def channel(self) -> Channel:
        """A way for the page to ask for what ``Control`` does. To be closed after the run."""
        return Channel(self._news)

    def listen(self) -> None:
        """From here on signals end the run and not just this process."""
        cli.expect_block(True)  # the coordinator's
        for caught in signals.SIGNALS:
            signal.signal(caught, self._on_signal)

    def run(self) -> int:
        """Until the run is over. Returns the exit code; no child is left. Raises UserError."""
        try:
            with ControlSocket(self._request.launch, self._news):
                return self._run()
        finally:
            self._end_all()

    def _run(self) -> int:
        while True:
            self._start_due()
            news = self._next_news(self._launcher.tend(time.monotonic()))
            if isinstance(news, AtWork) and news.child is self._coordinator:
                self._on_work(news)
            elif self._signal:
                return 128 + self._signal
            elif isinstance(news, Asked | Gone):
                self._on_wish(news)
            elif news is not None and news is self._coordinator:
                self._on_end(news)
            elif news is not None:
                self._launcher.hear(news)
            if self._exit_code is None:
                self._exit_code = self._launcher.exhausted()
            if self._exit_code is not None:
                return self._exit_code

    def _next_news(self, launcher_due: float | None) -> News:
        """What happens next; None after a signal, or if something is due."""
        due = [at for at in (self._due, launcher_due) if at is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        with contextlib.suppress(queue.Empty):
            return self._news.get(timeout=timeout)
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or int(number)
        self._news.put(None)

    def _on_work(self, news: AtWork) -> None:
        self._restarts.works(time.monotonic())
        self._directory.keep()
        # One that comes back must be where its workers look for it, also if it had chosen the port.
        self._bind = news.text
        self._ask_for_workers(news.text)

    def _ask_for_workers(self, bound: str) -> None:
        if self._asked:
            return
        self._asked = True
        keys = None
        if self._launcher.remote and self._endpoint.curve is not None:
            keys = WorkerKeys.read(self._endpoint.curve)
        place = Place(self._directory, self._surroundings, self._news, self._restart_coordinator)
        self._launcher.start(self._request.at(self._endpoint.address(bound), keys), place)
        replace(self._record, known_as=self._launcher.known_as()).write(self._directory)

    def _on_end(self, child: Child) -> None:
        code = child.process.returncode
        self._coordinator = None
        if code >= 0:
            self._exit_code = code
            return
        cli.clear_block()
        how, now = signal_name(-code), time.monotonic()
        pause = self._restarts.died(now)
        if pause is None:
            times = self._restarts.deaths
            raise UserError(
                f"{child.name} was killed {times} times soon after its start ({how}); "
                "it is given up"
            )
        when = f" in {pause:g} s" if pause else ""
        self._say(f"{child.name} was killed ({how}); starting it again{when}")
        self._due = now + pause
        if self._surroundings.on_failure is not OnFailure.REPLACE:
            elastic = self._surroundings.on_failure is OnFailure.ELASTIC
            self._launcher.restart_all(now if elastic else self._due)

    def _restart_coordinator(self, at: float) -> None:
        """A worker has failed, and all shall go on from the last checkpoint."""
        if self._coordinator is not None:
            children.kill([self._coordinator])
            self._coordinator, self._due = None, at

    def _on_wish(self, news: Asked | Gone) -> None:
        control = self._launcher.control
        if isinstance(news, Asked) and news.request.verb in OF_A_COMMAND:
            news.answers.put(self._answer(news.request.verb, news.request.value))
        elif isinstance(news, Asked) and control is not None:
            control.take(news)
        elif isinstance(news, Asked):
            news.answers.put(RefusedError("there are no workers of this machine yet"))
        else:
            if control is not None and control.undo():
                self._say("the page has ended: what stood still goes on")
            self._launcher.stop_without_workers(INTERRUPTED)

    def _answer(self, verb: Verb, value: float) -> str | RefusedError:
        """What a command of the user asks for, done."""
        try:
            if verb is Verb.LIST:
                return as_json(self._launcher.list_workers())
            if verb is Verb.SCALE:
                text = self._launcher.scale(int(value))
                self._say(f"asked for {text}")
                return text
        except UserError as error:
            return RefusedError(str(error))
        self._say("asked to stop")
        self._exit_code = INTERRUPTED
        return "the run ends"

    def _start_due(self) -> None:
        if self._due is None or self._due > time.monotonic():
            return
        self._due = None
        self._start_coordinator()
        # Nobody else can be at our private socket, so that workers may start before the
        # coordinator. At an address of the user's somebody may: they wait until it is taken.
        if self._endpoint.private:
            self._ask_for_workers(self._bind)

    def _start_coordinator(self) -> None:
        saved = last_save(self._directory.path)
        # Until it has saved something it has not begun, and begins as the user has said.
        resume = self._resume if saved == self._saved_before else "auto"
        more = [] if resume is None else ["--resume", resume]
        lock, around = self._directory.descriptor, self._surroundings
        flags = [*self._flags, "--bind", self._bind, *more, "--lock", str(lock)]
        flags += around.coordinator_flags()
        if self._launcher.control is not None:
            self._launcher.control.coordinator_starts()

        def command(announce: int) -> list[str]:
            ours = ["--parent", str(os.getpid()), "--announce", str(announce)]
            return isolated("coordinator", *flags, *ours)

        passed = (lock, *around.descriptors)
        self._coordinator = children.start(0, command, None, passed, self._news)

    def _end_all(self) -> None:
        """Ask everybody to leave, wait for the coordinator to save, and end the others."""
        began = time.monotonic()
        coordinator = [child for child in (self._coordinator,) if child is not None]
        self._launcher.ask_to_leave()
        children.ask_to_leave(coordinator)
        children.wait(coordinator, began + LEAVE_SECONDS)
        try:
            self._launcher.stop()  # the coordinator has the processors for itself now
        except UserError as error:
            self._say(f"warning: {error}")
        children.wait(coordinator, began + SAVE_SECONDS)
        if children.kill(coordinator):
            cli.clear_block()
            self._say("the coordinator did not end, and was killed")
        self._hear_last_news(coordinator)

    def _hear_last_news(self, ended: list[Child]) -> None:
        """Whether the run has begun decides what is left behind."""
        for child in ended:
            if child.watcher is not None:
                child.watcher.join(MOMENT_SECONDS)
        while not self._news.empty():
            news = self._news.get()
            if isinstance(news, AtWork) and news.child in ended:
                self._directory.keep()

    def _say(self, text: str) -> None:
        cli.say(text, error=True)
