"""How fast a run goes, and how numbers and times are put for people."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from coordinator.core.work_times import WorkTimes


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


def summary(times: WorkTimes, steps: int, before: float) -> str:
    """How long so many steps took, for people; ``before`` seconds had passed before ``times``."""
    waited = f", {times.alone:.1f} s without workers in between" if times.alone >= 1 else ""
    waited += f", {times.paused:.1f} s paused" if times.paused >= 1 else ""
    done = f"{steps:,} steps in {times.worked:.1f} s ({speed(steps, times.worked)})"
    return f"ready after {before + times.until_ready:.1f} s{waited}; {done}"
