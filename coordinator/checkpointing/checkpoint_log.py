"""What is said about checkpoints and strangers: once, or in bunches. Pure: the time is given.

With a checkpoint at every step there may be a thousand a second. An event for each would take more
of the main thread's time than the checkpoint itself.
"""

from __future__ import annotations

from coordinator.core.events import (
    CheckpointFailed,
    CheckpointRecovered,
    CheckpointSaved,
    CheckpointSkipped,
    Event,
    Foreign,
)
from coordinator.core.inputs import Saved

COMPLAINT_SECONDS = 1.0  # one event about foreign bytes in this time
SKIPPED_SECONDS = 5.0  # between two events about skipped checkpoints


class Complaints:
    """Counts messages that nobody can understand, and tells of them once a second at most."""

    def __init__(self) -> None:
        self._told_at, self._untold = float("-inf"), 0

    def tell(self, reason: str, now: float) -> Foreign | None:
        """What to tell of one more of them, if it is time for that."""
        self._untold += 1
        if now - self._told_at < COMPLAINT_SECONDS:
            return None
        told = Foreign(reason, self._untold)
        self._told_at, self._untold = now, 0
        return told


class CheckpointLog:
    """Collects what has become of checkpoints and gives the events that tell of it."""

    def __init__(self) -> None:
        self._saved: list[int] = []  # steps that no event has told of
        self._failed = 0  # since the last that was saved
        self._skipped, self._told = 0, 0  # in all, and of which an event has told
        self._told_at = float("-inf")
        self._last = (0, False)  # the last skipped one, and whether the writer rested

    def saved(self, report: Saved) -> list[Event]:
        """One was written, or could not be. Gives what cannot wait to be told."""
        step, failed = report.step, self._failed
        if report.error:
            self._failed += 1
            return [] if failed else [CheckpointFailed(step, report.error)]
        self._saved.append(step)
        self._failed = 0
        return [CheckpointRecovered(step, failed)] if failed else []

    def skipped(self, step: int, *, rested: bool) -> None:
        """That of ``step`` was given up for a newer one while the writer ``rested``, or wrote."""
        self._skipped += 1
        self._last = step, rested

    def due(self, now: float, *, last: bool = False) -> list[Event]:
        """What there is to tell at ``now``, seconds of a steady clock; all of it if ``last``."""
        told: list[Event] = []
        if self._saved:
            told.append(CheckpointSaved(len(self._saved), self._saved[0], self._saved[-1]))
            self._saved = []
        if self._skipped > self._told and (last or now - self._told_at >= SKIPPED_SECONDS):
            told.append(CheckpointSkipped(self._skipped, *self._last))
            self._told, self._told_at = self._skipped, now
        return told
