"""What is said about checkpoints and strangers: once, or in bunches. Pure: the time is given.

With a checkpoint at every step there may be a thousand a second. A line in events.jsonl for each
would take more of the main thread's time than the checkpoint itself.
"""

from __future__ import annotations

from coordinator.core.actions import Note
from coordinator.core.inputs import Saved

COMPLAINT_SECONDS = 1.0  # one line about foreign bytes in this time
SKIPPED_SECONDS = 5.0  # between two lines about skipped checkpoints


class Complaints:
    """Counts messages that nobody can understand, and tells of them once a second at most."""

    def __init__(self) -> None:
        self._told_at, self._untold = float("-inf"), 0

    def note(self, reason: str, now: float) -> Note | None:
        """The line about one more of them, if it is time for one."""
        self._untold += 1
        if now - self._told_at < COMPLAINT_SECONDS:
            return None
        more = f" ({self._untold} times since the last line)" if self._untold > 1 else ""
        self._told_at, self._untold = now, 0
        text = f"ignored a message of somebody who is no worker: {reason}{more}"
        return Note("foreign", text, warning=True)


class CheckpointLog:
    """Collects what has become of checkpoints and gives the lines that tell of it."""

    def __init__(self) -> None:
        self._saved: list[int] = []  # steps that no line has told of
        self._failed = 0  # since the last that was saved
        self._skipped, self._told = 0, 0  # in all, and of which a line has told
        self._told_at = float("-inf")
        self._last = (0, False)  # the last skipped one, and whether the writer rested

    def saved(self, event: Saved) -> list[Note]:
        """One was written, or could not be. Gives the lines that cannot wait."""
        step, failed = event.step, self._failed
        if event.error:
            self._failed += 1
            text = (
                f"checkpoint of step {step} not saved: {event.error}; training goes on, and later "
                "checkpoints are tried without a further line until one is saved"
            )
            return [] if failed else [Note("checkpoint_failed", text, {"step": step}, True)]
        self._saved.append(step)
        self._failed = 0
        if not failed:
            return []
        text = f"checkpoints are saved again: that of step {step} is, {failed} before are not"
        return [Note("checkpoint_recovered", text, {"step": step, "failed": failed})]

    def skipped(self, step: int, *, rested: bool) -> None:
        """That of ``step`` was given up for a newer one while the writer ``rested``, or wrote."""
        self._skipped += 1
        self._last = step, rested

    def lines(self, now: float, *, last: bool = False) -> list[Note]:
        """What there is to tell at ``now``, seconds of a steady clock; all of it if ``last``."""
        notes = []
        if self._saved:
            notes.append(_tell_saved(self._saved))
            self._saved = []
        if self._skipped > self._told and (last or now - self._told_at >= SKIPPED_SECONDS):
            notes.append(_tell_skipped(self._skipped, *self._last))
            self._told, self._told_at = self._skipped, now
        return notes


def _tell_saved(steps: list[int]) -> Note:
    text = f"checkpoint of step {steps[0]} saved"
    if len(steps) > 1:
        text = f"{len(steps)} checkpoints of steps {steps[0]} to {steps[-1]} saved"
    return Note("checkpoint", text, {"step": steps[-1], "saved": len(steps)})


def _tell_skipped(skipped: int, last: int, rested: bool) -> Note:
    many = "1 checkpoint" if skipped == 1 else f"{skipped} checkpoints"
    cause = "the disk is slower than training"
    if rested:
        cause = "so many checkpoints would slow the training down"
    text = f"{cause}: {many} skipped so far for newer ones, the last that of step {last}"
    return Note("checkpoint_skipped", text, {"skipped": skipped, "last_skipped": last}, True)
