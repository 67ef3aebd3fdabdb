"""All decisions of the coordinator: an event and the time in, actions out. No I/O, no clock.

Whatever happens here, the arithmetic of ``microgpt.training`` decides the bits: shards may be given
away twice, lost and given again, answered late or in any order, and the run comes out the same.

Longer than 300 lines because it is one table of events, one short method for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer, printable
from coordinator.core.actions import Action, Finish, Save, StepDone
from coordinator.core.cross_check import (
    Refuted,
    contradicted,
    contradiction,
    dead_end,
    place,
    read_gradient,
    take_failure,
    take_result,
)
from coordinator.core.inputs import Input, Peer
from coordinator.core.membership import Membership, Worker
from coordinator.core.policy import Policy
from coordinator.core.probation import FAILURE, Trial, digest
from coordinator.core.round_ledger import RoundId, RoundLedger
from coordinator.core.rounds import OpenRound
from coordinator.core.scheduler import Scheduler
from coordinator.core.work_times import WorkTimes
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages
from microgpt.strategies.base import Strategy, StrategyError
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.sync import Sync
from microgpt.training import Corpus, TrainingState

__all__ = ["CoordinatorState", "Policy", "Worker"]

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


class CoordinatorState:
    """The coordinator of run ``run`` in its life ``epoch``; see ``handle``.

    ``libm``: digest of what our C library computes, to compare workers' with.
    ``strategy`` (None: ``Sync``) says which rounds there are and what comes of them.
    ``workers`` maps peers to workers in the order in which they joined; ``closing`` is None while
    training goes on, else the outcome that is being carried out.
    ``times``: how long some worker was ready for work, by which steps are timed.
    """

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        training: TrainingState,
        policy: Policy,
        *,
        run: str,
        epoch: str,
        libm: str = "",
        strategy: Strategy | None = None,
    ) -> None:
        self.config, self.corpus, self.policy = config, corpus, policy
        self._driver = RoundDriver(
            strategy or Sync(), config, training, held_out=len(corpus.validation),
            evaluates=lambda step: policy.evaluates(step, config.steps),
        )  # fmt: skip
        self.run, self.epoch = run, epoch
        self.closing: Finish | None = None
        self.finished = False
        self._out = ActionBuffer()
        model = config.model.to_dict()
        self._membership = Membership(self._out, run, epoch, policy.worker_timeout, model, libm)
        self.workers = self._membership.workers
        self._ready = self._membership.ready
        self._scheduler = Scheduler(config, corpus, policy, self._out, run, epoch)
        self._rounds = self._scheduler.rounds
        self._shapes = parameter_shapes(config.model)
        self.times = WorkTimes()
        self._clock = 0.0  # what the caller's clock showed last
        self._now = 0.0  # our own time: see _advance_time
        self._case: Case | None = None  # what is being computed on this host
        self._judged_trial = -math.inf  # when a trial was last given to the judge
        self._moved = False  # whether something has happened since work was given away
        self._saving: int | None = None  # step of the last Save that has not been reported

    @property
    def training(self) -> TrainingState:
        """The state after the last step done."""
        return self._driver.state

    @property
    def ledgers(self) -> list[RoundLedger]:
        """The books of the open rounds, oldest first."""
        return [round.ledger for round in self._rounds.open.values()]

    @property
    def missed(self) -> list[Worker]:
        """Workers that have gone without a word, for people to see: ``gone`` says how."""
        return self._membership.still_missed(self._now)

    def silence(self, worker: Worker) -> float:
        """Seconds since the worker was last heard of."""
        return max(0.0, self._now - worker.heard)

    # --- the one entrance ------------------------------------------------------------------------

    def start(self, now: float) -> list[Action]:
        """Begin. The first actions save the state that the run begins with."""
        self._clock = self._now = now
        self._out.begin(now)
        self._save()
        if self.training.step >= self.config.steps:
            self._close(Finish("done", "the run was complete already"))
        else:
            self._open_rounds()
            self._note_idle()
        return self._out.actions

    def handle(self, event: Input, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do.

        An error in handling what a peer sent costs the peer; any other is raised.
        """
        self._advance_time(now)
        self._out.begin(self._now)
        if not self.finished:
            try:
                _HANDLERS[type(event)](self, event)
                self._go_on()
            except Exception as error:
                if not isinstance(event, (inputs.Received, inputs.Misbehaved)):
                    raise
                self._on_fault(event, error)
        elif isinstance(event, inputs.Received) and isinstance(event.message, messages.Hello):
            self._welcome(event.peer, event.message)  # only to be sent home
        return self._out.actions

    def _on_fault(self, event: inputs.Received | inputs.Misbehaved, error: Exception) -> None:
        """Part with a peer whose message could not be handled; what was done for others stands.

        Raises AssertionError if the books are not in order: nothing can be built on them.
        """
        what = type(event.message if isinstance(event, inputs.Received) else event).__name__
        reason = (
            f"handling its {what} failed ({type(error).__name__}: {printable(str(error), 100)})"
        )
        if worker := self.workers.get(event.peer):
            for ledger in self.ledgers:
                ledger.strike_out(event.peer)
            self._expel(worker, reason)
        else:
            self._out.note("expelled", f"a stranger is cut off: {reason}", warning=True)
            self._membership.bar(event.peer, reason)
        self._go_on()
        if self.closing is None:
            for ledger in self.ledgers:
                ledger.audit()

    def _advance_time(self, now: float) -> None:
        """Our own time goes on by at most a heartbeat from one event to the next.

        So it stands still when this process is frozen or the machine sleeps: that silence is not
        the workers' fault, and what they have sent meanwhile is read before they are judged.
        """
        passed, self._clock = now - self._clock, now
        if self.closing is None:
            self.times.add(max(passed, 0.0), bool(self._ready))
        self._now += min(max(passed, 0.0), self.policy.worker_timeout / 4)

    # --- events ----------------------------------------------------------------------------------

    def _on_received(self, event: inputs.Received) -> None:
        message, worker = event.message, self.workers.get(event.peer)
        if isinstance(message, messages.Hello):
            self._welcome(event.peer, message)
        elif worker is None:
            if not isinstance(message, messages.Goodbye):
                self._membership.reregister(event.peer)
        elif isinstance(message, messages.Goodbye):
            self._remove(worker, "left", f"{worker.name} has left")
        elif (message.run, message.epoch) != (self.run, self.epoch):
            # Words meant for an earlier life of this coordinator, sent before our welcome came or
            # because it never did.
            worker.heard = self._now
            if self._now - worker.welcomed > self.policy.worker_timeout / 2:
                self._membership.reregister(event.peer)
        else:
            worker.heard = self._now
            self._on_word(worker, message)

    def _on_word(self, worker: Worker, message: messages.Message) -> None:
        if isinstance(message, messages.ShardResult):
            self._on_answer(worker, message)
        elif isinstance(message, messages.Failure):
            self._on_failure(worker, message)
        elif isinstance(message, messages.Status):
            text = f"{worker.name}: {printable(message.text, 200)}"
            self._out.note("status", text, worker=worker.name)
        elif isinstance(message, messages.Heartbeat):
            if message.ready and not worker.ready:
                self._membership.make_ready(worker)
                self._moved = True
        else:
            self._expel(worker, f"a worker does not send {type(message).__name__}")

    def _on_misbehaved(self, event: inputs.Misbehaved) -> None:
        if event.peer in self.workers:
            self._expel(self.workers[event.peer], event.reason)

    def _on_disconnected(self, event: inputs.Disconnected) -> None:
        if worker := self.workers.get(event.peer):
            self._remove(worker, "lost", f"{worker.name} is gone: its connection has closed")

    def _on_tick(self, event: inputs.Tick) -> None:
        for worker in self._membership.silent(self._now):
            silence = self._now - worker.heard
            self._remove(worker, "silent", f"{worker.name} is silent for {silence:.1f} s")
        if self.closing is None:
            self._scheduler.back_up_stragglers(self._ready, self._now)
            self._scheduler.demote_late(self._ready, self._now)
            failure = self._scheduler.unconfirmed_failure(self._now)
            if failure is not None:
                self._have_judged(*failure)
            self._moved = True  # what waited for somebody may go on without

    def _on_saved(self, event: inputs.Saved) -> None:
        if event.step == self._saving:
            self._saving = None
        if self.closing and event.step == self.training.step:
            if event.error and self.closing.outcome != "failed":
                self.closing = Finish("failed", f"the last checkpoint is missing: {event.error}")
            self._out.add(self.closing)
            self.finished = True

    def _on_stop(self, event: inputs.StopRequested) -> None:
        if self.closing is None:
            self._close(Finish("stopped", f"stopped after step {self.training.step}"))

    def _on_broken(self, event: inputs.Broken) -> None:
        if self.closing is None:
            self._close(Finish("failed", event.reason))

    # --- workers ---------------------------------------------------------------------------------

    def _welcome(self, peer: Peer, hello: messages.Hello) -> None:
        if self.closing is not None:
            self._membership.send_home(peer, self.closing.reason)
            return
        if self._membership.refuse(peer):
            return
        if self._membership.has_just_welcomed(peer, self._now):
            return
        if peer in self.workers:  # a message is lost, in whichever direction: begin again
            self._scheduler.release(self.workers[peer])
        self._membership.welcome(peer, hello, self._now)
        self._moved = True

    def _expel(self, worker: Worker, reason: str) -> None:
        """Cut a worker off that breaks the protocol or computes wrongly."""
        self._membership.bar(worker.peer, reason)
        self._remove(worker, "expelled", f"{worker.name} is cut off: {reason}")

    def _remove(self, worker: Worker, kind: str, text: str) -> None:
        if self.closing is not None:  # it leaves because it was told to
            self._membership.forget(worker)
            return
        self._membership.remove(worker, kind, text, self._scheduler.release(worker))
        self._note_idle()
        self._moved = True

    def _note_idle(self) -> None:
        """Say that nobody is there to work, each time that becomes true."""
        if not self.workers:
            self._out.note("waiting", f"waiting for workers at step {self.training.step + 1}")

    # --- answers ---------------------------------------------------------------------------------

    def _on_answer(self, worker: Worker, answer: messages.ShardResult) -> None:
        shard = Shard(answer.start, answer.count)
        id = RoundId(answer.round, answer.step, answer.training)
        if (id, shard) in worker.in_flight:
            worker.in_flight.remove((id, shard))
            worker.longest = max(worker.longest, self._now - worker.since)
        trial = self._scheduler.probation.awaited(worker.peer, id, (shard,))
        round = self._rounds.find(id)
        asked = round is None or round.ledger.asked(shard, worker.peer)
        if trial is not None:
            self._take_trial(trial, answer)
        elif round and not asked and round.ledger.tried(shard, worker.peer):
            pass  # a trial that was given up meanwhile, or answered already
        elif self._rounds.never_was(id) or not asked:
            self._expel(worker, "it answers what it was not asked")
        elif round:
            self._take_in(worker, round, answer)
        self._moved = True  # whatever the answer was worth, its giver is idle now

    def _take_in(self, worker: Worker, round: OpenRound, answer: messages.ShardResult) -> None:
        try:
            gradient = read_gradient(answer, self._shapes)
        except ValueError as error:
            self._expel(worker, f"its answer is malformed: {error}")
            return
        ledger = round.ledger
        if self._rounds.find_open(round.id) and not ledger.complete:
            self._scheduler.answered(worker, round, answer, self._now)
        name, shard = self._membership.name, Shard(answer.start, answer.count)
        was_decided = ledger.decided(shard)
        refuted = take_result(ledger, worker.peer, answer, gradient, name, self._out)
        self._refute(refuted)
        for peer in ledger.supporters(shard):
            giver = self.workers.get(peer)
            fresh = peer == worker.peer or not was_decided
            if giver and fresh and not giver.proven and not ledger.incredible(peer):
                self._scheduler.probation.passed(giver)
        self._set_aside(round, [p for p in ledger.failures.get(shard, ()) if p != worker.peer])
        self._scheduler.probation.decided(ledger, self._now)
        contested = ledger.first_contested()
        if contested is not None:
            self._have_judged(round, contested, contradiction(ledger, contested, name))

    def _set_aside(self, round: OpenRound, peers: list[Peer]) -> bool:
        """Where proven workers can do it instead, nothing counts that these newcomers have said.

        They are tried again later: else each of many claims would have to be judged. Returns
        whether anybody was set aside.
        """
        newcomers = [self.workers[p] for p in peers if p in self.workers]
        newcomers = [worker for worker in newcomers if not worker.proven]
        if not self._rounds.find_open(round.id) or not self._somebody_is_proven():
            return False
        for worker in newcomers:
            round.ledger.discard(worker.peer)
            self._scheduler.probation.rest(worker, self._now)
        return bool(newcomers)

    def _somebody_is_proven(self) -> bool:
        return any(worker.proven for worker in self._ready.values())

    def _take_trial(self, trial: Trial, answer: messages.ShardResult) -> None:
        try:
            gradient = read_gradient(answer, self._shapes)
        except ValueError as error:
            self._expel(trial.worker, f"its answer is malformed: {error}")
            return
        said = digest(answer.losses, gradient)
        round = self._rounds.find(trial.round)
        ledger = round.ledger if round else None
        self._scheduler.probation.answered(trial, said, ledger, self._now)

    def _on_failure(self, worker: Worker, failure: messages.Failure) -> None:
        place, id = failure.document, RoundId(failure.round, failure.step, failure.training)
        shards = [s for i, s in worker.in_flight if i == id and 0 <= place - s.start < s.count]
        worker.in_flight.difference_update([(id, shard) for shard in shards])
        self._moved = True
        trial = self._scheduler.probation.awaited(worker.peer, id, shards)
        round = self._rounds.find_open(id)
        if trial is not None:
            ledger = round.ledger if round else None
            self._scheduler.probation.answered(trial, FAILURE, ledger, self._now)
        elif shards and round and self.closing is None:
            if not worker.proven and self._somebody_is_proven():
                round.ledger.give_back(worker.peer, shards[0])  # a claim that proven ones check
                self._scheduler.probation.rest(worker, self._now)
                return
            reason, name = self._scheduler.describe(round, failure), self._membership.name
            refuted = take_failure(round.ledger, worker.peer, shards[0], reason, self._now, name)
            self._refute(refuted)

    def _refute(self, refuted: Refuted) -> None:
        """Cut off workers that were proved wrong; their part of open rounds is done again."""
        for peer, _ in refuted:  # all of them before anything is decided without them
            for ledger in self.ledgers:
                ledger.discard(peer)
        for peer, reason in refuted:
            worker = self.workers.get(peer)
            if worker is not None:
                self._expel(worker, f"{reason}; earlier steps may rest on answers of it")

    # --- rounds ----------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Give away work, close the rounds that have enough, and open others, as far as it goes.

        What has happened is in the books by now. The run ends if it cannot go on.
        """
        while self._moved and self.closing is None:
            self._open_rounds()
            if self._ready:
                self._scheduler.dispatch(self._ready, self._now)
            self._moved = self._close_a_round()
            if not self._moved and self._ready:
                self._settle_disputes()
        self._moved = False

    def _open_rounds(self) -> None:
        """Ask the strategy for work if there is nobody working, or somebody without work."""
        staff, idle = len(self._ready), self._scheduler.wanted(self._ready)
        if self._rounds.open and not idle:
            return
        try:
            opened = self._driver.begin(max(1, staff), max(1, idle))
        except StrategyError as error:
            self._close(Finish("failed", str(error)))
            return
        for each in opened:
            self._rounds.begin(each, staff, self.times.worked)

    def _close_a_round(self) -> bool:
        """Close the oldest round that has enough results, if there is one."""
        for round in self._rounds.open.values() if self.closing is None else ():
            try:
                if self._has_enough(round) and self._close_round(round):
                    return True
            except StrategyError as error:
                self._close(Finish("failed", str(error)))
                return False
        return False

    def _has_enough(self, round: OpenRound) -> bool:
        """Whether the round can be closed now; its strategy is asked once for each result."""
        case, ledger, number = self._case, round.ledger, round.id.number
        if case and case.applied and case.round == round.id:
            return False
        if not (ledger.complete or self._driver.early) or self._driver.waits(number):
            return False
        if not ledger.complete and ledger.num_decided in (0, round.asked):
            return False
        round.asked = ledger.num_decided
        enough = self._driver.enough(number, ledger.results())
        if ledger.complete and not enough:
            raise StrategyError("all results of a round are there, and are not enough for it")
        return enough

    def _close_round(self, round: OpenRound) -> bool:
        """From the results of a round to the next state, or to an evaluation, or to the judge.

        Returns whether there may be more to do at once.
        """
        number, results = round.id.number, round.ledger.results()
        try:
            closed = self._driver.close(number, results, len(self._ready))
        except ArithmeticError as error:
            incredible = [p for p in self.workers if round.ledger.incredible(p)]
            if self._set_aside(round, incredible):
                return True
            self._suspect(round, f"{error}; a lower --learning-rate may help")
            return False
        self._scheduler.close(round, self._now)
        after = closed.done or closed.to_evaluate
        if after is not None:
            workers = len(self._ready)
            record = self._rounds.record(round, after, workers, self.times.worked)
        if closed.done is None:
            return True
        self._out.add(StepDone(record))
        if self._driver.complete:
            self._close(Finish("done", f"all {closed.done.step} steps are done"))
        elif self.policy.saves(closed.done):
            self._save()
        return True

    def _suspect(self, round: OpenRound, reason: str) -> None:
        """Together the results make a number infinite: have the largest one computed here."""
        results = round.ledger.results(judged=True)
        alone = self._driver.overflows(round.id.number, results, len(self._ready))
        suspect = None if alone else round.ledger.largest()
        if suspect is None:  # those that have been computed on this host are to blame: no lie
            self._close(Finish("failed", reason))
        else:
            self._have_judged(round, suspect, reason, applied=True)

    # --- disputes --------------------------------------------------------------------------------

    def _settle_disputes(self) -> None:
        for round in self._rounds.open.values():
            applied = self._case and self._case.applied and self._case.round == round.id
            dispute = None if applied else self._dead_end(round.ledger)
            if dispute is not None:
                self._have_judged(round, *dispute)
                return
        self._judge_a_trial()

    def _dead_end(self, ledger: RoundLedger) -> tuple[Shard, str] | None:
        """A shard that the workers cannot settle, and what they say of it."""
        if not ledger.disputed:
            return None
        staff = self._scheduler.staff(self._ready)
        rest = {} if any(w.proven for w in staff.values()) else self.workers
        awaited = [
            peer
            for peer, worker in {**rest, **staff}.items()
            if not self._scheduler.stalled(worker, self._now)
        ]
        return dead_end(ledger, awaited, self._membership.name)

    def _have_judged(
        self, round: OpenRound, shard: Shard, reason: str, *, applied: bool = False
    ) -> None:
        """Have a shard computed on this host: of an open round, or of the one closed last."""
        if self._case is None and self.closing is None:
            self._case = Case(round.id, shard, reason, applied)
            self._note_case(round.id, shard, reason)
            self._out.add(round.order.question(shard))

    def _judge_a_trial(self) -> None:
        """Have the newest trial judged whose answer was not the result, now and then."""
        doubts = self._scheduler.probation.doubts
        free = self._case is None and self._now - self._judged_trial >= TRIAL_JUDGE_SECONDS
        trial = doubts[-1] if doubts else None
        doubts.clear()
        if free and trial and trial.order and trial.worker.peer in self.workers:
            names = [self._membership.name(trial.giver), trial.worker.name]
            reason = (
                f"{names[0]} and {names[1]} gave different answers for "
                f"{place(trial.round, trial.shard)}: one of them is broken"
            )
            step = trial.round.step
            self._out.note("difference", reason, warning=True, workers=names, step=step)
            self._case = Case(trial.round, trial.shard, reason, False, trial)
            self._judged_trial = self._now
            self._note_case(trial.round, trial.shard, reason)
            self._out.add(trial.order.question(trial.shard))

    def _note_case(self, round: RoundId, shard: Shard, reason: str) -> None:
        text = f"the coordinator's host computes {place(round, shard)} to see who is right"
        self._out.note("judge", text, warning=True, reason=reason)

    def _on_judged(self, event: inputs.Judged) -> None:
        case, self._case = self._case, None
        round = self._rounds.find(case.round) if case else None
        if case and case.trial and self.closing is None:
            self._weigh_trial(case.trial, event)
        elif case and round and self.closing is None:
            self._weigh(case, round, event)
        self._moved = True

    def _weigh_trial(self, trial: Trial, event: inputs.Judged) -> None:
        """Part with who was wrong: the newcomer, or who is trusted."""
        if not isinstance(event.answer, messages.ShardResult):
            return  # it stays on probation
        gradient = read_gradient(event.answer, self._shapes)
        verdict = digest(event.answer.losses, gradient)
        reason = f"{place(trial.round, trial.shard)} come to something else"
        reason = f"{reason} when computed by the coordinator"
        if trial.said != verdict:
            self._refute([(trial.worker.peer, reason)])
        else:
            self._scheduler.probation.passed(trial.worker)
        if trial.result != verdict:
            round = self._rounds.find(trial.round)
            if round is not None:
                ledger = round.ledger
                ledger.judge(trial.shard, event.answer, gradient)
                self._refute(contradicted(ledger, trial.shard, "the coordinator"))
            self._refute([(trial.giver, reason)])

    def _weigh(self, case: Case, round: OpenRound, event: inputs.Judged) -> None:
        """Go by what a shard has come to on this host."""
        ledger = round.ledger
        if isinstance(event.answer, messages.ShardResult):
            ledger.judge(case.shard, event.answer, read_gradient(event.answer, self._shapes))
            self._refute(contradicted(ledger, case.shard, "the coordinator"))
        elif self._rounds.find_open(case.round) is None:
            return  # workers have settled it meanwhile
        elif event.answer is not None:
            self._close(Finish("failed", self._scheduler.describe(round, event.answer)))
        elif case.applied or not ledger.decided(case.shard):
            self._do_without_judge(case, ledger, event.reason)

    def _do_without_judge(self, case: Case, ledger: RoundLedger, why: str) -> None:
        """Let workers vote on what could not be computed here; end the run if that cannot help."""
        ledger.let_vote()
        self._refute(contradicted(ledger, case.shard, "another worker"))
        dispute = (case.shard, case.reason) if case.applied else self._dead_end(ledger)
        if dispute is not None and self.closing is None:
            reason = f"{dispute[1]} (it could not be computed here: {why})"
            self._close(Finish("failed", reason))

    def _save(self) -> None:
        """Save the state, unless a Save of it is under way: its report would be taken for ours."""
        if self._saving != self.training.step:
            self._saving = self.training.step
            self._out.add(Save(self.training))

    def _close(self, finish: Finish) -> None:
        """Send everybody home and save; the run is finished once that is on disk."""
        self.closing = finish
        for worker in self.workers.values():
            self._membership.stop(worker.peer, finish.reason)
        self._save()


_HANDLERS: dict[type[Any], Callable[[CoordinatorState, Any], None]] = {
    inputs.Received: CoordinatorState._on_received,
    inputs.Misbehaved: CoordinatorState._on_misbehaved,
    inputs.Disconnected: CoordinatorState._on_disconnected,
    inputs.Tick: CoordinatorState._on_tick,
    inputs.Saved: CoordinatorState._on_saved,
    inputs.StopRequested: CoordinatorState._on_stop,
    inputs.Broken: CoordinatorState._on_broken,
    inputs.Judged: CoordinatorState._on_judged,
}
