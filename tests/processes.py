"""Real coordinators, workers and scripts for tests: started in a lab, and gone when it closes.

A lab is one directory. Its processes know no other place: data, caches, run directories and
output all lie in it. Every process leads its own session, so that what it has started can be
ended by its number, too. Waiting is always for a condition, with a deadline.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from coordinator.core.event_json import kind_of
from coordinator.core.events import EventBase, Recorded
from lab.event_reader import read_events

ROOT = Path(__file__).resolve().parent.parent
#: A model of which the scalar engine computes a document in a millisecond, and its flags.
TINY_MODEL = {"n_embd": 2, "n_head": 2, "block_size": 2}
TINY = ("--n-embd", "2", "--n-head", "2", "--block-size", "2")
#: A model with room for four letters, and its flags.
LETTERS_MODEL = {"n_embd": 4, "n_head": 2, "block_size": 4}
LETTERS = ("--n-embd", "4", "--n-head", "2", "--block-size", "4")
#: The tiny model as environment variables.
TINY_VARIABLES = {f"MICROGPT_{name.upper()}": str(size) for name, size in TINY_MODEL.items()}
#: So many steps that slow workers (``Lab.slow_down``) do not come to their end while a test lasts,
#: and so few that a coordinator of that model needs no compiled code.
ENDLESS = ("--steps", "1900")
NAMES = (
    "anna", "bo", "carla", "dora", "emil", "frida", "gil", "hanna", "ida", "jo", "karl", "lea",
    "mona", "nils", "ole", "pia", "rosa", "sam", "tina", "ulf", "vera", "willi", "yara", "zoe",
)  # fmt: skip
#: The one variable of ours that labs share: what is compiled serves all of them.
KEPT = ("MICROGPT_COMPILED_DIR",)
#: Variables that decide how a terminal is treated.
LOOKS = ("FORCE_COLOR", "NO_COLOR", "TTY_", "PYTHONIOENCODING")
PATIENCE = 120.0  # seconds; only a broken program needs them

LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1

T = TypeVar("T")
E = TypeVar("E", bound=EventBase)


def eventually(condition: Callable[[], T], what: str, timeout: float = PATIENCE) -> T:
    """The first true value of ``condition``; AssertionError if none comes in time."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:.0f} s: {what}")
        time.sleep(0.01)


def crowded() -> float:
    """By how much longer than on an idle machine something may take now; 1.0 on an idle one.

    Limits that are promised to people are checked with it: a machine with ten processes for each
    processor keeps none of them.
    """
    return max(1.0, 2.0 * os.getloadavg()[0] / (os.cpu_count() or 1))


class Process:
    """A child in a session of its own, whose output goes to files."""

    def __init__(
        self,
        name: str,
        command: Iterable[str],
        place: Path,
        env: Mapping[str, str],
        stdout: int | None = None,
    ) -> None:
        self.name, self.place = name, place
        self._out, self._err = place / f"{name}.out", place / f"{name}.err"
        with open(self._out, "wb") as out, open(self._err, "wb") as err:
            self.popen = subprocess.Popen(
                [*command],
                cwd=place,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out if stdout is None else stdout,
                stderr=err,
                start_new_session=True,
                preexec_fn=die_with_us,
            )
        self.pid = self.popen.pid
        self.expected = False  # whether its end, as the test has asked for, is no failure

    @property
    def out(self) -> str:
        """What it has written to stdout so far."""
        return self._out.read_text(errors="backslashreplace")

    @property
    def err(self) -> str:
        """What it has written to stderr so far."""
        return self._err.read_text(errors="backslashreplace")

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit code; AssertionError if it goes on for longer."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"{self.name} goes on after {timeout} s\n{self.out}\n{self.err}"
            ) from None

    def says(self, text: str, timeout: float = PATIENCE) -> None:
        """Wait until it has written the text to stdout or stderr."""

        def said() -> bool:
            ended = self.popen.poll() is not None
            if text in self.out + self.err:
                return True
            assert not ended, f"{self.name} ended without {text!r}:\n{self.out}\n{self.err}"
            return False

        eventually(said, f"{self.name} says {text!r}", timeout)

    def listens_at(self) -> str:
        """The address that it says it listens at, once it does."""
        self.says("listening on ")
        return self.out.partition("listening on ")[2].partition("\n")[0]

    def send(self, number: signal.Signals) -> None:
        """Signal this process alone."""
        self.expected = True
        os.kill(self.pid, number)

    def send_group(self, number: signal.Signals) -> None:
        """Signal it and what it has started, as a terminal does."""
        self.expected = True
        os.killpg(self.pid, number)

    def end(self) -> None:
        """Kill it with all that it has started, and wait until they are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.popen.wait()
        eventually(lambda: not session_members(self.pid), f"the session of {self.name} ends")


def die_with_us() -> None:
    """In a child: be killed when the test run is, however that ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def session_members(session: int) -> list[int]:
    """Living processes of a session, zombies left out."""
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                # pid (name) state ppid pgrp session ...; the name may hold anything
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    members.append(int(entry.name))
    return members


