"""Who has a processor of a machine that one node and many workers share. Pure; no clock.

As an operating system does it, about. The node, which sleeps most of the time, wakes up where it
has slept, and goes before whoever computes there: that one waits until the node sleeps again, and
does not move, as the others are at work when the node wakes. Of the workers whoever is ready first
has the next free processor, and keeps it until it is done.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

W = TypeVar("W")


class Processors(Generic[W]):
    """``number`` of them, of which one is the node's. After each change ``assign`` says whose work
    ends when.
    """

    def __init__(self, number: int) -> None:
        self._others = number - 1
        self._ready = deque[tuple[W, float]]()  # who waits for one, and for how many seconds
        self._running: dict[W, float] = {}  # until when, on the other processors
        self._guest: W | None = None  # who has the node's
        self._end: float | None = None  # until when; None: the node works
        self._left = 0.0  # seconds, then

    def begin(self, worker: W, seconds: float) -> None:
        """A worker, which has nothing else to do, is ready for so much work."""
        self._ready.append((worker, seconds))

    def ended(self, worker: W, end: float) -> bool:
        """Whether work that was to end now has done so; False if it was interrupted since."""
        if self._guest == worker and self._end == end:
            self._guest = self._end = None
            return True
        if self._running.get(worker) == end:
            del self._running[worker]
            return True
        return False

    def assign(self, now: float, node_works: bool) -> list[tuple[W, float]]:
        """Those who go on from now on, and when each will end if it is not interrupted.

        ``ended`` must be asked about each of them then.
        """
        begun = list[tuple[W, float]]()
        while self._ready and len(self._running) < self._others:
            worker, seconds = self._ready.popleft()
            self._running[worker] = now + seconds
            begun.append((worker, now + seconds))
        if node_works:
            if self._end is not None:
                self._left, self._end = self._end - now, None
            return begun
        if self._guest is None and self._ready:
            self._guest, self._left = self._ready.popleft()
        if self._guest is not None and self._end is None:
            self._end = now + self._left
            begun.append((self._guest, self._end))
        return begun
