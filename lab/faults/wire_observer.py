"""Measure a run from outside: what is in flight where, as the wire shows, and memory."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from lab.faults import zmtp
from lab.faults.proxy import Observer
from microgpt.protocol import messages

#: Step and first document of a shard.
Work: TypeAlias = tuple[int, int]
PATIENCE = 30.0


class ObservationError(Exception):
    """What was to be measured did not happen."""


class WireObserver:
    """What each worker has in flight, and when each shard was given to whom, seen on the wire."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: dict[tuple[int, int, bool], zmtp.Reader] = {}
        self._step = 0
        self._in_flight: dict[int, Work] = {}
        self._handed: dict[Work, list[tuple[float, int]]] = {}
        self._answered: set[Work] = set()
        self._busy: set[int] = set()

    def observer(self, worker: int) -> Observer:
        """What listens at the proxy of a worker."""

        def listen(connection: int, upwards: bool, data: bytes) -> None:
            reader = self._readers.setdefault((worker, connection, upwards), zmtp.Reader())
            for message in reader.feed(data):
                self._note(worker, messages.decode(message))

        return listen

    def _note(self, worker: int, message: messages.Message) -> None:
        with self._changed:
            if isinstance(message, messages.Task):
                if message.step != self._step:
                    self._step = message.step
                    self._handed.clear()
                    self._answered.clear()
                work = message.step, message.start
                self._in_flight[worker] = work
                self._handed.setdefault(work, []).append((time.monotonic(), worker))
            elif isinstance(message, messages.ShardResult):
                self._answered.add((message.step, message.start))
                self._in_flight.pop(worker, None)
                self._busy.add(worker)
            elif isinstance(message, messages.Hello):
                self._in_flight.pop(worker, None)
                self._busy.discard(worker)
            self._changed.notify_all()

    def gone(self, worker: int) -> None:
        """The worker has been harmed: it is not at work until it answers again."""
        with self._changed:
            self._busy.discard(worker)

    def at_work(self, workers: int) -> bool:
        """Whether so many workers have answered since they last said hello or were harmed."""
        return len(self._busy) == workers

    def _needed(self, worker: int) -> Work | None:
        """What the worker has in flight, if nobody has answered it."""
        work = self._in_flight.get(worker)
        is_open = work is not None and work[0] == self._step and work not in self._answered
        return work if is_open else None

    def strike(self, worker: int, blow: Callable[[], None]) -> float | None:
        """Call ``blow`` while the worker has a shard in flight.

        Returns the seconds until another worker has been given the shard; None if its own
        answer came through just before. Raises ObservationError if nothing happens.
        """
        with self._changed:
            work = self._changed.wait_for(lambda: self._needed(worker), PATIENCE)
            if work is None:
                raise ObservationError(f"worker {worker} is given nothing to do")
        began = time.monotonic()
        blow()

        def taken() -> float:
            """When it was handed to another; a negative number if it is needed no more."""
            if self._step != work[0]:
                return -1.0
            others = (at for at, who in self._handed.get(work, []) if who != worker and at >= began)
            return next(others, -1.0 if work in self._answered else 0.0)

        with self._changed:
            at = self._changed.wait_for(taken, PATIENCE)
        if not at:
            raise ObservationError(f"nobody else was given {work} of worker {worker}")
        return at - began if at > 0.0 else None


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
