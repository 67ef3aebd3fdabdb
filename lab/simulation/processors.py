"""Who has a processor of a machine that one node and many workers share. Pure; no clock.

As an operating system does it, about: the node, which sleeps most of the time, goes before those
who compute. Of them whoever is ready first has the next free processor, and keeps it until it is
done, but for the moments in which the node takes it away from who has it last.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

W = TypeVar("W")


class Processors(Generic[W]):
    """``number`` of them. After each change ``assign`` says whose work ends when."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._ready = deque[tuple[W, float]]()  # who waits for one, and for how many seconds
        self._running: dict[W, float] = {}  # until when, in the order in which they have begun

    def begin(self, worker: W, seconds: float) -> None:
        """A worker, which has nothing else to do, is ready for so much work."""
        self._ready.append((worker, seconds))

    def ended(self, worker: W, end: float) -> bool:
        """Whether work that was to end now has done so; False if it was interrupted since."""
        if self._running.get(worker) != end:
            return False
        del self._running[worker]
        return True

    def assign(self, now: float, node_works: bool) -> list[tuple[W, float]]:
        """Those who go on from now on, and when each will end if it is not interrupted.

        ``ended`` must be asked about each of them then.
        """
        free, begun = self._number - node_works, list[tuple[W, float]]()
        while len(self._running) > free:
            worker, end = self._running.popitem()
            self._ready.appendleft((worker, end - now))
        while self._ready and len(self._running) < free:
            worker, left = self._ready.popleft()
            self._running[worker] = now + left
            begun.append((worker, now + left))
        return begun
