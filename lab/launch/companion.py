"""Processes beside a run that only read what it writes: its page, what exports its numbers.

They begin when the run directory is there, and end with the run. Nothing that becomes of them
touches the run: they have a lower priority, no part in its signals, and whoever dies is told of in
one line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType, TracebackType
from typing import BinaryIO

from coordinator.run.directory_owner import OwnedRunDir
from microgpt.support import cli, signals
from microgpt.support.isolation import isolated

END_SECONDS = 2.0  # for one to end by itself, once it is asked to


class Companion:
    """A process that runs ``module`` with ``flags``. Use it in a ``with`` statement.

    It is called ``name``, which is also that of its file in ``logs``. ``told`` gets the line that
    it announces itself with, if it does. ``seconds``: for it to end, once the run is over.
    ``passed``: descriptors that it gets; ``variables``: of its environment, beside ours.
    """

    def __init__(
        self,
        name: str,
        module: str,
        flags: list[str],
        directory: OwnedRunDir,
        told: Callable[[str], None] = lambda line: None,
        seconds: float = END_SECONDS,
        passed: Iterable[int] = (),
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._passed, self._variables = passed, variables
        self.name, self._seconds = name, seconds
        self._module, self._flags, self._told = module, flags, told
        self._directory = directory
        self._log = directory.path / "logs" / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = False
        self._begun = threading.Event()
        self._watcher: threading.Thread | None = None

    def __enter__(self) -> Companion:
        reading, writing = os.pipe()
        ours = ["--parent", str(os.getpid()), "--announce", str(writing)]
        try:
            with self._open_log() as log, signals.held_back():
                self._process = subprocess.Popen(  # noqa: S603  # our own modules
                    isolated(self._module, *self._flags, *ours),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(writing, *self._passed),
                    env={**os.environ, **self._variables},
                    process_group=0,  # Ctrl-C is for the run, whose end it shall see
                )
        except OSError as error:
            os.close(reading)
            self._say(f"warning: there is no {self.name}: {error}")
            return self
        finally:
            os.close(writing)
        arguments = self._process, reading
        self._watcher = threading.Thread(target=self._watch, args=arguments, daemon=True)
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Ask it to end; who does not is killed."""
        self._ends = True
        if self._process is None or self._watcher is None:
            return
        if not self._watcher.is_alive():
            return  # it has been told of
        if self._seconds > END_SECONDS:  # who has something to do at the end must be there for it
            self._begun.wait(self._seconds)
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        self._watcher.join(END_SECONDS)
        if self._watcher.is_alive() and self._seconds > END_SECONDS:
            self._say(f"waiting for the {self.name} to end")
            self._watcher.join(self._seconds - END_SECONDS)
        if self._watcher.is_alive():
            self._process.kill()
            self._watcher.join()
            self._say(f"warning: the {self.name} did not end in time, and was killed")
        elif self._process.returncode not in (0, -signal.SIGTERM, 128 + signal.SIGTERM):
            self._say(f"warning: the {self.name} has failed: {self._last_words()}")

    def _watch(self, process: subprocess.Popen[bytes], reading: int) -> None:
        with open(reading, "rb") as pipe:
            line = pipe.readline()
        self._begun.set()
        if line.endswith(b"\n"):
            self._told(line[:-1].decode(errors="replace"))
        process.wait()
        if not self._ends:
            self._say(f"warning: the {self.name} has ended: {self._last_words()}; the run goes on")

    def _open_log(self) -> BinaryIO:
        for made in (self._log.parent, self._log):
            self._directory.will_make(made)
        self._log.parent.mkdir(parents=True, exist_ok=True)
        return open(self._log, "wb")

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self._log.read_text(errors="replace").strip().splitlines()
            if lines:
                return cli.printable(lines[-1].removeprefix("error: "))[:300]
        code = self._process.returncode if self._process else None
        return f"exit code {code}"

    def _say(self, text: str) -> None:
        cli.say(text, error=True)
