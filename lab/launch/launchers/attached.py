"""The workers of a run, as another process on the machine of its supervisor sees them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

from lab.launch.control_socket import SupervisorGoneError, ask
from lab.launch.launch_record import LaunchRecord
from lab.launch.launchers.base import LaunchedWorkers, WorkerHandle, from_json
from lab.launch.logs import lines_of
from lab.launch.requests import Verb
from microgpt.support.cli import UserError


class AttachedWorkers(LaunchedWorkers):
    """Asks the supervisor for everything; logs are files in the run directory."""

    def __init__(self, run: Path, record: LaunchRecord) -> None:
        self._run, self._record = run, record

    def list_workers(self) -> tuple[WorkerHandle, ...]:
        """As the supervisor's launcher tells. Raises UserError."""
        return from_json(self._ask(Verb.LIST))

    def logs(self, name: str, follow: bool) -> Iterator[str]:
        """From its file. Raises UserError."""
        return lines_of(self._run, name, lambda: follow and self._goes_on())

    def scale(self, count: int) -> str:
        """The supervisor has its launcher do it. Raises UserError."""
        return self._ask(Verb.SCALE, count)

    def stop(self) -> None:
        """The whole run ends, with a checkpoint; it may have ended already. Raises UserError."""
        try:
            ask(self._record.launch, Verb.STOP)
        except SupervisorGoneError:
            if self._record.host != socket.gethostname():
                raise self._gone() from None

    def _goes_on(self) -> bool:
        try:
            ask(self._record.launch, Verb.LIST)
        except SupervisorGoneError:
            return False
        return True

    def _ask(self, verb: Verb, value: int | None = None) -> str:
        try:
            return ask(self._record.launch, verb, value)
        except SupervisorGoneError:
            raise self._gone() from None

    def _gone(self) -> UserError:
        here, there = socket.gethostname(), self._record.host
        if here != there:
            return UserError(f"the run in {self._run} was started on {there}: ask there")
        return UserError(f"the run in {self._run} does not go on: it has ended or was killed")
