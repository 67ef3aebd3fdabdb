"""Which states the checkpoint writer is given, and when: pure, for the shell and the simulator.

The writer shares the interpreter with the coordinator. Whatever else is to be done when a state is
to be saved, such as sending new weights, others wait for; so a state is kept until there is
nothing else to do, for the writer and for us.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from coordinator.core.actions import Save


class Decision(NamedTuple):
    """What becomes of the state that has been kept so far, if any: written ``now``, or never."""

    now: Save | None = None
    skipped: Save | None = None


class SaveDeferral:
    """Keeps the newest state that is to be saved, until the writer may have it."""

    def __init__(self) -> None:
        self._kept: Save | None = None

    @property
    def waiting(self) -> bool:
        """Whether a state is kept for the writer."""
        return self._kept is not None

    def keep(self, save: Save, *, idle: bool, wants: Callable[[Save], bool]) -> Decision:
        """A state is to be saved. ``idle``: the writer has nothing to do; it ``wants`` some states
        whatever else there is, such as those that the rules of retention keep for good.
        """
        older, self._kept = self._kept, save
        if older is None:
            return Decision()
        return Decision(now=older) if idle or wants(older) else Decision(skipped=older)

    def due(self, *, idle: bool, closing: bool) -> Save | None:
        """There is nothing else to do now: the state that the writer gets, if it may have one.

        When the run ends it is given the last one at once.
        """
        if not (idle or closing):
            return None
        kept, self._kept = self._kept, None
        return kept
