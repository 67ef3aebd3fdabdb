"""``--launcher ray``: each worker in an actor, on a Ray cluster that is there already.

Imports nothing of Ray: that is what its driver is for (``ray_driver.py``), a process here which
this launcher looks after. Actors are called ``RUN/LAUNCH-EPOCH/worker-N`` in Ray's namespace
``microgpt``: RUN stands for the run directory, and the epoch counts the drivers of a launch. A new
driver ends the actors that an earlier one of the run may have left.
"""

from __future__ import annotations

import hashlib
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lab.launch import children
from lab.launch.children import AtWork, Child
from lab.launch.launchers.base import (
    Launcher,
    Place,
    Plan,
    WorkerHandle,
    WorkerRequest,
    command_line,
    from_plain,
    python,
)
from lab.launch.launchers.ray_pool import not_yet
from lab.launch.launchers.ray_wire import Order, Wire, remove_folder
from lab.launch.logs import WorkerLogs, lines_of
from lab.launch.requests import MOST_WORKERS
from lab.launch.restarts import Restarts
from microgpt.support import cli
from microgpt.support.cli import UserError
from microgpt.support.invocation import in_clone
from microgpt.support.isolation import isolated

AUTO, LOCAL = "auto", "local"
DRIVER = "lab.launch.launchers.ray_driver"
LOG = "ray-driver"  # in the folder of logs
#: Where something else listens than Ray; on a busy machine a cluster of our own takes a minute.
CONNECT_SECONDS = 120.0
#: A driver ends what it has started, and itself, within this time, or is killed: Ray ends the rest.
STOP_SECONDS = 8.0


