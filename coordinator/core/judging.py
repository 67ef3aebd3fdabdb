"""What is computed on the coordinator's host: shards that the workers cannot settle among them.

One shard at a time. What it comes to there counts, and who has said something else is cut off.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.actions import Judge
from coordinator.core.closing import Closes
from coordinator.core.contribution import state_of
from coordinator.core.cross_check import Refuted, contradicted, dead_end, place, read_gradient
from coordinator.core.event_text import describe
from coordinator.core.events import Cause, Difference, JudgeAnswered, JudgeAsked, Verdict
from coordinator.core.in_flight import RoundId
from coordinator.core.inputs import Judged
from coordinator.core.membership import Membership
from coordinator.core.probation import Trial, digest
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.rounds import OpenRound
from coordinator.core.scheduler import Scheduler
from coordinator.core.work_order import WorkOrder
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard
from microgpt.parameters import Shapes
from microgpt.protocol import messages
from microgpt.replicas.state import Assignment
from microgpt.replicas.work import Recipe

TRIAL_JUDGE_SECONDS = 10.0  # from one trial that is judged to the next: judges cost training time


class Case(NamedTuple):
    """A shard that is being judged, and why the run ends if that does not help.

    ``applied``: every shard has a result, but together they make a number infinite. ``trial``: it
    is about a newcomer's answer, and nothing waits for it.
    """

    round: RoundId
    shard: Shard
    reason: str
    applied: bool
    trial: Trial | None = None


class Judging:
    """``case`` is the shard that is being judged; None if none is."""

    def __init__(
        self,
        out: ActionBuffer,
        membership: Membership,
        scheduler: Scheduler,
        ending: Closes,
        shapes: Shapes,
        recipe: Recipe,
    ) -> None:
        self._recipe = recipe
        self.case: Case | None = None
        self._out, self._membership, self._scheduler = out, membership, scheduler
        self._ending, self._shapes = ending, shapes
        self._trial_judged = -math.inf  # when a trial was last given to the judge

    # --- asking ----------------------------------------------------------------------------------

    def holds_up(self, round: OpenRound) -> bool:
        """Whether the round's results are not applied before the judge has answered."""
        return self.case is not None and self.case.applied and self.case.round == round.id

    def ask(self, round: OpenRound, shard: Shard, reason: str, *, applied: bool = False) -> None:
        """Have a shard computed on this host: of an open round, or of the one closed last.

        Nothing happens while another one is.
        """
        if self.case is None and self._ending.closing is None:
            self._begin(Case(round.id, shard, reason, applied), round.order)

    def settle(self, now: float) -> None:
        """Have a shard judged that the workers cannot settle; or a trial, if there is none."""
        for round in self._scheduler.rounds.open.values():
            if not round.ledger.disputed or self.holds_up(round):
                continue
            if (dispute := self._dead_end(round.ledger, now)) is not None:
                self.ask(round, *dispute)
                return
        self._judge_a_trial(now)

    def _dead_end(self, ledger: RoundLedger, now: float) -> tuple[Shard, str] | None:
        """A shard that the workers cannot settle, and what they say of it."""
        if not ledger.disputed:
            return None
        staff = self._scheduler.staff(self._membership.ready)
        rest = {} if any(w.proven for w in staff.values()) else self._membership.workers
        awaited = [
            peer
            for peer, worker in {**rest, **staff}.items()
            if not self._scheduler.stragglers.stalled(worker, now)
        ]
        return dead_end(ledger, awaited, self._membership.name)

    def _judge_a_trial(self, now: float) -> None:
        """Have the newest trial judged whose answer was not the result, now and then."""
        doubts = self._scheduler.probation.doubts
        free = self.case is None and now - self._trial_judged >= TRIAL_JUDGE_SECONDS
        trial = doubts[-1] if doubts else None
        doubts.clear()
        if free and trial and trial.order and trial.worker.peer in self._membership.workers:
            names = self._membership.name(trial.giver), trial.worker.name
            differ = Difference(*trial.round.shard_fields(trial.shard), names, False)
            self._out.tell(differ)
            self._trial_judged = now
            case = Case(trial.round, trial.shard, describe(differ), False, trial)
            self._begin(case, trial.order)

    def _begin(self, case: Case, order: WorkOrder) -> None:
        try:
            before = self._scheduler.replicas.before(order, case.shard, None)
        except LookupError:
            return  # too late to find out
        self.case = case
        self._out.tell(JudgeAsked(*case.round.shard_fields(case.shard), case.reason))
        self._out.add(Judge(order.task(case.shard), order.weights(), tuple(before)))

    # --- going by the verdict --------------------------------------------------------------------

    def take_verdict(self, event: Judged, now: float) -> None:
        """Go by what a shard has come to on this host, or do without."""
        case, self.case = self.case, None
        if case is None:
            return
        self._out.tell(JudgeAnswered(*case.round.shard_fields(case.shard), *outcome_of(event)))
        if self._ending.closing is not None:
            return
        round = self._scheduler.rounds.find(case.round)
        if case.trial:
            self._weigh_trial(case.trial, event)
        elif round:
            self._weigh(case, round, event, now)

    def _weigh_trial(self, trial: Trial, event: Judged) -> None:
        """Part with who was wrong: the newcomer, or who is trusted."""
        if not isinstance(event.answer, messages.ShardResult):
            return  # it stays on probation
        gradient = self._read(event.answer, trial.assignment)
        verdict = digest(event.answer.losses, gradient, state_of(event.answer))
        reason = f"{place(trial.round, trial.shard)} come to something else"
        reason = f"{reason} when computed by the coordinator"
        if trial.said != verdict:
            self.refute([(trial.worker.peer, reason)])
        else:
            self._scheduler.probation.passed(trial.worker)
        if trial.result != verdict:
            round = self._scheduler.rounds.find(trial.round)
            if round is not None:
                round.ledger.judge(trial.shard, event.answer, gradient)
                self.refute(contradicted(round.ledger, trial.shard, "the coordinator"))
            self.refute([(trial.giver, reason)])

    def _read(self, answer: messages.ShardResult, assignment: Assignment | None) -> Vector:
        snapshot = self._scheduler.rounds.wants_snapshot(assignment)
        return read_gradient(answer, self._shapes, assignment, self._recipe, snapshot=snapshot)

    def _weigh(self, case: Case, round: OpenRound, event: Judged, now: float) -> None:
        ledger = round.ledger
        if isinstance(event.answer, messages.ShardResult):
            assignment = round.order.assignments.get(case.shard)
            ledger.judge(case.shard, event.answer, self._read(event.answer, assignment))
            self.refute(contradicted(ledger, case.shard, "the coordinator"))
        elif self._scheduler.rounds.find_open(case.round) is None:
            return  # workers have settled it meanwhile
        elif event.answer is not None:
            self._ending.close("failed", self._scheduler.rounds.describe(round, event.answer))
        elif case.applied or not ledger.decided(case.shard):
            self._do_without_judge(case, ledger, event.reason, now)

    def _do_without_judge(self, case: Case, ledger: RoundLedger, why: str, now: float) -> None:
        """Let workers vote on what could not be computed here; end the run if that cannot help."""
        ledger.let_vote()
        self.refute(contradicted(ledger, case.shard, "another worker"))
        dispute = (case.shard, case.reason) if case.applied else self._dead_end(ledger, now)
        if dispute is not None:
            reason = f"{dispute[1]} (it could not be computed here: {why})"
            self._ending.close("failed", reason)

    def refute(self, refuted: Refuted) -> None:
        """Cut off workers that were proved wrong; their part of open rounds is done again."""
        for peer, _ in refuted:  # all of them before anything is decided without them
            for round in self._scheduler.rounds.open.values():
                round.ledger.discard(peer)
        for peer, reason in refuted:
            worker = self._membership.workers.get(peer)
            if worker is not None:
                more = f"{reason}; earlier steps may rest on answers of it"
                self._membership.expel(worker, Cause.WRONG, more)


def outcome_of(event: Judged) -> tuple[Verdict, str]:
    """What the judge has found, and why it has found nothing."""
    if event.answer is None:
        return Verdict.UNAVAILABLE, event.reason
    if isinstance(event.answer, messages.Failure):
        return Verdict.IMPOSSIBLE, printable(event.answer.reason, 200)
    return Verdict.COMPUTED, ""
