"""Where the time of a run goes: waiting for the first worker, working, and waiting in between."""

from __future__ import annotations

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