class RayLauncher(Launcher):
    """``address``: of the cluster. ``resources``: what of Ray's own is kept for each worker."""

    def __init__(self, address: str, resources: Mapping[str, float]) -> None:
        self._address, self._resources = address, dict(resources)
        self._request: WorkerRequest | None = None
        self._place: Place | None = None
        self._logs: WorkerLogs | None = None
        self._driver: Child | None = None
        self._wire: Wire | None = None
        self._folder = ""
        self._restarts = Restarts()
        self._drivers = 0
        self._due: float | None = None  # when a driver is to be started
        self._connected_by: float | None = None  # when it must have found the cluster
        self._found = ""  # the address of the cluster, once it has been found
        self._wanted = 0
        self._handles: tuple[WorkerHandle, ...] = ()
        self._exhausted: int | None = None
        self._leaves = False  # the run ends: what is told of that is no news
        self._why = ""  # a driver cannot go on
        self._failed = ""  # nor can we

    def plan(self, request: WorkerRequest) -> Plan:
        """An actor for each worker."""
        each = ", ".join(
            [f"{request.cpus} CPU", *(f"{n} {name}" for name, n in sorted(self._resources.items()))]
        )
        return Plan(
            (
                f"Ray cluster: {self._address}; this project's code goes along",
                *(
                    f"{name}: an actor with {each}, which Ray starts again: "
                    f"{command_line(python('worker', *request.worker_flags(name, None)))}"
                    for name in request.names
                ),
            )
        )

    def check(self) -> None:
        """Whether Ray is installed. Raises UserError."""
        require_ray()

    def start(self, request: WorkerRequest, place: Place) -> None:
        """Start a driver, which starts the workers. Raises UserError."""
        self._request, self._place = request, place
        self._logs, self._wanted = WorkerLogs(place.directory), request.count
        self._handles = not_yet(request.count)
        if self._address == LOCAL:
            self._folder = tempfile.mkdtemp(prefix="microgpt-ray-")
        self._start_driver()

    def known_as(self) -> Mapping[str, str]:
        """The address that the user has given."""
        return {"address": self._address}

    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """As the driver has told last."""
        return self._handles

    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """From the file in the run directory into which the driver's news go."""
        if self._place is None:
            raise UserError("the workers have not been started yet")
        return lines_of(self._place.directory.path, name, lambda: follow and self._wire is not None)

    def scale(self, count: int) -> str:
        """The driver does it. Raises UserError."""
        before, self._wanted = self._wanted, count
        more = count - before
        if len(self._handles) + more > MOST_WORKERS:
            self._wanted = before
            raise UserError(f"a run has at most {MOST_WORKERS:,} workers, those that left too")
        if self._wire is not None:
            self._wire.tell(scale=count)
        return f"{count} workers, after {before}"

    def ask_to_leave(self) -> None:
        """Each worker as Ctrl-C would."""
        self._due, self._leaves = None, True
        if self._wire is not None:
            self._wire.tell(leave=True)

    def stop(self) -> None:
        """Hang up, and wait until the driver has ended: Ray takes that as the end of its actors."""
        driver, self._driver, self._due = self._driver, None, None
        if self._wire is not None:
            self._wire.hang_up()
        if driver is not None:
            children.wait([driver], time.monotonic() + STOP_SECONDS)
            children.kill([driver])
        self._close_wire()
        remove_folder(self._folder)

    def tend(self, now: float) -> float | None:
        """Take in what the driver tells; see that it is there. Raises UserError if it cannot be."""
        self._take_news()
        if self._failed:
            raise UserError(self._failed)
        if self._connected_by is not None and now >= self._connected_by:
            raise UserError(
                f"no Ray cluster has answered at {self._address} within {CONNECT_SECONDS:g} s: "
                f"{self._last_words()}"
            )
        if self._due is not None and now >= self._due:
            self._start_driver()
        return min((at for at in (self._due, self._connected_by) if at is not None), default=None)

    def hear(self, news: AtWork | Child) -> None:
        """The driver has found the cluster, or has ended though it should not."""
        if isinstance(news, AtWork) and news.child is self._driver:
            self._connected_by, self._found = None, news.text
            self._restarts.works(time.monotonic())
        elif news is self._driver:
            self._on_end(news.process.returncode)

    def restart_all(self, at: float) -> None:
        """At that time actors end with their workers, and Ray starts them again."""
        if self._wire is not None:
            self._wire.tell(restart=max(0.0, at - time.monotonic()))

    def exhausted(self) -> int | None:
        """As the driver tells; why has been said."""
        if self._exhausted is not None:
            cli.say("no worker is left; stopping", error=True)
        return self._exhausted

    # --- the driver ------------------------------------------------------------------------------

    def _start_driver(self) -> None:
        request, place, logs = self._request, self._place, self._logs
        assert request is not None and place is not None and logs is not None  # noqa: S101, PT018
        self._due, self._drivers = None, self._drivers + 1
        owner = owner_of(request.run)
        order = Order(
            address=self._address,
            owner=owner,
            epoch=f"{owner}/{request.launch}-{self._drivers}",
            count=self._wanted,
            flags=["--connect", request.address, *request.flags],
            cpus=request.cpus,
            folder=self._folder,
            resources=self._resources,
            keys=request.keys,
        )
        ours, theirs = socket.socketpair()

        def command(announce: int) -> list[str]:
            return isolated(DRIVER, "--announce", str(announce), "--wire", str(theirs.fileno()))

        with theirs, logs.open_named(LOG) as log:
            self._driver = children.start(1, command, log, [theirs.fileno()], place.news)
        self._connected_by = time.monotonic() + CONNECT_SECONDS
        self._wire = Wire(ours)
        self._wire.tell(**order.plain())
        self._wire.listen(lambda: place.news.put(None))

    def _on_end(self, code: int) -> None:
        """Ray ends it when the cluster is lost. Its actors end with it."""
        self._driver = self._connected_by = None
        self._close_wire()
        why = self._why or f"Ray's driver has ended (exit code {code}): {self._last_words()}"
        self._why = ""
        pause = self._restarts.died(time.monotonic())
        if pause is None or not self._found:
            self._failed = why
            return
        self._handles = not_yet(self._wanted)
        self._due = time.monotonic() + pause
        cli.say(f"{why}; connecting to {self._address} again", error=True)

    def _close_wire(self) -> None:
        """Its driver has ended. What it has told last is taken in."""
        if self._wire is not None:
            self._wire.close()
            self._take_news()
            self._wire = None

    def _take_news(self) -> None:
        lines = self._wire.lines if self._wire is not None else None
        while lines is not None and not lines.empty():
            line = lines.get()
            if line is not None:
                self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        if "workers" in line:
            self._handles = tuple(map(from_plain, line["workers"]))
        elif "output" in line and self._logs is not None:
            with self._logs.open_named(line["output"]["name"]) as log:
                log.write(line["output"]["text"].encode())
        elif "say" in line and not self._leaves:
            cli.say(line["say"], error=True)
        elif "exhausted" in line:
            self._exhausted = line["exhausted"]
        elif "failed" in line:
            self._why = line["failed"]

    def _last_words(self) -> str:
        assert self._logs is not None  # noqa: S101  # there is a driver
        return self._logs.last_words_of(LOG)


def require_ray() -> None:
    """Raise UserError, which says what to do, where Ray is missing. Imports nothing."""
    if find_spec("ray") is None:
        what = ".[ray]" if in_clone() else "ray"
        raise UserError(f"--launcher ray needs Ray, the extra 'ray': pip install '{what}'")


def owner_of(run: Path) -> str:
    """How the names of all actors of a run begin: nothing that tells of the folder's name."""
    place = f"{socket.gethostname()}:{run.resolve()}"
    return hashlib.sha256(place.encode()).hexdigest()[:16]
