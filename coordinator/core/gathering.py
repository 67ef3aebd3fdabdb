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
        # The newest of the rounds that were all answered, but none with new weights.
        self._seen = -1

    def together(self, now: float) -> Collection[int]:
        """The numbers of the rounds of training to close now; none as long as others may come.

        They are closed when all are answered, or once the grace after the quorum is over. One of
        the quorum has begun with the weights of now: else each of several that began together
        would make an update, and the weights go as far several times.
        """
        quorum, grace = self._driver.gathers or (1, 0.0)
        rounds = [round for round in self._rounds.open.values() if round.id.training]
        decided = [round for round in rounds if round.ledger.complete]
        answered = [round for round in decided if not self._is_held_up(round)]
        numbers = [round.id.number for round in answered]
        fresh = any(round.id.step == self._driver.state.step for round in answered)
        complete = len(answered) == len(rounds) and (fresh or self._nothing_newer(numbers))
        if self._driver.gathering or complete:
            self._since = None
            return numbers
        if len(answered) < quorum or not fresh:
            self._since = None
            return ()
        if self._since is None:
            self._since = now
        return numbers if now - self._since >= grace else ()

    def _nothing_newer(self, numbers: Collection[int]) -> bool:
        """Whether this is the second look at these rounds: those that are free have not begun."""
        before, self._seen = self._seen, max(numbers, default=-1)
        return before == self._seen

    def _is_held_up(self, round: OpenRound) -> bool:
        return self._judging.holds_up(round) or self._driver.waits(round.id.number)
