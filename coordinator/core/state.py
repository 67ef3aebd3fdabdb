"""All decisions of the coordinator: an event and the time in, actions out. No I/O, no clock.

A result's way, which ``_go_on`` leads along: it enters the ledger of its round (``results``), the
round closes and the strategy updates the state (``round_closer``), the strategy opens rounds, and
their shards are assigned (``scheduler``). What workers cannot settle is judged (``judging``).

The arithmetic of ``microgpt.training`` decides the bits: shards may be given twice, lost and given
again, answered late or in any order. A handler (``_HANDLERS``) says whether there is more to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from coordinator.core import inputs
from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.actions import Action, Finish
from coordinator.core.clock import Clock
from coordinator.core.control import Control
from coordinator.core.ending import Ending
from coordinator.core.judging import Judging
from coordinator.core.look_ahead import LookAhead
from coordinator.core.membership import Membership, Worker
from coordinator.core.policy import Policy
from coordinator.core.pulses import Pulses, no_traffic
from coordinator.core.replicas import Replicas
from coordinator.core.results import Results
from coordinator.core.round_closer import RoundCloser
from coordinator.core.round_documents import CorpusDocuments
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.rounds import Rounds
from coordinator.core.scheduler import Scheduler
from coordinator.core.tally import Traffic
from coordinator.core.work_times import WorkTimes
from coordinator.core.worker_inputs import WorkerInputs
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.model import parameter_shapes
from microgpt.parameters import ParameterShapes
from microgpt.protocol import messages
from microgpt.replicas.recipe import recipe_of, to_plain
from microgpt.strategies.base import Strategy, StrategyError, no_lap
from microgpt.strategies.driver import RoundDriver
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState

__all__ = ["CoordinatorState", "Policy", "Worker"]


class CoordinatorState:
    """The coordinator of run ``run`` in its epoch ``epoch``; see ``handle``.

    ``libm``: digest of what our C library computes, to compare workers' with. ``strategy`` (None:
    ``Sync``) says which rounds there are and what comes of them; ``lap``: see ``RoundDriver``.
    ``traffic`` says how much has gone to and come from a peer, if it is there and that is known.
    ``workers`` maps peers to workers as they joined. ``times``: how long some of them were ready.
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
        lap: Callable[[str], None] = no_lap,
        traffic: Callable[[inputs.Peer], Traffic | None] = no_traffic,
    ) -> None:
        self.config, self.corpus, self.policy = config, corpus, policy.recording(strategy or Sync())
        self.run, self.epoch, self.times = run, epoch, WorkTimes()
        self._clock = Clock(policy.worker_timeout / 4)
        self._driver = RoundDriver(
            strategy or Sync(), config, training, held_out=len(corpus.validation),
            evaluates=lambda step: policy.evaluates(step, config.steps), lap=lap,
        )  # fmt: skip
        out = self._out = ActionBuffer(self.policy.events)
        self._pulses = Pulses(out, traffic)
        shapes, model = ParameterShapes(parameter_shapes(config.model)), config.model.to_dict()
        replicas = Replicas(run, epoch, recipe := recipe_of(config))
        replicas.restore(training.replicas, config, corpus)
        rounds = Rounds(CorpusDocuments(config, corpus), policy, run, epoch)
        scheduler = self._scheduler = Scheduler(rounds, policy, out, replicas)
        members = self._membership = Membership(
            out, run, epoch, policy.worker_timeout, model, libm, scheduler.in_flight,
            scheduler.release, to_plain(config), self._pulses.tell,
        )  # fmt: skip
        self.workers, self._ready = members.workers, members.ready
        ending = self._ending = Ending(out, members, self._driver, replicas)
        control = self._control = Control(out, self._driver, ending)
        self.look_ahead = LookAhead(self._driver, scheduler, members, ending, control)
        judging = self._judging = Judging(out, members, scheduler, ending, shapes, recipe)
        results = Results(out, members, scheduler, judging, ending, shapes, recipe)
        self._from_workers = WorkerInputs(
            out, run, epoch, policy.worker_timeout, members, scheduler, judging, results, ending
        )
        self._closer = RoundCloser(
            out, self._driver, policy, self.times, members, scheduler, results, judging, ending,
            control,
        )  # fmt: skip

    @property
    def training(self) -> TrainingState:
        """The state after the last step done."""
        return self._driver.state

    @property
    def resumable(self) -> TrainingState:
        """The same with all that is known of replicas: what to save."""
        return self._ending.resumable

    @property
    def closing(self) -> Finish | None:
        """None while training goes on, else the outcome that is being carried out."""
        return self._ending.closing

    @property
    def finished(self) -> bool:
        """Whether the run is over and its state saved."""
        return self._ending.finished

    @property
    def paused(self) -> bool:
        """Whether no work is given out, as somebody wants it."""
        return self._control.paused

    @property
    def ledgers(self) -> list[RoundLedger]:
        """The ledgers of the open rounds, oldest first."""
        return [round.ledger for round in self._scheduler.rounds.open.values()]

    @property
    def missed(self) -> list[Worker]:
        """Workers that have gone without a word, for people to see: ``gone`` says how."""
        return self._membership.still_missed(self._clock.now)

    def silence(self, worker: Worker) -> float:
        """Seconds since the worker was last heard of."""
        return max(0.0, self._clock.now - worker.heard)

    def start(self, now: float) -> list[Action]:
        """Begin. The first actions save the state that the run begins with."""
        self._clock.start(now)
        self._out.begin(now)
        self._ending.save()
        if self._driver.complete:
            self._ending.close("done", "the run was complete already")
        else:
            self._go_on()
        return self._out.actions

    def handle(self, event: inputs.Input, now: float) -> list[Action]:
        """Take in what happened at ``now`` (seconds of any steady clock); return what to do.

        An error in handling what a peer sent costs the peer; any other is raised.
        """
        self._advance_time(now)
        self._out.begin(self._clock.now)
        if not self._ending.finished:
            try:
                if _HANDLERS[type(event)](self, event):
                    self._go_on()
            except Exception as error:
                if not isinstance(event, (inputs.Received, inputs.Misbehaved)):
                    raise
                self._on_fault(event, error)
        elif isinstance(event, inputs.Received) and isinstance(event.message, messages.Hello):
            self._on_received(event)  # only to be sent home
        return self._out.actions

    def _advance_time(self, now: float) -> None:
        passed = self._clock.advance(now)
        if self._ending.closing is None:
            self.times.add(passed, bool(self._ready), paused=self._control.paused)

    def _on_fault(self, event: inputs.Received | inputs.Misbehaved, error: Exception) -> None:
        """Part with a peer whose message could not be handled. Raises AssertionError."""
        self._from_workers.remove_faulty(event, error)
        self._go_on()
        if self.closing is None:
            self._from_workers.audit()

    def _go_on(self) -> None:
        """Go as far as it goes with what has just been entered. The run ends if it cannot go on."""
        if self._ending.closing is not None or self._closer.only_waits():
            return
        self._membership.tell_idle(self.training.step)
        now = self._clock.now
        try:
            self._closer.close_rounds(now)
            while self.closing is None and not self.paused:
                self._scheduler.open_rounds(self._driver, self._ready, self.times.worked, now)
                if self._ready:
                    self._scheduler.dispatch(self._ready, now)
                if not self._closer.close_rounds(now):
                    break
        except StrategyError as error:
            self._ending.close("failed", str(error))
        if self._ready and self.closing is None:
            self._judging.settle(now)

    def _on_received(self, event: inputs.Received) -> bool:
        return self._from_workers.received(event, self._clock.now)

    def _on_tick(self, event: inputs.Tick) -> bool:
        now = self._clock.now
        self._membership.remove_silent(now)
        if self.closing is None:
            self._pulses.tick(self._ready.values(), now)
        if self.closing is None and not self.paused:
            self._from_workers.see_to_slow_ones(now)
        self._ending.tick(now)
        return True  # what waited for somebody may go on without

    def _on_judged(self, event: inputs.Judged) -> bool:
        self._judging.take_verdict(event, self._clock.now)
        return True

    def _on_end(self, event: inputs.Saved | inputs.StopRequested | inputs.Broken) -> bool:
        self._ending.take(event)
        return False

    def _on_asked(self, event: inputs.Asked) -> bool:
        self._control.take(event, self._clock.now)
        return True


_HANDLERS: dict[type[Any], Callable[[CoordinatorState, Any], bool]] = {
    inputs.Received: CoordinatorState._on_received,
    inputs.Misbehaved: lambda state, event: state._from_workers.misbehaved(event),
    inputs.KeyRevoked: lambda state, event: state._from_workers.misbehaved(event),
    inputs.Disconnected: lambda state, event: state._from_workers.disconnected(event),
    inputs.Tick: CoordinatorState._on_tick,
    inputs.Idle: lambda state, event: state.look_ahead.take(event),
    inputs.Saved: CoordinatorState._on_end,
    inputs.StopRequested: CoordinatorState._on_end,
    inputs.Broken: CoordinatorState._on_end,
    inputs.Judged: CoordinatorState._on_judged,
    inputs.Asked: CoordinatorState._on_asked,
}
