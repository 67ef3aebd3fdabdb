"""When a child that has died is started again, and when it is given up. Pure: time comes in."""

from __future__ import annotations

from dataclasses import dataclass

#: Seconds before the first, second, ... start anew. After one more death the child is given up.
PAUSES = (0.0, 0.5, 1.0, 2.0, 4.0)
#: Whoever has worked for so long had no trouble with starting, and begins the series again.
STEADY_SECONDS = 10.0


@dataclass
class Restarts:
    """The deaths of one child that nobody asked for."""

    deaths: int = 0  # one soon after the other
    restarts: int = 0  # of all time
    _works_since: float | None = None

    def works(self, now: float) -> None:
        """The child has told that it is at work."""
        self._works_since = now

    def died(self, now: float) -> float | None:
        """The seconds to wait before it is started again; None if it is given up."""
        since, self._works_since = self._works_since, None
        if since is not None and now - since >= STEADY_SECONDS:
            self.deaths = 0
        self.deaths += 1
        if self.deaths > len(PAUSES):
            return None
        self.restarts += 1
        return PAUSES[self.deaths - 1]