class Lab:
    """A directory in which processes run; see ``start``."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.data = place / "names.txt"
        self.data.write_text("\n".join(NAMES) + "\n")
        own = {k: v for k, v in os.environ.items() if not k.startswith(("MICROGPT_", *LOOKS))}
        self.env = {
            **own,
            **{key: os.environ[key] for key in KEPT if key in os.environ},
            "MICROGPT_CACHE_DIR": str(place / "cache"),
            "PYTHONPATH": str(ROOT),
            "TERM": "xterm-256color",
            "COLUMNS": "100",
        }
        self.processes: list[Process] = []
        self.pipe: int | None = None  # instead of a file, the stdout of what is started next

    def slow_down(self, seconds: float) -> None:
        """Let workers that start from now on sleep for so many seconds for each document, too.

        Their run lasts as long on a fast machine as on a slow one, and leaves the processors to
        others: for tests in which something happens in the middle of a run.
        """
        self.env["PYTHONPATH"] = f"{ROOT / 'tests' / 'slow'}{os.pathsep}{ROOT}"
        self.env["SECONDS_PER_DOCUMENT"] = str(seconds)

    def start(self, *command: str, name: str = "process", **variables: str) -> Process:
        """Start a command here, with more environment variables."""
        number = len(self.processes)
        env = {**self.env, **variables}
        process = Process(f"{number}-{name}", command, self.place, env, self.pipe)
        self.processes.append(process)
        return process

    def train(self, *flags: str, run: str = "runs/it", **variables: str) -> Process:
        """``scripts/train.py`` of a tiny run, into ``run`` unless that is empty."""
        more = ["--run-dir", run] if run else []
        return self._python("train", str(ROOT / "scripts/train.py"), *more, *flags, **variables)

    def coordinator(self, *flags: str, run: str = "runs/it", **variables: str) -> Process:
        """A coordinator on a free port (unless ``--bind`` is given), writing into ``run``."""
        bind = [] if "--bind" in flags else ["--bind", "tcp://127.0.0.1:*"]
        where = ["--run-dir", run] if run else []
        return self._python("coordinator", "-m", "coordinator", *bind, *where, *flags, **variables)

    def worker(self, address: str, *flags: str, **variables: str) -> Process:
        """A worker with the scalar engine, unless the flags say otherwise."""
        engine = [] if "--engine" in flags else ["--engine", "scalar"]
        return self._python(
            "worker", "-m", "worker", "--connect", address, *engine, *flags, **variables
        )

    def aggregator(self, address: str, *flags: str, **variables: str) -> Process:
        """An aggregator on a free port, unless the flags say otherwise; see ``listens_at``."""
        bind = [] if "--bind" in flags else ["--bind", "tcp://127.0.0.1:0"]
        where = ("-m", "aggregator", "--connect", address, *bind)
        return self._python("aggregator", *where, *flags, **variables)

    def script(self, script: str, *arguments: str, **variables: str) -> Process:
        """``scripts/<script>.py``."""
        return self._python(script, str(ROOT / f"scripts/{script}.py"), *arguments, **variables)

    def _python(self, name: str, *arguments: str, **variables: str) -> Process:
        return self.start(sys.executable, *arguments, name=name, **variables)

    def run_dir(self, run: str = "runs/it") -> RunDir:
        """What a run has written."""
        return RunDir(self.place / run, self.processes)

    def close(self) -> None:
        """End whatever still runs."""
        for process in self.processes:
            process.end()


class RunDir:
    """The files of a run directory, as they are now."""

    def __init__(self, path: Path, processes: Sequence[Process] = ()) -> None:
        self.path, self._processes = path, processes

    def _await(self, condition: Callable[[], T], what: str) -> T:
        """Wait for something in the directory, but not for processes that have failed."""

        def look() -> T:
            value = condition()
            for process in () if value else self._processes:
                code = process.popen.poll()
                assert code in (None, 0) or process.expected, (
                    f"waiting for {what}, but {process.name} ended with {code}:\n{process.err}"
                )
            return value

        return eventually(look, what)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The whole lines of a file with one JSON object a line."""
        path = self.path / name
        if not path.exists():
            return []
        # The last line may be half written while we look.
        whole = path.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One record per step."""
        return self.lines("metrics.jsonl")

    @property
    def recorded(self) -> list[Recorded]:
        """What happened, and when."""
        return read_events(self.path)

    def events(self, event_type: type[E]) -> list[E]:
        """What happened of one kind."""
        told = (recorded.event for recorded in self.recorded)
        return [event for event in told if isinstance(event, event_type)]

    def kinds(self) -> list[str]:
        """What kinds of things happened."""
        return [kind_of(recorded.event) for recorded in self.recorded]

    def endpoint(self) -> str:
        """The address of its coordinator, as soon as there is one."""
        path = self.path / "endpoint"
        return self._await(lambda: path.read_text().strip() if path.exists() else "", f"{path}")

    def reaches(self, step: int) -> None:
        """Wait until a step is done."""
        self._await(lambda: len(self.metrics) >= step, f"step {step} of {self.path}")

    def happens(self, kind: str, times: int = 1) -> None:
        """Wait until something has happened so often."""
        self._await(lambda: self.kinds().count(kind) >= times, f"{times} x {kind} in {self.path}")

    @property
    def newest(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoint.msgpack"
