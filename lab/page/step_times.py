"""When steps were done: by the events, which have both a time and a step. Pure.

The metrics tell only how long each step took. Between events the time goes on by that.
"""

from __future__ import annotations

from bisect import bisect_right

MOST = 20_000


class StepTimes:
    """Times of steps, in seconds since 1970."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._steps: list[int] = []
        self._first: list[float] = []  # event after which so many steps were done
        self._last: list[float] = []
        self._at = -1  # the step from which times go on
        self._seconds = 0.0  # of work until then

    def note(self, step: int, time: float) -> None:
        """At ``time`` so many steps were done."""
        while self._steps and self._steps[-1] > step:  # gone back to a checkpoint
            self._drop(-1)
        if self._steps and self._steps[-1] == step:
            self._last[-1] = time
            return
        self._steps.append(step)
        self._first.append(time)
        self._last.append(time)
        if len(self._steps) > self._most:
            self._drop(slice(1, None, 2))

    def time_of(self, step: int, before: float, seconds: float) -> float | None:
        """When a step was done; None if nothing is known.

        To be asked in the order of the steps. ``seconds`` of work have led to it, ``before`` to
        the step before it.
        """
        place = bisect_right(self._steps, step) - 1
        if place < 0:
            return None
        known = self._steps[place]
        if known == step:
            self._at, self._seconds = step, seconds
            return self._first[place]
        if known != self._at:
            self._at, self._seconds = known, before
        return self._last[place] + (seconds - self._seconds)

    def _drop(self, which: int | slice) -> None:
        for column in (self._steps, self._first, self._last):
            del column[which]
