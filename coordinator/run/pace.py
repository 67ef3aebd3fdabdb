"""How fast a run goes, and how numbers and times are put for people."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class WorkTimes:
    """Where the time of a run goes, in seconds.

    ``until_ready``: before the first worker was ready for work; ``worked``: with a worker ready;
    ``alone``: after the first, without any.
    """

    until_ready: float = 0.0
    worked: float = 0.0
    alone: float = 0.0

    def add(self, seconds: float, ready: bool) -> None:
        """So much time has passed, with a worker ready or not."""
        if ready:
            self.worked += seconds
        elif self.worked:
            self.alone += seconds
        else:
            self.until_ready += seconds

    def summary(self, steps: int, before: float) -> str:
        """How long it took to do so many steps; ``before`` seconds more had passed before all."""
        waited = f", {self.alone:.1f} s without workers in between" if self.alone >= 1 else ""
        done = f"{steps:,} steps in {self.worked:.1f} s ({speed(steps, self.worked)})"
        return f"ready after {before + self.until_ready:.1f} s{waited}; {done}"


class Pace:
    """How fast counts grow over the last ``over`` seconds, all over the same ones.

    Time is that of the caller's clock, which may stand still.
    """

    def __init__(self, over: float) -> None:
        self._over = over
        self._seen: deque[tuple[float, Mapping[int, int]]] = deque()

    def rates(self, now: float, counts: Mapping[int, int]) -> dict[int, float]:
        """Counts per second by the names of the counts. One that is new has begun with 0."""
        if self._seen and now <= self._seen[-1][0]:
            self._seen.pop()
        self._seen.append((now, dict(counts)))
        while len(self._seen) > 2 and now - self._seen[0][0] > self._over:
            self._seen.popleft()
        then, before = self._seen[0]
        passed = now - then
        if passed <= 0.0:
            return dict.fromkeys(counts, 0.0)
        return {name: (count - before.get(name, 0)) / passed for name, count in counts.items()}


def duration(seconds: float) -> str:
    """``h:mm:ss``."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02d}:{second:02d}"


def figure(number: float) -> str:
    """A number that is not negative, with as many digits as are worth reading."""
    if number >= 10 or number == 0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if number >= 1 else f"{number:.2g}"


def speed(steps: int, seconds: float) -> str:
    """Steps per second, or seconds per step where that is the larger number."""
    if steps >= seconds:
        return f"{figure(steps / max(seconds, 1e-9))} steps/s"
    return f"{figure(seconds / steps)} s/step"
