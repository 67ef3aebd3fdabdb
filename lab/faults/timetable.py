"""How far a row of measurements is, guessed from how long each usually takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from microgpt.support.progress import Progress, ticking, to_stderr

ALMOST = 0.95  # of what one was guessed to take, and it counts as no more until it is over


class Timetable:
    """``parts``: names and guessed seconds, in order. Lines go to ``report``."""

    def __init__(
        self, parts: Sequence[tuple[str, float]], report: Callable[[str], None] = to_stderr
    ) -> None:
        self._parts, self._at = parts, 0
        self._progress = Progress("measure", report, first=0.0)

    @contextmanager
    def next(self) -> Iterator[None]:
        """While the next part is measured."""
        at, began = self._at, time.monotonic()
        self._at += 1
        name, guess = self._parts[at]
        before, total = sum(s for _, s in self._parts[:at]), sum(s for _, s in self._parts)

        def tell() -> None:
            done = before + min(time.monotonic() - began, ALMOST * guess)
            self._progress(done, total, f"{name}, {at + 1} of {len(self._parts)}")

        with ticking(tell):
            yield
