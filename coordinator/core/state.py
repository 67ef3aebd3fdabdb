"""All decisions of the coordinator: an event and the time in, actions out. No I/O, no clock.

Whatever happens here, the arithmetic of ``microgpt.training`` decides the bits: shards may be given
away twice, lost and given again, answered late or in any order, and the run comes out the same.

Longer than 300 lines because it is one table of events, one short method for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from coordinator.core import events
from coordinator.core.action_buffer import ActionBuffer, printable
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
from coordinator.core.events import Action, Event, Finish, Peer, Save, StepDone
from coordinator.core.membership import Membership, Worker
from coordinator.core.probation import FAILURE, Trial, digest
from coordinator.core.round_ledger import Phase, RoundLedger
from coordinator.core.scheduler import Policy, Scheduler
from coordinator.core.work_times import WorkTimes
from microgpt.config import TrainingConfig
from microgpt.model import parameter_shapes
from microgpt.optim.reduction import Shard
from microgpt.protocol import messages
from microgpt.training import Corpus, TrainingState

__all__ = ["CoordinatorState", "Policy", "Worker"]

TRIAL_JUDGE_SECONDS = 10.0  # from one trial that is judged to the next: judges cost training time


class Case(NamedTuple):
    """A shard that is being judged, and why the run ends if that does not help.

    ``applied``: every shard has a result, but together they make a number infinite. ``trial``: it
    is about a newcomer's answer, and nothing waits for it.
    """

    phase: Phase
    shard: Shard
    reason: str
    applied: bool
    trial: Trial | None = None


class CoordinatorState:
    """The coordinator of run ``run`` in its life ``epoch``; see ``handle``.

    ``libm``: digest of what our C library computes, to compare workers' with.
    ``workers`` maps peers to workers in the order in which they joined; ``training`` is the newest
    state; ``closing`` is None while training goes on, else the outcome that is being carried out.
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
    ) -> None:
        self.config, self.corpus, self.training, self.policy = config, corpus, training, policy
        self.run, self.epoch = run, epoch
        self.closing: Finish | None = None
        self.finished = False
        self._out = ActionBuffer()
        model = config.model.to_dict()
        self._membership = Membership(self._out, run, epoch, policy.worker_timeout, model, libm)
        self.workers = self._membership.workers
        self._ready = self._membership.ready
        self._scheduler = Scheduler(config, corpus, policy, self._out, run, epoch)
        self._shapes = parameter_shapes(config.model)
        self.times = WorkTimes()
        self._clock = 0.0  # what the caller's clock showed last
        self._now = 0.0  # our own time: see _advance_time
        self._case: Case | None = None  # what is being computed on this host
        self._judged_trial = -math.inf  # when a trial was last given to the judge
        self._saving: int | None = None  # step of the last Save that has not been reported

    @property
    def ledger(self) -> RoundLedger:
        """The books of the phase in hand."""
        return self._scheduler.ledger

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
            self._scheduler.begin(self.training, 0, self.times.worked)
            self._note_idle()
        return self._out.actions

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do.

        An error in handling what a peer sent costs the peer; any other is raised.
        """
        self._advance_time(now)
        self._out.begin(self._now)
        if not self.finished:
            try:
                _HANDLERS[type(event)](self, event)
            except Exception as error:
                if not isinstance(event, (events.Received, events.Misbehaved)):
                    raise
                self._on_fault(event, error)
        elif isinstance(event, events.Received) and isinstance(event.message, messages.Hello):
            self._welcome(event.peer, event.message)  # only to be sent home
        return self._out.actions

    def _on_fault(self, event: events.Received | events.Misbehaved, error: Exception) -> None:
        """Part with a peer whose message could not be handled; what was done for others stands.

        Raises AssertionError if the books are not in order: nothing can be built on them.
        """
        what = type(event.message if isinstance(event, events.Received) else event).__name__
        reason = (
            f"handling its {what} failed ({type(error).__name__}: {printable(str(error), 100)})"
        )
        if worker := self.workers.get(event.peer):
            self.ledger.strike_out(event.peer)
            self._expel(worker, reason)
        else:
            self._out.note("expelled", f"a stranger is cut off: {reason}", warning=True)
            self._membership.bar(event.peer, reason)
        if self.closing is None:
            self.ledger.audit()

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

    def _on_received(self, event: events.Received) -> None:
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
                self._dispatch()
        else:
            self._expel(worker, f"a worker does not send {type(message).__name__}")

    def _on_misbehaved(self, event: events.Misbehaved) -> None:
        if event.peer in self.workers:
            self._expel(self.workers[event.peer], event.reason)

    def _on_disconnected(self, event: events.Disconnected) -> None:
        if worker := self.workers.get(event.peer):
            self._remove(worker, "lost", f"{worker.name} is gone: its connection has closed")

    def _on_tick(self, event: events.Tick) -> None:
        for worker in self._membership.silent(self._now):
            silence = self._now - worker.heard
            self._remove(worker, "silent", f"{worker.name} is silent for {silence:.1f} s")
        if self.closing is None:
            self._scheduler.back_up_stragglers(self._ready, self._now)
            self._scheduler.demote_late(self._ready, self._now)
            failure = self._scheduler.unconfirmed_failure(self._now)
            if failure is not None:
                self._have_judged(*failure)
            self._dispatch()  # what waited for somebody may go on without

    def _on_saved(self, event: events.Saved) -> None:
        if event.step == self._saving:
            self._saving = None
        if self.closing and event.step == self.training.step:
            if event.error and self.closing.outcome != "failed":
                self.closing = Finish("failed", f"the last checkpoint is missing: {event.error}")
            self._out.add(self.closing)
            self.finished = True

    def _on_stop(self, event: events.StopRequested) -> None:
        if self.closing is None:
            self._close(Finish("stopped", f"stopped after step {self.training.step}"))

    def _on_broken(self, event: events.Broken) -> None:
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
        self._dispatch()

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
        self._dispatch()

    def _note_idle(self) -> None:
        """Say that nobody is there to work, each time that becomes true."""
        if not self.workers:
            self._out.note("waiting", f"waiting for workers at step {self.training.step + 1}")

    # --- answers ---------------------------------------------------------------------------------

    def _on_answer(self, worker: Worker, answer: messages.ShardResult) -> None:
        shard = Shard(answer.start, answer.count)
        phase = Phase(answer.step, answer.training)
        if (phase, shard) in worker.in_flight:
            worker.in_flight.remove((phase, shard))
            worker.longest = max(worker.longest, self._now - worker.since)
        trial = self._scheduler.probation.awaited(worker.peer, phase, (shard,))
        ledger = self._scheduler.ledger_of(phase)
        if trial is not None:
            self._take_trial(trial, answer)
        elif ledger and not ledger.asked(shard, worker.peer) and ledger.tried(shard, worker.peer):
            pass  # a trial that was given up meanwhile, or answered already
        elif phase > self.ledger.phase or (ledger and not ledger.asked(shard, worker.peer)):
            self._expel(worker, "it answers what it was not asked")
        elif ledger:
            self._take_in(worker, ledger, answer)
        self._dispatch()  # whatever the answer was worth, its giver is idle now

    def _take_in(self, worker: Worker, ledger: RoundLedger, answer: messages.ShardResult) -> None:
        try:
            gradient = read_gradient(answer, self._shapes)
        except ValueError as error:
            self._expel(worker, f"its answer is malformed: {error}")
            return
        if ledger is self.ledger and not ledger.complete:
            self._scheduler.answered(worker, answer, self._now)
        name, shard = self._membership.name, Shard(answer.start, answer.count)
        was_decided = ledger.decided(shard)
        refuted = take_result(ledger, worker.peer, answer, gradient, name, self._out)
        self._refute(refuted)
        for peer in ledger.supporters(shard):
            giver = self.workers.get(peer)
            fresh = peer == worker.peer or not was_decided
            if giver and fresh and not giver.proven and not ledger.incredible(peer):
                self._scheduler.probation.passed(giver)
        self._set_aside(ledger, [p for p in ledger.failures.get(shard, ()) if p != worker.peer])
        self._scheduler.probation.decided(ledger, self._now)
        contested = ledger.first_contested()
        if contested is not None:
            self._have_judged(contested, contradiction(ledger, contested, name), phase=ledger.phase)

    def _set_aside(self, ledger: RoundLedger, peers: list[Peer]) -> bool:
        """Where proven workers can do it instead, nothing counts that these newcomers have said.

        They are tried again later: else each of many claims would have to be judged. Returns
        whether anybody was set aside.
        """
        newcomers = [self.workers[p] for p in peers if p in self.workers]
        newcomers = [worker for worker in newcomers if not worker.proven]
        if ledger is not self.ledger or not self._somebody_is_proven():
            return False
        for worker in newcomers:
            ledger.discard(worker.peer)
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
        self._scheduler.probation.answered(trial, said, self.ledger, self._now)

    def _on_failure(self, worker: Worker, failure: messages.Failure) -> None:
        place, phase = failure.document, Phase(failure.step, failure.training)
        in_flight = [
            (p, s) for p, s in worker.in_flight if p == phase and 0 <= place - s.start < s.count
        ]
        worker.in_flight.difference_update(in_flight)
        shards = [shard for _, shard in in_flight]
        trial = self._scheduler.probation.awaited(worker.peer, phase, shards)
        if trial is not None:
            self._scheduler.probation.answered(trial, FAILURE, self.ledger, self._now)
        elif in_flight and self.closing is None and phase == self.ledger.phase:
            if not worker.proven and self._somebody_is_proven():
                self.ledger.give_back(worker.peer, shards[0])  # a claim that proven ones check
                self._scheduler.probation.rest(worker, self._now)
                self._dispatch()
                return
            reason = self._scheduler.describe(failure)
            name = self._membership.name
            self._refute(take_failure(self.ledger, worker.peer, shards[0], reason, self._now, name))
        self._dispatch()

    def _refute(self, refuted: Refuted) -> None:
        """Cut off workers that were proved wrong; their part of this step is done again."""
        for peer, _ in refuted:  # all of them before anything is decided without them
            self.ledger.discard(peer)
        for peer, reason in refuted:
            worker = self.workers.get(peer)
            if worker is not None:
                self._expel(worker, f"{reason}; earlier steps may rest on answers of it")

    # --- steps -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Give work to who is idle; finish the step if it is done, and the run if it cannot be."""
        if self.closing is not None or not self._ready:
            return
        self._scheduler.dispatch(self._ready, self._now)
        if self._case and self._case.applied and self._case.phase == self.ledger.phase:
            return
        if self.ledger.complete:  # maybe because the last missing second opinion was waived
            self._finish_phase()
            return
        dispute = self._dead_end()
        if dispute is not None:
            self._have_judged(*dispute)
        else:
            self._judge_a_trial()

    def _dead_end(self) -> tuple[Shard, str] | None:
        """A shard that the workers cannot settle, and what they say of it."""
        if not self.ledger.disputed:
            return None
        staff = self._scheduler.staff(self._ready)
        rest = {} if any(w.proven for w in staff.values()) else self.workers
        awaited = [
            peer
            for peer, worker in {**rest, **staff}.items()
            if not self._scheduler.stalled(worker, self._now)
        ]
        return dead_end(self.ledger, awaited, self._membership.name)

    def _have_judged(
        self, shard: Shard, reason: str, *, applied: bool = False, phase: Phase | None = None
    ) -> None:
        """Have a shard computed on this host: of the phase in hand, or of the one before."""
        if self._case is None and self.closing is None:
            phase = phase or self.ledger.phase
            self._case = Case(phase, shard, reason, applied)
            self._note_case(phase, shard, reason)
            self._out.add(self._scheduler.question(phase, shard))

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
                f"{place(trial.phase, trial.shard)}: one of them is broken"
            )
            step = trial.phase.step
            self._out.note("difference", reason, warning=True, workers=names, step=step)
            self._case = Case(trial.phase, trial.shard, reason, False, trial)
            self._judged_trial = self._now
            self._note_case(trial.phase, trial.shard, reason)
            self._out.add(trial.order.question(trial.shard))

    def _note_case(self, phase: Phase, shard: Shard, reason: str) -> None:
        text = f"the coordinator's host computes {place(phase, shard)} to see who is right"
        self._out.note("judge", text, warning=True, reason=reason)

    def _on_judged(self, event: events.Judged) -> None:
        case, self._case = self._case, None
        ledger = case and self._scheduler.ledger_of(case.phase)
        if case and case.trial and self.closing is None:
            self._weigh_trial(case.trial, event)
        elif case and ledger and self.closing is None:
            self._weigh(case, ledger, event)
        self._dispatch()

    def _weigh_trial(self, trial: Trial, event: events.Judged) -> None:
        """Part with who was wrong: the newcomer, or who is trusted."""
        if not isinstance(event.answer, messages.ShardResult):
            return  # it stays on probation
        gradient = read_gradient(event.answer, self._shapes)
        verdict = digest(event.answer.losses, gradient)
        reason = f"{place(trial.phase, trial.shard)} come to something else"
        reason = f"{reason} when computed by the coordinator"
        if trial.said != verdict:
            self._refute([(trial.worker.peer, reason)])
        else:
            self._scheduler.probation.passed(trial.worker)
        if trial.result != verdict:
            ledger = self._scheduler.ledger_of(trial.phase)
            if ledger is not None:
                ledger.judge(trial.shard, event.answer, gradient)
                self._refute(contradicted(ledger, trial.shard, "the coordinator"))
            self._refute([(trial.giver, reason)])

    def _weigh(self, case: Case, ledger: RoundLedger, event: events.Judged) -> None:
        """Go by what a shard has come to on this host."""
        if isinstance(event.answer, messages.ShardResult):
            ledger.judge(case.shard, event.answer, read_gradient(event.answer, self._shapes))
            self._refute(contradicted(ledger, case.shard, "the coordinator"))
        elif ledger is not self.ledger:
            return  # workers have settled it meanwhile
        elif event.answer is not None:
            self._close(Finish("failed", self._scheduler.describe(event.answer)))
        elif case.applied or not ledger.decided(case.shard):
            self._do_without_judge(case, event.reason)

    def _do_without_judge(self, case: Case, why: str) -> None:
        """Let workers vote on what could not be computed here; end the run if that cannot help."""
        self.ledger.let_vote()
        self._refute(contradicted(self.ledger, case.shard, "another worker"))
        dispute = (case.shard, case.reason) if case.applied else self._dead_end()
        if dispute is not None and self.closing is None:
            reason = f"{dispute[1]} (it could not be computed here: {why})"
            self._close(Finish("failed", reason))

    def _finish_phase(self) -> None:
        ledger = self.ledger
        try:
            done = self._scheduler.conclude(len(self._ready), self.times.worked)
        except ArithmeticError as error:
            if self._set_aside(ledger, [p for p in self.workers if ledger.incredible(p)]):
                self._dispatch()
                return
            reason, suspect = (
                f"{error}; a lower --learning-rate may help",
                self._scheduler.suspect(),
            )
            if suspect is None:
                self._close(Finish("failed", reason))
            else:
                self._have_judged(suspect, reason, applied=True)
            return
        self._scheduler.probation.close(ledger, self._now)
        if done is not None:
            self.training = done.after
            self._out.add(StepDone(done.record))
            if done.after.step >= self.config.steps:
                self._close(Finish("done", f"all {done.after.step} steps are done"))
                return
            if self.policy.saves(done.after):
                self._save()
            self._scheduler.begin(done.after, len(self._ready), self.times.worked)
        self._dispatch()

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
    events.Received: CoordinatorState._on_received,
    events.Misbehaved: CoordinatorState._on_misbehaved,
    events.Disconnected: CoordinatorState._on_disconnected,
    events.Tick: CoordinatorState._on_tick,
    events.Saved: CoordinatorState._on_saved,
    events.StopRequested: CoordinatorState._on_stop,
    events.Broken: CoordinatorState._on_broken,
    events.Judged: CoordinatorState._on_judged,
}
