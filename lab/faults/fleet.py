"""A run whose processes stand alone: one coordinator, workers, and who ends is started again.

Between each worker and the coordinator stands a proxy of ours; where the machine allows it, all of
that lives in a network namespace, and the last worker in another one, at the end of a link.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from coordinator.core.events import Closing, Finished, Outcome, Started
from lab.event_reader import read_events
from lab.faults.machine import INSIDE, Network
from lab.faults.proxy import Observer, Proxy
from microgpt.support import signals
from microgpt.support.isolation import isolated

LEAVE_SECONDS = 5.0
RESTARTS, WINDOW = 20, 10.0  # more restarts of one process in so many seconds: it cannot live
#: How processes may end: well, by our signals, or told to stop.
EXPECTED = {0, 143, -signal.SIGKILL}


class FleetError(Exception):
    """Something happened that no fault of ours explains; the message is one line."""


@dataclass(frozen=True)
class Plan:
    """What is trained, by whom. ``coordinator`` and ``worker`` are further flags.

    With ``aggregators``, each worker is below one of them.
    """

    run_dir: Path
    workers: int
    coordinator: tuple[str, ...] = ()
    worker: tuple[str, ...] = ()
    aggregators: int = 0


@dataclass
class Member:
    """A process that is started again when it ends."""

    name: str
    command: list[str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    starts: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start it. Raises FleetError if it ends again and again.

        A signal that comes while Python itself still starts waits until the program answers it, so
        that it ends as programs do that are told to: Python alone would die of it.
        """
        now = time.monotonic()
        if sum(now - start < WINDOW for start in self.starts) >= RESTARTS:
            raise FleetError(f"{self.name} cannot live: {self.last_line()}")
        self.starts.append(now)
        with open(self.log, "ab") as log, signals.held_back():
            self.process = subprocess.Popen(  # noqa: S603  # our own modules
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def ended(self) -> int | None:
        """How it has ended since the last look, if it has."""
        code = None if self.process is None else self.process.poll()
        if code is not None:
            self.process = None
        return code

    @property
    def alive(self) -> subprocess.Popen[bytes] | None:
        """The process, unless it has ended."""
        gone = self.process is None or self.process.poll() is not None
        return None if gone else self.process

    def last_line(self) -> str:
        """The last thing that it said."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it says nothing"

    def kill(self) -> None:
        """End it for good."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


class Fleet:
    """The processes of a plan, their proxies, and the link in ``network`` if there is one.

    ``observers(number)`` listens at the proxy of worker ``number`` (from 0); ``direct``: without
    proxies.
    """

    def __init__(
        self,
        plan: Plan,
        network: Network | None = None,
        observers: Callable[[int], Observer] | None = None,
        *,
        direct: bool = False,
    ) -> None:
        self.plan, self.network = plan, network
        self.logs = plan.run_dir / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        host = "127.0.0.1" if network is None else INSIDE
        self._inside = [] if network is None else network.enter(network.inside)
        self._loopback = [] if network is None else ["--insecure"]  # nobody else is in there
        ports = [5555 + n if network else free_port() for n in range(1 + plan.aggregators)]
        self.target = host, ports[0]
        self.coordinator = self._member(
            "coordinator", self._inside, "--bind", address_of(self.target), *self._loopback,
            "--run-dir", str(plan.run_dir), "--resume", "auto", *plan.coordinator,
        )  # fmt: skip
        behind_proxies = plan.workers if network is None else plan.workers - 1
        if direct:
            behind_proxies = 0
        above = [(host, port) for port in ports[1:]] or [self.target]
        behind = [above[number % len(above)] for number in range(plan.workers)]
        # After those of workers come those of aggregators.
        proxied = [*behind[:behind_proxies], *([self.target] * plan.aggregators)]
        self.proxies = [
            Proxy(
                target,
                namespace=None if network is None else network.path(network.inside),
                observer=None if observers is None else observers(number),
            )
            for number, target in enumerate(proxied)
        ]
        self.workers = []
        for number in range(plan.workers):
            there, whence = address_of(behind[number]), self._inside
            if number < behind_proxies:
                there = self.proxies[number].address
            elif network is not None:
                whence = network.enter(network.outside)
            self.workers.append(self._worker(f"worker-{number + 1}", whence, there))
        self.aggregators = [
            self._aggregator(number, target, self.proxies[behind_proxies + number].address)
            for number, target in enumerate(above[: plan.aggregators])
        ]

    def _member(self, name: str, whence: list[str], *flags: str) -> Member:
        program = name.partition("-")[0]
        command = [*whence, *isolated(program), *flags, "--parent", str(os.getpid())]
        return Member(name, command, self.logs / f"{name}.log")

    def _worker(self, name: str, whence: list[str], address: str) -> Member:
        flags = ("--connect", address, "--name", name, *self.plan.worker)
        return self._member(name, whence, *flags)

    def _aggregator(self, number: int, target: tuple[str, int], address: str) -> Member:
        name = f"aggregator-{number + 1}"
        where = ("--connect", address, "--bind", address_of(target), *self._loopback)
        return self._member(name, self._inside, *where, "--name", name)

    @property
    def members(self) -> list[Member]:
        """Every process."""
        return [self.coordinator, *self.below]

    @property
    def below(self) -> list[Member]:
        """Workers, then aggregators."""
        return [*self.workers, *self.aggregators]

    def start(self) -> None:
        """Start everybody."""
        for member in self.members:
            member.start()

    def look_after(self) -> bool:
        """Start again who has ended. Returns whether the run is over. Raises FleetError."""
        for member in self.members:
            if member.process is None and self.coordinator.starts[-1] > member.starts[-1]:
                member.start()  # was sent home by a coordinator that has come back
            code = member.ended()
            if code is None:
                continue
            if code == 0:
                if member is self.coordinator:
                    return True
                continue
            if code not in EXPECTED and not self._is_failed_save(member, code):
                raise FleetError(f"{member.name} ended with {code}: {member.last_line()}")
            member.start()
        return False

    def _is_failed_save(self, member: Member, code: int) -> bool:
        """Whether the coordinator ended because a disk took its last checkpoint amiss."""
        if member is not self.coordinator or code != 1:
            return False
        ends = [
            recorded.event
            for recorded in read_events(self.plan.run_dir)
            if isinstance(recorded.event, Started | Closing | Finished)
        ]
        return (
            len(ends) > 1
            and isinstance(ends[-2], Closing)
            and ends[-2].outcome is not Outcome.FAILED
            and isinstance(ends[-1], Finished)
            and ends[-1].outcome is Outcome.FAILED
        )

    def finish(self) -> None:
        """Let the workers of a complete run leave. Raises FleetError if one does not end well."""
        deadline = time.monotonic() + LEAVE_SECONDS
        for worker in self.workers:
            if worker.process is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, deadline - time.monotonic()))

    def close(self) -> None:
        """End every process and proxy."""
        for member in self.members:
            member.kill()
        for proxy in self.proxies:
            proxy.close()


def address_of(target: tuple[str, int]) -> str:
    """The address of a host and a port."""
    host, port = target
    return f"tcp://{host}:{port}"


def free_port() -> int:
    """A port of loopback that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
