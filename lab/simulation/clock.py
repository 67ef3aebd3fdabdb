"""Virtual time: what happens next, and the trace of what has happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any, TypeAlias

PER_SECOND = 2048  # slots: some hundreds of calls are in each where a thousand workers are busy

#: When, the number of the call, and what.
Call: TypeAlias = tuple[float, int, Callable[..., None], tuple[Any, ...]]


class InvariantViolationError(Exception):
    """The system under simulation has broken a promise; the message says which."""


class Clock:
    """Calls what has been put off, in the order of time. ``lines`` is the trace if it is kept.

    Most calls are put off for longer than a slot, ``PER_SECOND`` of which are a second: they are
    collected, and sorted when their slot comes. One large heap takes half as long again.
    """

    def __init__(self, keep_trace: bool) -> None:
        self.now = 0.0
        self.tracing = keep_trace
        self.lines: list[str] = []
        self._number = 0  # of the last call
        self._over = False
        self._slot = -1  # the one under way
        self._due: list[Call] = []  # what is left of it, the next one last
        self._added: list[Call] = []  # to it, since it has begun: a heap
        self._later: dict[int, list[Call]] = {}  # by their slots
        self._slots: list[int] = []  # those of ``_later``: a heap

    def after(self, delay: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call this in ``delay`` seconds; calls for the same time keep their order."""
        self._number = number = self._number + 1
        time = self.now + delay
        slot = int(time * PER_SECOND)
        later = self._later.get(slot)
        if later is not None:
            later.append((time, number, call, arguments))
        elif slot > self._slot:
            self._later[slot] = [(time, number, call, arguments)]
            heapq.heappush(self._slots, slot)
        else:
            heapq.heappush(self._added, (time, number, call, arguments))

    def run(self) -> None:
        """Go on until ``stop``.

        Raises InvariantViolationError if nothing is left to happen before that.
        """
        added, take = self._added, heapq.heappop
        while not self._over:
            due = self._due
            if added and not (due and due[-1] < added[0]):
                self.now, _, call, arguments = take(added)
            elif due:
                self.now, _, call, arguments = due.pop()
            elif self._slots:
                self._slot = take(self._slots)
                self._due = self._later.pop(self._slot)
                if len(self._due) > 1:
                    self._due.sort(reverse=True)
                continue
            else:
                raise InvariantViolationError("nothing will ever happen again")
            call(*arguments)

    def stop(self) -> None:
        """What happens now is the last that happens."""
        self._over = True

    @property
    def events(self) -> int:
        """How many calls have been made."""
        return self._number - self.pending

    @property
    def pending(self) -> int:
        """How many calls are still to come."""
        return len(self._due) + len(self._added) + sum(map(len, self._later.values()))

    def trace(self, who: str, text: str) -> None:
        """A line of the trace."""
        if self.tracing:
            self.lines.append(f"{self.now:9.4f}  {who:<14} {text}")
