"""Tools for measuring a run from outside: who owes what (read off the wire), and memory."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from microgpt import messages
from scripts._chaos import zmtp
from scripts._chaos.proxy import Tap

#: Step and first document of a shard.
Work: TypeAlias = tuple[int, int]
PATIENCE = 30.0


class GaugeError(Exception):
    """What was to be measured did not happen."""


class Books:
    """What each worker owes, and when each shard was handed to whom, as seen on the wire."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers: dict[tuple[int, int, bool], zmtp.Reader] = {}
        self.owed: dict[int, Work] = {}
        self._handed: dict[Work, list[tuple[float, int]]] = {}

    def tap(self, worker: int) -> Tap:
        """What listens at the proxy of a worker."""

        def listen(connection: int, upwards: bool, data: bytes) -> None:
            reader = self._readers.setdefault((worker, connection, upwards), zmtp.Reader())
            for message in reader.feed(data):
                self._note(worker, messages.decode(message))

        return listen

    def _note(self, worker: int, message: messages.Message) -> None:
        with self._changed:
            if isinstance(message, messages.Task):
                work = message.step, message.start
                self.owed[worker] = work
                self._handed.setdefault(work, []).append((time.monotonic(), worker))
                while len(self._handed) > 1000:
                    del self._handed[next(iter(self._handed))]
            elif isinstance(message, messages.Answer):
                self.owed.pop(worker, None)
            self._changed.notify_all()

    def strike(self, worker: int, blow: Callable[[], None]) -> float | None:
        """Strike while the worker owes a shard; seconds until another one has been handed it.

        None if its answer came through just before. Raises GaugeError if nothing happens.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: worker in self.owed, PATIENCE):
                raise GaugeError(f"worker {worker} is given nothing to do")
            work = self.owed[worker]
        began = time.monotonic()
        blow()
        with self._changed:
            if self.owed.get(worker) != work:
                return None

            def taken() -> float:
                return next(
                    (at for at, who in self._handed[work] if who != worker and at >= began), 0.0
                )

            if not self._changed.wait_for(taken, PATIENCE):
                raise GaugeError(f"nobody else was given {work} of worker {worker}")
            return taken() - began


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
