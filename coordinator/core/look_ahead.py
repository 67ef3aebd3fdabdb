"""When the round that comes next is prepared: while workers compute, and nothing else is to do."""

from __future__ import annotations

from coordinator.core.control import Control
from coordinator.core.ending import Ending
from coordinator.core.inputs import Idle
from coordinator.core.membership import Membership
from coordinator.core.scheduler import Scheduler
from microgpt.strategies.base import StrategyError
from microgpt.strategies.driver import RoundDriver


class LookAhead:
    """Prepares the round after the open one, as far as the strategy knows it: see ``Ahead``."""

    def __init__(
        self,
        driver: RoundDriver,
        scheduler: Scheduler,
        membership: Membership,
        ending: Ending,
        control: Control,
    ) -> None:
        self._driver, self._scheduler, self._membership = driver, scheduler, membership
        self._ending, self._control = ending, control
        self._looked = -1  # the number of the last round from which this has looked ahead

    @property
    def due(self) -> bool:
        """Whether there is something to do when there is nothing to take in.

        There is if all of the only open round is given away.
        """
        rounds = self._scheduler.rounds.open
        if len(rounds) != 1 or self._looked in rounds:
            return False
        (round,) = rounds.values()
        going_on = self._ending.closing is None and not self._control.paused
        return going_on and bool(self._membership.ready) and not round.ledger.queue

    def take(self, event: Idle) -> bool:
        """There is nothing to take in. Returns whether there is more to do, which there never is.

        The run ends if the strategy raises StrategyError.
        """
        if self.due:
            (self._looked,) = self._scheduler.rounds.open
            try:
                if (opened := self._driver.foresee()) is not None:
                    self._scheduler.prepare(opened, self._membership.ready)
            except StrategyError as error:
                self._ending.close("failed", str(error))
        return False
