"""How a run ends: everybody is sent home, the state is saved, and then it is finished.

A disk is waited for, but not for long by somebody who has asked for the end.
"""

from __future__ import annotations

from dataclasses import replace

from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.actions import Finish, Save
from coordinator.core.event_text import describe
from coordinator.core.events import CheckpointAwaited, CheckpointGivenUp, Closing, Outcome
from coordinator.core.membership import Membership
from coordinator.core.replicas import Replicas
from microgpt.strategies.driver import RoundDriver
from microgpt.training import TrainingState

SLOW_END_SECONDS = 5.0  # after which we say that the disk is waited for
SAVE_SECONDS = 1.3  # for the last checkpoint to reach a slow disk after somebody has asked to stop
MOST_TICK_SECONDS = 0.25  # that count: if we do not get to run, that is no fault of the disk


class Ending:
    """``closing`` is None while training goes on, else the outcome that is being carried out.

    ``finished``: it has been carried out, and there is nothing more to decide.
    """

    def __init__(
        self, out: ActionBuffer, membership: Membership, driver: RoundDriver, replicas: Replicas
    ) -> None:
        self._replicas = replicas
        self.closing: Finish | None = None
        self.finished = False
        self._out, self._membership, self._driver = out, membership, driver
        self._saving: int | None = None  # step of the last Save that has not been reported
        self._ticked = 0.0  # when we last waited for the last checkpoint
        self._waited = 0.0  # seconds since the end has begun
        self._stop_asked_at: float | None = None  # how long we had waited then
        self._told_slow = False

    @property
    def resumable(self) -> TrainingState:
        """The state after the last step, with all that is known of replicas."""
        logs = self._replicas.freeze(self._driver.undone)
        return replace(self._driver.state, replicas=logs)

    def save(self) -> None:
        """Save the state, unless a Save of it is under way: its report would be taken for ours."""
        step = self._driver.state.step
        if self._saving != step:
            self._saving = step
            self._out.add(Save(self.resumable))

    def close(self, outcome: str, reason: str) -> None:
        """Send everybody home and save; the run is finished once that is on disk.

        ``outcome`` and ``reason`` are those of a ``Finish``. The first of several counts.
        """
        if self.closing is None:
            self.closing = Finish(outcome, reason)
            self._out.tell(Closing(Outcome(outcome), reason))
            self._membership.dismiss(reason)
            self.save()

    def stop(self) -> None:
        """Somebody wants the run to end now."""
        if self._stop_asked_at is None:
            self._stop_asked_at = self._waited
        self.close("stopped", f"stopped after step {self._driver.state.step}")

    def take(self, event: inputs.Saved | inputs.StopRequested | inputs.Broken) -> None:
        """Something that ends the run, or lets it end."""
        if isinstance(event, inputs.Saved):
            self.saved(event)
        elif isinstance(event, inputs.Broken):
            self.close("failed", event.reason)
        else:
            self.stop()

    def tick(self, now: float) -> None:
        """Time has passed: do not wait for a slow disk without an end, or without a word."""
        passed, self._ticked = min(now - self._ticked, MOST_TICK_SECONDS), now
        if self.closing is None:
            return
        self._waited += passed
        asked_at = self._stop_asked_at
        if asked_at is not None and self._waited - asked_at > SAVE_SECONDS:
            given_up = CheckpointGivenUp()
            self._out.tell(given_up)
            self.closing = Finish("stopped", describe(given_up))
            self._out.add(self.closing)
            self.finished = True
        elif self._waited > SLOW_END_SECONDS and not self._told_slow:
            self._told_slow = True
            self._out.tell(CheckpointAwaited())

    def saved(self, event: inputs.Saved) -> None:
        """A checkpoint is on disk, or could not be put there."""
        if event.step == self._saving:
            self._saving = None
        if self.closing and event.step == self._driver.state.step:
            if event.error and self.closing.outcome != "failed":
                self.closing = Finish("failed", f"the last checkpoint is missing: {event.error}")
            self._out.add(self.closing)
            self.finished = True
