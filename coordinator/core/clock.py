"""The coordinator's own time, by which it judges the silence of others. No clock is read here."""

from __future__ import annotations


class Clock:
    """``now``: seconds of our own time, which goes on by at most ``most`` from event to event.

    So it stands still when this process is frozen or the machine sleeps: that silence is not the
    workers' fault, and what they have sent meanwhile is read before they are judged.
    """

    def __init__(self, most: float) -> None:
        self.now = 0.0
        self._most = most
        self._shown = 0.0  # by the caller's clock at the last event

    def start(self, shown: float) -> None:
        """Begin with what the caller's clock (any steady one, in seconds) shows."""
        self.now = self._shown = shown

    def advance(self, shown: float) -> float:
        """The caller's clock shows this now. Returns by how many seconds it has gone on."""
        passed, self._shown = shown - self._shown, shown
        if passed <= 0.0:
            return 0.0
        self.now += passed if passed < self._most else self._most
        return passed
