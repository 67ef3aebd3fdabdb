"""What is under way and may end: a run, or what an aggregator has been given to do."""

from __future__ import annotations

from typing import Protocol

from coordinator.core.actions import Finish


class Closes(Protocol):
    """What is under way, and may end."""

    @property
    def closing(self) -> Finish | None:
        """None while it goes on, else its outcome."""

    def close(self, outcome: str, reason: str) -> None:
        """It is over, as a ``Finish`` says."""
