"""What a launcher is: it starts the workers of a run, on this machine or on an engine of others.

The coordinator is started by the supervisor; a worker needs its address and a key, no more. Each
worker is started again alone when it dies. What is here must import nothing of an engine.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microgpt.protocol.keys import COORDINATOR, PUBLIC, SECRET, WORKER, make_folder, place
from microgpt.support.cli import UserError

if TYPE_CHECKING:
    from coordinator.run.directory_owner import OwnedRunDir
    from lab.launch.children import AtWork, Child, NewsQueue
    from lab.launch.control import Control
    from lab.launch.surroundings import Surroundings

#: A worker on another machine ends after so many seconds without a coordinator, whatever becomes
#: of its launcher.
PATIENCE_SECONDS = 60.0


class WorkerStatus(StrEnum):
    """What becomes of a worker, as its launcher sees it."""

    WAITING = "waiting"  # for room on the engine, or for the pause before it is started again
    RUNNING = "running"
    ENDED = "ended"  # and will not be started again


@dataclass(frozen=True)
class WorkerHandle:
    """One worker. ``where``: the machine or node, "" while there is none.

    ``restarts``: how often it was started again. ``reason``: why it waits or has ended, or "".
    """

    name: str
    where: str
    status: WorkerStatus
    restarts: int = 0
    reason: str = ""


@dataclass(frozen=True)
class WorkerKeys:
    """The contents of the three files with which a worker is let in; never the coordinator's own.

    ``coordinator`` and ``public`` are public keys, ``secret`` is the worker's private key.
    """

    coordinator: bytes
    public: bytes
    secret: bytes = field(repr=False)

    NAMES = (COORDINATOR + PUBLIC, WORKER + PUBLIC, WORKER + SECRET)

    @classmethod
    def read(cls, folder: Path) -> WorkerKeys:
        """Those in a folder of keys (``--curve``). Raises UserError."""
        try:
            return cls(*((folder / name).read_bytes() for name in cls.NAMES))
        except OSError as error:
            raise UserError(f"cannot read the key {error.filename}: {error.strerror}") from error

    def write(self, folder: Path) -> None:
        """Put the files into a folder, which is made for its owner alone. Raises OSError."""
        make_folder(folder)
        contents = self.coordinator, self.public, self.secret
        for name, content in zip(self.NAMES, contents, strict=True):
            new = folder / f".{name}.new"
            with contextlib.suppress(FileNotFoundError):
                new.unlink()
            new.touch(mode=0o600)
            new.write_bytes(content)
            place(new, folder / name, 0o600 if name.endswith(SECRET) else 0o644)


@dataclass(frozen=True)
class WorkerRequest:
    """The workers that a run wants.

    ``launch``: 16 hexadecimal digits that no other launch has, also not of the same run; ``run``:
    the path of the run directory. ``flags``: of every worker, but for its address, name and keys.
    ``cpus``: processors for each worker.
    """

    launch: str
    run: Path
    address: str
    count: int
    flags: tuple[str, ...] = ()
    keys: WorkerKeys | None = None
    cpus: int = 1

    def at(self, address: str, keys: WorkerKeys | None) -> WorkerRequest:
        """The same, now that the coordinator is there."""
        return replace(self, address=address, keys=keys)

    @property
    def names(self) -> tuple[str, ...]:
        """What the workers are called."""
        return tuple(worker_name(number) for number in range(1, self.count + 1))

    def worker_flags(self, name: str, keys: Path | None) -> list[str]:
        """The command line of ``python -m worker`` for one of them; ``keys``: where they lie."""
        curve = ["--curve", str(keys)] if keys is not None else []
        return ["--connect", self.address, "--name", name, *curve, *self.flags]


def worker_name(number: int) -> str:
    """That of the worker with this number, from 1 on."""
    return f"worker-{number}"


@dataclass(frozen=True)
class Plan:
    """What would be started: lines for people, without their ends."""

    lines: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.lines)


def command_line(words: list[str]) -> str:
    """Words of a command as one types them."""
    return shlex.join(words)


def as_json(handles: tuple[WorkerHandle, ...]) -> str:
    """The workers as one line."""
    return json.dumps([asdict(handle) for handle in handles])


def from_json(text: str) -> tuple[WorkerHandle, ...]:
    """What ``as_json`` has written."""
    return tuple(map(from_plain, json.loads(text)))


def from_plain(plain: Mapping[str, Any]) -> WorkerHandle:
    """The worker of which ``asdict`` has made a map for JSON."""
    return WorkerHandle(**{**plain, "status": WorkerStatus(plain["status"])})


def python(module: str, *flags: str) -> list[str]:
    """The command for one of our programs, as people type it."""
    return ["python", "-m", module, *flags]


class LaunchedWorkers(ABC):
    """The workers of a run that is under way: what any process of the user may ask and do."""

    @abstractmethod
    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """All of them, also those that wait; by their number. Raises UserError."""

    @abstractmethod
    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """The lines that one of them has printed, without their ends, the oldest first.

        ``follow``: also those to come, until it has ended. Raises UserError.
        """

    @abstractmethod
    def scale(self, count: int) -> str:
        """Have so many from now on; the last ones are sent home first.

        Returns what people are told. Raises UserError; nothing is changed then.
        """

    @abstractmethod
    def stop(self) -> None:
        """End them all and leave nothing behind. Doing it again does nothing. Raises UserError."""


@dataclass(frozen=True)
class Place:
    """What the supervisor shares with its launcher.

    ``directory``: of the run, locked; logs of workers belong into its folder ``logs``, as
    ``NAME.log``. ``surroundings``: what local workers meet. ``news``: what becomes of processes
    that ``children.start`` has started goes there, and comes back by ``Launcher.hear``.
    ``restart_coordinator``: kills it and starts it again at that time of the monotonic clock.
    """

    directory: OwnedRunDir
    surroundings: Surroundings
    news: NewsQueue
    restart_coordinator: Callable[[float], None]


class Launcher(LaunchedWorkers):
    """Starts workers, in the process of the supervisor, which calls it from one thread."""

    #: Whether workers reach the coordinator over a network: it gets keys and an address for that.
    remote = True
    #: What a page may do to the workers, where it can.
    control: Control | None = None

    @abstractmethod
    def plan(self, request: WorkerRequest) -> Plan:
        """What ``start`` would do. Touches nothing; the address may be a word in its place."""

    def check(self) -> None:
        """Raise UserError, which says what to do, where the engine is missing on this machine."""

    @abstractmethod
    def start(self, request: WorkerRequest, place: Place) -> None:
        """Start the workers; called once. Raises UserError.

        It need not wait until they are there: who waits for room is told of by ``list_workers``.
        """

    def known_as(self) -> Mapping[str, str]:
        """What another process needs to find these workers: see ``launch_record.py``."""
        return {}

    def tend(self, now: float) -> float | None:
        """Do what is due. Called now and then; returns the time of the monotonic clock when next.

        None: nothing is to be done until something happens.
        """
        return None

    def hear(self, news: AtWork | Child) -> None:
        """A child process of ours is at work, or has ended."""

    def restart_all(self, at: float) -> None:
        """Kill all workers and start them again at that time: the coordinator has failed."""

    def exhausted(self) -> int | None:
        """The exit code of the run if no worker is left and none will come; else None."""
        return None

    def stop_without_workers(self, code: int) -> None:
        """Nobody can add workers any more: ``exhausted`` with this code if none is left."""

    def ask_to_leave(self) -> None:
        """The run ends: workers may go. ``stop`` follows when the coordinator has ended."""


@dataclass(frozen=True)
class BatchRequest:
    """A whole run for an engine that takes jobs.

    ``run``: its directory; ``folder``: where commands start; every machine sees both. ``train``:
    the command that trains, called within the job, with all flags but ``--resume``, which is
    ``resume`` the first time and ``auto`` when the job is started again.
    """

    run: Path
    folder: Path
    workers: int
    cpus: int
    train: tuple[str, ...]
    resume: str | None


class BatchLauncher(ABC):
    """Hands a whole run over, coordinator and workers: nothing of it runs in this process."""

    @abstractmethod
    def plan(self, request: BatchRequest) -> Plan:
        """What ``submit`` would hand over. Touches nothing. Raises UserError."""

    @abstractmethod
    def submit(self, request: BatchRequest, directory: OwnedRunDir) -> Mapping[str, str]:
        """Hand it over, but not to begin yet: the directory is locked. Raises UserError.

        Returns what another process needs to find it, as ``Launcher.known_as`` does.
        """

    @abstractmethod
    def begin(self, known_as: Mapping[str, str]) -> str:
        """Let it begin. Returns what people call it. Raises UserError."""
