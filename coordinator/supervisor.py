"""Starts a coordinator and workers as child processes, restarts what dies, ends everything.

A coordinator that is killed comes back at the same address and goes on from its newest good
checkpoint; a worker that is killed is replaced; a worker that leaves politely is not.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from coordinator.checkpoints import NEWEST
from microgpt import cli, interrupts
from microgpt.cli import INTERRUPTED, UserError

LEAVE_SECONDS = 1.7  # for the children to end by themselves after Ctrl-C
RESTARTS = 5  # within this time more restarts of one child mean that it cannot live
RESTART_WINDOW = 10.0  # seconds
ADDRESS_POLL = 0.02  # seconds
POLITE = (0, *(128 + number for number in interrupts.SIGNALS))


@dataclass
class Child:
    """A process of ours. ``number`` is 0 for the coordinator, from 1 on for workers."""

    number: int
    process: subprocess.Popen[bytes]

    @property
    def name(self) -> str:
        """What people call it."""
        return f"worker-{self.number}" if self.number else "coordinator"


class Supervisor:
    """One run on this machine. ``coordinator`` and ``worker`` are their command line flags.

    ``private``: nobody else can bind to the address ``bind``.
    """

    def __init__(
        self,
        root: Path,
        run_dir: Path,
        *,
        bind: str,
        private: bool,
        coordinator: list[str],
        worker: list[str],
        workers: int,
        resume: str | None,
    ) -> None:
        self._run_dir, self._bind, self._resume = run_dir, bind, resume
        self._private = private
        self._missing = list(range(1, workers + 1))  # workers to be started
        self._coordinator, self._worker = coordinator, worker
        path = os.environ.get("PYTHONPATH")
        self._env = dict(os.environ, PYTHONPATH=f"{root}{os.pathsep}{path}" if path else str(root))
        self._children: dict[int, Child] = {}
        self._ended: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._starts: dict[int, list[float]] = {}
        self._signal = 0  # the first that wants us to end
        self._exit_code: int | None = None

    def run(self) -> int:
        """Until the run is over. Returns the exit code; no child is left. Raises UserError."""
        cli.expect_block(True)  # the coordinator's
        for caught in interrupts.SIGNALS:
            signal.signal(caught, self._on_signal)
        (self._run_dir / "endpoint").unlink(missing_ok=True)
        try:
            self._start_coordinator(self._resume)
            while self._exit_code is None:
                if self._missing and (address := self._address()):
                    for number in self._missing:
                        self._start_worker(number, address)
                    self._missing.clear()
                child = self._next_end()
                if self._signal:
                    self._exit_code = 128 + self._signal
                elif child is not None:
                    self._on_end(child)
            return self._exit_code
        finally:
            self._end_all()

    def _next_end(self) -> Child | None:
        """The next child that has ended; None after a signal, or to look for an address again."""
        with contextlib.suppress(queue.Empty):
            return self._ended.get(timeout=ADDRESS_POLL if self._missing else None)
        return None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._signal = self._signal or int(number)
        self._ended.put(None)

    def _on_end(self, child: Child) -> None:
        code = child.process.returncode
        self._children.pop(child.number, None)
        if child.number == 0:
            self._on_coordinator_end(code)
        elif code == 0:
            return  # told to stop; the coordinator will end, too
        elif code in POLITE:
            self._say(f"{child.name} has left")
            self._stop_without_workers(INTERRUPTED)
        elif code > 0:
            self._say(f"{child.name} cannot work: {self._last_words(child.number)}")
            self._stop_without_workers(1)
        else:
            self._say(f"{child.name} was killed ({_signal_name(code)}); starting it again")
            self._missing.append(child.number)

    def _on_coordinator_end(self, code: int) -> None:
        if code >= 0:
            self._exit_code = code
            return
        cli.clear_block()
        self._say(f"the coordinator was killed ({_signal_name(code)}); starting it again")
        # Without a checkpoint it was killed before it had begun.
        self._start_coordinator("auto" if (self._run_dir / NEWEST).exists() else self._resume)

    def _stop_without_workers(self, code: int) -> None:
        if not self._missing and all(number == 0 for number in self._children):
            self._say("no worker is left; stopping")
            self._exit_code = code

    def _start_coordinator(self, resume: str | None) -> None:
        more = [] if resume is None else ["--resume", resume]
        # One that comes back must be where its workers look for it, also if it had chosen the port.
        bind = self._bound() or self._bind
        self._start(0, ["coordinator", *self._coordinator, "--bind", bind, *more], None)

    def _start_worker(self, number: int, address: str) -> None:
        log = self._run_dir / "logs" / f"worker-{number}.log"
        arguments = ["--connect", address, "--name", f"worker-{number}"]
        self._start(number, ["worker", *self._worker, *arguments], log)

    def _start(self, number: int, module: list[str], log: Path | None) -> None:
        starts = self._starts.setdefault(number, [])
        now = time.monotonic()
        starts[:] = [at for at in starts if now - at < RESTART_WINDOW] + [now]
        if len(starts) > RESTARTS:
            name = f"worker-{number}" if number else "the coordinator"
            raise UserError(f"{name} was killed {RESTARTS} times in {RESTART_WINDOW:.0f} s")
        with contextlib.ExitStack() as files, interrupts.held_back():
            output = None if log is None else files.enter_context(open(log, "ab"))
            process = subprocess.Popen(  # noqa: S603  # our own modules
                [sys.executable, "-m", *module, "--parent", str(os.getpid())],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        child = self._children[number] = Child(number, process)
        threading.Thread(target=self._watch, args=(child,), daemon=True).start()

    def _watch(self, child: Child) -> None:
        child.process.wait()
        self._ended.put(child)

    def _address(self) -> str | None:
        """Where workers connect to; None as long as that is not known.

        Nobody else can be at our private socket, so that workers may start before the coordinator.
        At an address of the user's somebody may: workers wait until the coordinator has it.
        """
        address = self._bind if self._private else self._bound()
        return address and reachable(address)

    def _bound(self) -> str | None:
        """The coordinator's address as it has written it down, if it has."""
        try:
            return (self._run_dir / "endpoint").read_text().strip()
        except OSError:
            return None

    def _last_words(self, number: int) -> str:
        log = self._run_dir / "logs" / f"worker-{number}.log"
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"see {log}"

    def _end_all(self) -> None:
        """Ask everybody to leave, the coordinator first, and then insist."""
        for child in list(self._children.values()):
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGINT)
        # Without a coordinator there is nothing to wait for but the workers' good manners.
        patience = LEAVE_SECONDS if 0 in self._children else LEAVE_SECONDS / 2
        deadline = time.monotonic() + patience
        for child in list(self._children.values()):
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()
                if child.number == 0:
                    cli.clear_block()

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
