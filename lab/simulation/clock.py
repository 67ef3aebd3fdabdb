"""Virtual time: what happens next, and the trace of what has happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any


class InvariantViolationError(Exception):
    """The system under simulation has broken a promise; the message says which."""


class Clock:
    """Calls what has been put off, in the order of time. ``lines`` is the trace if it is kept."""

    def __init__(self, keep_trace: bool) -> None:
        self.now = 0.0
        self.tracing = keep_trace
        self.lines: list[str] = []
        self._waiting: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._over = False

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call this in ``delay`` seconds; calls for the same time keep their order."""
        self._number += 1
        heapq.heappush(self._waiting, (self.now + delay, self._number, call, arguments))

    def run(self) -> None:
        """Go on until ``stop``.

        Raises InvariantViolationError if nothing is left to happen before that.
        """
        waiting, take = self._waiting, heapq.heappop
        while not self._over:
            if not waiting:
                raise InvariantViolationError("nothing will ever happen again")
            self.now, _, call, arguments = take(waiting)
            call(*arguments)

    def stop(self) -> None:
        """What happens now is the last that happens."""
        self._over = True

    @property
    def events(self) -> int:
        """How many calls have been made."""
        return self._number - len(self._waiting)

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return len(self._waiting)

    def trace(self, who: str, text: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.lines.append(f"{self.now:9.4f}  {who:<14} {text}")
