"""How a run ends: everybody is sent home, the state is saved, and then it is finished."""

from __future__ import annotations

from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.actions import Finish, Save
from coordinator.core.membership import Membership
from microgpt.strategies.driver import RoundDriver


class Ending:
    """``closing`` is None while training goes on, else the outcome that is being carried out.

    ``finished``: it has been carried out, and there is nothing more to decide.
    """

    def __init__(self, out: ActionBuffer, membership: Membership, driver: RoundDriver) -> None:
        self.closing: Finish | None = None
        self.finished = False
        self._out, self._membership, self._driver = out, membership, driver
        self._saving: int | None = None  # step of the last Save that has not been reported

    def save(self) -> None:
        """Save the state, unless a Save of it is under way: its report would be taken for ours."""
        step = self._driver.state.step
        if self._saving != step:
            self._saving = step
            self._out.add(Save(self._driver.state))

    def close(self, outcome: str, reason: str) -> None:
        """Send everybody home and save; the run is finished once that is on disk.

        ``outcome`` and ``reason`` are those of a ``Finish``. The first of several counts.
        """
        if self.closing is None:
            self.closing = Finish(outcome, reason)
            self._membership.dismiss(reason)
            self.save()

    def saved(self, event: inputs.Saved) -> None:
        """A checkpoint is on disk, or could not be put there."""
        if event.step == self._saving:
            self._saving = None
        if self.closing and event.step == self._driver.state.step:
            if event.error and self.closing.outcome != "failed":
                self.closing = Finish("failed", f"the last checkpoint is missing: {event.error}")
            self._out.add(self.closing)
            self.finished = True
