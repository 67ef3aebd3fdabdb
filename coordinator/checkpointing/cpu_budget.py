"""How often something in the background may work, so that it takes a small share of the time only.

Pure: the times are given.
"""

from __future__ import annotations


class CpuBudget:
    """``share`` of one processor, averaged over time; what was not used is saved up to ``burst``.

    ``longest``: no rest is longer, whatever the share is then. All times in seconds.
    """

    def __init__(self, share: float, burst: float, longest: float) -> None:
        self._share, self._burst, self._longest = share, burst, longest
        self._left, self._at = burst, 0.0

    def rest(self, now: float, used: float) -> float:
        """How long to rest at ``now``, after so many seconds of work since the last call."""
        earned = self._share * max(0.0, now - self._at)
        self._left, self._at = min(self._burst, self._left + earned) - used, now
        return min(self._longest, max(0.0, -self._left / self._share))
