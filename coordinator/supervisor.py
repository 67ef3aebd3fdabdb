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

from microgpt.cli import INTERRUPTED, UserError

LEAVE_SECONDS = 1.7  # for the children to end by themselves after Ctrl-C
RESTARTS = 5  # within this time more restarts of one child mean that it cannot live
RESTART_WINDOW = 10.0  # seconds
POLITE = (0, INTERRUPTED, 143)


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
    """One run on this machine. ``coordinator`` and ``worker`` are their command line flags."""

    def __init__(
        self,
        root: Path,
        run_dir: Path,
        *,
        coordinator: list[str],
        worker: list[str],
        workers: int,
        resume: str | None,
    ) -> None:
        self._run_dir, self._workers, self._resume = run_dir, workers, resume
        self._coordinator, self._worker = coordinator, worker
        path = os.environ.get("PYTHONPATH")
        self._env = dict(os.environ, PYTHONPATH=f"{root}{os.pathsep}{path}" if path else str(root))
        self._children: dict[int, Child] = {}
        self._ended: queue.SimpleQueue[Child | None] = queue.SimpleQueue()
        self._starts: dict[int, list[float]] = {}
        self._signal = 0  # the first SIGINT or SIGTERM
        self._exit_code: int | None = None

    def run(self) -> int:
        """Until the run is over. Returns the exit code; no child is left. Raises UserError."""
        for caught in (signal.SIGINT, signal.SIGTERM):
            signal.signal(caught, self._on_signal)
        (self._run_dir / "endpoint").unlink(missing_ok=True)
        try:
            self._start_coordinator(self._resume)
            for number in range(1, self._workers + 1):
                self._start_worker(number)
            while self._exit_code is None:
                child = self._ended.get()
                if self._signal:
                    self._exit_code = 128 + self._signal
                elif child is not None:
                    self._on_end(child)
            return self._exit_code
        finally:
            self._end_all()

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
            self._start_worker(child.number)

    def _on_coordinator_end(self, code: int) -> None:
        if code >= 0:
            self._exit_code = code
            return
        self._say(f"the coordinator was killed ({_signal_name(code)}); starting it again")
        self._start_coordinator("auto")

    def _stop_without_workers(self, code: int) -> None:
        if all(number == 0 for number in self._children):
            self._say("no worker is left; stopping")
            self._exit_code = code

    def _start_coordinator(self, resume: str | None) -> None:
        more = [] if resume is None else ["--resume", resume]
        self._start(0, ["coordinator", *self._coordinator, *more], None)

    def _start_worker(self, number: int) -> None:
        endpoint = self._endpoint()
        log = self._run_dir / "logs" / f"worker-{number}.log"
        arguments = ["--connect", endpoint, "--name", f"worker-{number}", "--parent"]
        self._start(number, ["worker", *self._worker, *arguments, str(os.getpid())], log)

    def _start(self, number: int, module: list[str], log: Path | None) -> None:
        starts = self._starts.setdefault(number, [])
        now = time.monotonic()
        starts[:] = [at for at in starts if now - at < RESTART_WINDOW] + [now]
        if len(starts) > RESTARTS:
            name = f"worker-{number}" if number else "the coordinator"
            raise UserError(f"{name} was killed {RESTARTS} times in {RESTART_WINDOW:.0f} s")
        with contextlib.ExitStack() as files:
            output = None if log is None else files.enter_context(open(log, "ab"))
            process = subprocess.Popen(  # noqa: S603  # our own modules
                [sys.executable, "-m", *module],
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

    def _endpoint(self) -> str:
        """Where workers connect to: as bound, or as the coordinator wrote it for a chosen port."""
        bind = self._coordinator[self._coordinator.index("--bind") + 1]
        if not bind.endswith((":*", ":0")):
            return reachable(bind)
        path = self._run_dir / "endpoint"
        coordinator = self._children[0].process
        while not path.exists() and coordinator.poll() is None and not self._signal:
            time.sleep(0.02)
        return reachable(path.read_text().strip()) if path.exists() else bind

    def _last_words(self, number: int) -> str:
        log = self._run_dir / "logs" / f"worker-{number}.log"
        lines = log.read_text(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else f"see {log}"

    def _end_all(self) -> None:
        """Ask everybody to leave, the coordinator first, and then insist."""
        for child in list(self._children.values()):
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + LEAVE_SECONDS
        for child in list(self._children.values()):
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.process.kill()
                child.process.wait()

    def _say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def reachable(bind: str) -> str:
    """The address at which this machine's workers find a coordinator bound to every interface."""
    return bind.replace("//*:", "//127.0.0.1:").replace("//0.0.0.0:", "//127.0.0.1:")


def _signal_name(code: int) -> str:
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
