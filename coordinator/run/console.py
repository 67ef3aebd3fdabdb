"""What people see of a run; here plain lines in a pipe or a log. The live view loads more."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from coordinator.core.event_text import describe
from coordinator.core.events import (
    CheckpointSaved,
    Closing,
    Evaluated,
    EventBase,
    Finished,
    JudgeAnswered,
    Level,
    Ready,
    Started,
)
from coordinator.core.state import Worker
from microgpt.support.cli import printable, say

MAX_STEP_LINES = 1000  # in a log
#: Seen in other ways: in the table of workers, in a step's line, in the last lines.
UNTOLD = (Started, Ready, Evaluated, JudgeAnswered, CheckpointSaved, Closing, Finished)


class Console(Protocol):
    """Shows a run as it goes."""

    def step(self, record: Mapping[str, Any]) -> None:
        """A step is done."""

    def tell(self, event: EventBase) -> None:
        """Something happened."""

    def refresh(self, workers: Collection[Worker], missed: Collection[Worker] = ()) -> None:
        """Show the present state, if it is time to; ``missed`` have gone without a word."""

    def close(self) -> None:
        """Give the terminal back."""


def is_news(event: EventBase) -> bool:
    """Whether people hear of an event that is no warning; of others they see what comes of them."""
    return event.recorded_at is Level.SUMMARY and not isinstance(event, UNTOLD)


class PlainConsole:
    """One line per step (of long runs, a thousand in all) and per thing that happens."""

    def __init__(self, total_steps: int, quiet: bool) -> None:
        self._total, self._quiet = total_steps, quiet
        self._every = max(1, total_steps // MAX_STEP_LINES)

    def step(self, record: Mapping[str, Any]) -> None:
        """See ``Console``."""
        step = record["step"]
        validated = "validation_loss" in record
        if not self._quiet and (step % self._every == 0 or step in (1, self._total) or validated):
            width = max(4, len(str(self._total)))
            more = f" | validation loss {record['validation_loss']:.4f}" if validated else ""
            say(f"step {step:{width}d} / {self._total:{width}d} | loss {record['loss']:.4f}{more}")

    def tell(self, event: EventBase) -> None:
        """See ``Console``."""
        if event.warning:
            say(f"warning: {printable(describe(event))}", error=True)
        elif not self._quiet and is_news(event):
            say(printable(describe(event)))

    def refresh(self, workers: Collection[Worker], missed: Collection[Worker] = ()) -> None:
        """Nothing to do: lines stay."""

    def close(self) -> None:
        """Nothing to do."""
