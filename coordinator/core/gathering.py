"""Which rounds are closed together, under a strategy that makes one update of several."""

from __future__ import annotations

from collections.abc import Collection

from coordinator.core.judging import Judging
from coordinator.core.rounds import OpenRound, Rounds
from microgpt.strategies.driver import RoundDriver


class Gathering:
    """Knows since when a quorum of the open rounds has been answered. Only for such strategies."""

    def __init__(self, driver: RoundDriver, rounds: Rounds, judging: Judging) -> None:
        self._driver, self._rounds, self._judging = driver, rounds, judging
        self._since: float | None = None

    def together(self, now: float) -> Collection[int]:
        """The numbers of the rounds of training to close now; none as long as others may come.

        They are closed when all are answered, or once the grace after the quorum is over.
        """
        quorum, grace = self._driver.gathers or (1, 0.0)
        rounds = [round for round in self._rounds.open.values() if round.id.training]
        answered = [round.id.number for round in rounds if self._is_answered(round)]
        if self._driver.gathering or len(answered) == len(rounds):
            self._since = None
            return answered
        if len(answered) < quorum:
            self._since = None
            return ()
        if self._since is None:
            self._since = now
        return answered if now - self._since >= grace else ()

    def _is_answered(self, round: OpenRound) -> bool:
        held_up = self._judging.holds_up(round) or self._driver.waits(round.id.number)
        return round.ledger.complete and not held_up
