"""Which rounds have enough results, and what comes of them: the way to the next state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.actions import RecordStep
from coordinator.core.control import Control
from coordinator.core.cross_check import incredible, incredible_shard, largest
from coordinator.core.ending import Ending
from coordinator.core.events import Evaluated, RoundClosed, RoundOutcome, StepDone
from coordinator.core.gathering import Gathering
from coordinator.core.judging import Judging
from coordinator.core.membership import Membership
from coordinator.core.policy import Policy
from coordinator.core.results import Results
from coordinator.core.rounds import OpenRound
from coordinator.core.scheduler import Scheduler
from coordinator.core.step_records import StepRecords
from coordinator.core.telemetry import Telemetry
from coordinator.core.work_times import WorkTimes
from microgpt.strategies.asking import takes_by_arrival
from microgpt.strategies.base import Result, StrategyError
from microgpt.strategies.driver import Closed, RoundDriver
from microgpt.training import TrainingState


class RoundCloser:
    """Closes rounds by handing their results to the strategy, which updates the state."""

    def __init__(
        self,
        out: ActionBuffer,
        driver: RoundDriver,
        policy: Policy,
        times: WorkTimes,
        membership: Membership,
        scheduler: Scheduler,
        results: Results,
        judging: Judging,
        ending: Ending,
        control: Control,
    ) -> None:
        self._out, self._driver, self._policy, self._times = out, driver, policy, times
        self._membership, self._scheduler, self._results = membership, scheduler, results
        self._judging, self._ending, self._control = judging, ending, control
        self._rounds = scheduler.rounds
        self._gathering = Gathering(driver, scheduler.rounds, judging)
        self._telemetry = Telemetry(out, driver, scheduler.replicas)
        self._records = StepRecords(driver.config)
        # One round at a time, which needs all of its answers.
        self._plain = driver.one_at_a_time and not driver.early and driver.gathers is None
        self._gathered: list[OpenRound] = []  # closed, and in the update of a round to be closed

    def close_rounds(self, now: float) -> bool:
        """Close the rounds that have enough results, oldest first. Raises StrategyError.

        Returns whether that has made other work possible.
        """
        changed = False
        while self._close_one(now):
            changed = True
        return changed

    def only_waits(self) -> bool:
        """Whether nothing can be done but to wait for further answers, as after nearly every one.

        Then the only round lacks answers that its strategy wants, all of its shards are with
        workers, who are all proven, and nothing is in doubt.
        """
        if not self._plain or len(self._rounds.open) != 1:
            return False
        (round,) = self._rounds.open.values()
        ledger, probation = round.ledger, self._scheduler.probation
        if ledger.queue or ledger.complete or ledger.disputed:
            return False
        in_doubt = self._policy.verify_fraction or probation.doubts
        return not (in_doubt or probation.newcomers(self._membership.ready))

    def _close_one(self, now: float) -> bool:
        together = self._gathering.together(now) if self._driver.gathers else None
        for round in self._rounds.open.values():
            if self._ending.closing is not None:
                return False
            waits = together is not None and round.id.training and round.id.number not in together
            results = None if waits else self._enough(round)
            if results is None:
                continue
            more = together is not None and round.id.training and len(together) > 1
            if self._close(round, results, now, more=more):
                return True
        return False

    def _enough(self, round: OpenRound) -> list[Result] | None:
        """The results that a round can be closed with now, None if they are not enough.

        Its strategy is asked once for each result.
        """
        ledger, number = round.ledger, round.id.number
        if self._judging.holds_up(round):
            return None
        if not (ledger.complete or self._driver.early) or self._driver.waits(number):
            return None
        if not ledger.complete and len(ledger.arrived) in (0, round.asked):
            return None
        round.asked = len(ledger.arrived)
        results = round.results(by_arrival=self._by_arrival(round))
        enough = self._driver.enough(number, results)
        if ledger.complete and not enough:
            raise StrategyError("all results of a round are there, and are not enough for it")
        return results if enough else None

    def _close(
        self, round: OpenRound, results: Sequence[Result], now: float, *, more: bool
    ) -> bool:
        """From the results of a round to the next state, or to an evaluation, or to the judge.

        With ``more``, its results are kept for the update of a round that is closed next. Returns
        whether there may be more to do at once.
        """
        number, workers = round.id.number, len(self._membership.ready)
        before = self._driver.state
        if more and (shard := incredible_shard(round.ledger)) is not None:
            # In the update that it is kept for, nobody would know who has brought it.
            if not self._set_aside_incredible(round, now):
                self._judging.ask(round, shard, "a number is beyond belief", applied=True)
                return False
            return True
        look, before = self._telemetry.look(now), self._driver.state
        try:
            closed = self._driver.close(number, results, workers, more=more, look=look)
        except ArithmeticError as error:
            if self._set_aside_incredible(round, now):
                return True
            self._suspect(round, f"{error}; a lower --learning-rate may help")
            return False
        self._scheduler.close(round, now)
        if closed.to_evaluate is None and not closed.gathered:
            self._scheduler.replicas.settle()
        after, notes = closed.done or closed.to_evaluate, self._driver.take_notes()
        self._telemetry.note(notes)
        if after is not None:
            rounds = [*self._gathered, round]
            record = self._records.line(rounds, after, workers, self._times.worked, notes)
        self._gathered = [*self._gathered, round] if closed.gathered else []
        if after is not None and round.id.training:
            self._control.tell_rate(before, after)
        self._tell_closed(round, workers, _outcome(round, closed))
        if after is not None and round.id.training:
            self._telemetry.updated(look, before, after, now)
        if closed.done is None:
            return True
        self._tell_done(round, closed.done, record)
        self._out.add(RecordStep(record))
        if self._driver.complete:
            self._ending.close("done", f"all {closed.done.step} steps are done")
        elif self._policy.saves(closed.done):
            self._ending.save()
        return True

    def _by_arrival(self, round: OpenRound) -> bool:
        """Whether the results of a round are taken in the order in which they have come."""
        return takes_by_arrival(self._driver.strategy) and round.id.training

    def _set_aside_incredible(self, round: OpenRound, now: float) -> bool:
        """Whether somebody is set aside whose numbers prove nothing."""
        suspects = [p for p in self._membership.workers if incredible(round.ledger, p)]
        return self._results.set_aside(round, suspects, now)

    def _tell_closed(self, round: OpenRound, workers: int, outcome: RoundOutcome) -> None:
        if self._out.rounds:
            id, ledger = round.id, round.ledger
            shards, results = len(ledger.all), len(ledger.arrived)
            of_parts = shards == 1 or bool(round.order.assignments)
            cut = () if of_parts else tuple(shard.count for shard in ledger.all)
            by_arrival = self._by_arrival(round)
            arrived = ledger.arrived if by_arrival else sorted(ledger.arrived)
            named = by_arrival or not ledger.complete
            counted = tuple(map(ledger.all.index, arrived)) if named else ()
            which = id.number, id.step, not id.training
            self._out.tell(RoundClosed(*which, shards, results, outcome, cut, counted, workers))

    def _tell_done(self, round: OpenRound, state: TrainingState, record: Mapping[str, Any]) -> None:
        if not round.id.training:
            loss, seconds = record["validation_loss"], record["validation_seconds"]
            self._out.tell(Evaluated(state.step, loss, seconds))
        if self._out.full:
            loss, seconds = record["loss"], record["seconds"]
            self._out.tell(StepDone(state.step, loss, seconds, record["workers"]))

    def _suspect(self, round: OpenRound, reason: str) -> None:
        """Together the results make a number infinite: have the largest one computed here."""
        results = round.results(judged=True, by_arrival=self._by_arrival(round))
        workers = len(self._membership.ready)
        alone = self._driver.overflows(round.id.number, results, workers)
        suspect = None if alone else largest(round.ledger)
        if suspect is None:  # those that have been computed on this host are to blame: no lie
            self._ending.close("failed", reason)
        else:
            self._judging.ask(round, suspect, reason, applied=True)


def _outcome(round: OpenRound, closed: Closed) -> RoundOutcome:
    if closed.gathered:
        return RoundOutcome.GATHERED
    if closed.done is None and closed.to_evaluate is None:
        return RoundOutcome.DROPPED
    return RoundOutcome.APPLIED if round.id.training else RoundOutcome.EVALUATED
