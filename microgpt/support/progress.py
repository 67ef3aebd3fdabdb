"""How far long work is, and how much time is left: silent while it is short."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_SECONDS = 2.0  # shorter work needs no word
NEXT_SECONDS = 5.0  # between two lines
TICK_SECONDS = 1.0


def to_stderr(line: str) -> None:
    """Print a line at once; a closed or vanished terminal is no error."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


class Progress:
    """``progress(done, total)`` tells ``report`` a line now and then; both are in any unit.

    The time left is what the rest takes at the pace so far.
    """

    def __init__(
        self,
        what: str,
        report: Callable[[str], None] = to_stderr,
        *,
        first: float = FIRST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._report, self._clock = what, report, clock
        self._began = clock()
        self._next = self._began + first

    def __call__(self, done: float, total: float, now_at: str = "") -> None:
        """``now_at``: what is being done, for the line."""
        now = self._clock()
        if now < self._next or total <= 0:
            return
        self._next = now + NEXT_SECONDS
        share = min(1.0, done / total)
        line = f"{self._what}: {100 * share:.0f} %"
        if share > 0.0:
            line += f", about {show_seconds((now - self._began) * (1 - share) / share)} left"
        self._report(f"{line} ({now_at})" if now_at else line)


def show_seconds(seconds: float) -> str:
    """A time for people: 8 s, 3 min 20 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def ticking(tell: Callable[[], None]) -> Iterator[None]:
    """Call ``tell`` from a thread of its own, now and every second meanwhile."""
    over = threading.Event()

    def tick() -> None:
        tell()
        while not over.wait(TICK_SECONDS):
            tell()

    thread = threading.Thread(target=tick, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
