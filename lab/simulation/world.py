"""The world of one schedule: places for processes, and the invariants that must hold.

Longer than 300 lines because what a place has met decides what may be said of who runs there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from random import Random
from typing import Any

from coordinator.core.actions import Finish
from coordinator.core.event_text import describe
from coordinator.core.events import (
    SCHEMA,
    Answered,
    Closing,
    Difference,
    EventBase,
    Expelled,
    Outcome,
    Silent,
    Started,
)
from coordinator.core.state import CoordinatorState, Policy
from coordinator.core.stragglers import STALLED_SECONDS
from lab.conditions import Conditions, Link, WorkerConditions
from lab.simulation.aggregators import VirtualAggregator
from lab.simulation.arithmetic import ReferenceRun, same_state
from lab.simulation.clock import Clock, InvariantViolationError
from lab.simulation.disk import Disk
from lab.simulation.event_audit import EventAudit
from lab.simulation.event_file import EventFile
from lab.simulation.failing import Failing
from lab.simulation.network import GOOD, Connection, CoordinatorEnd, Host, Network, WorkerEnd
from lab.simulation.plan import Plan
from lab.simulation.processes import VirtualCoordinator, VirtualWorker
from microgpt.numerics.vectors import all_finite
from microgpt.replicas.byzantine import Knowledge
from microgpt.strategies.base import Promise
from worker.state import Job, Leave

#: Seconds of virtual time for the rest of a run after the last fault: a constant and per step.
PATIENCE, PATIENCE_PER_STEP = 15.0, 3.0
HARDSHIP = 20.0  # by how much more time than usual under conditions, which never heal
SLOWEST = 8.0  # seconds that a shard takes at most, however slow the worker
QUIET = Conditions()
MAX_PENDING = 60  # calls put off, for each worker, and as many for the coordinator


class Slot:
    """A place where workers run, one after the other."""

    def __init__(
        self, world: World, number: int, is_byzantine: bool, kind: type[VirtualWorker]
    ) -> None:
        below = issubclass(kind, VirtualAggregator)
        what = "aggregator" if below else "worker"
        self.world, self.name, self.is_byzantine = world, f"{what}-{number}", is_byzantine
        self._number, self._kind = number, kind
        plain = is_byzantine or below
        self.meets = WorkerConditions() if plain else world.conditions.of(number)
        self.host = Host(world.usual_link if self.meets.link == Link() else self.meets.link)
        self.machine = self.meets.machine
        self.lie = world.plan.lie if is_byzantine else self.meets.lie  # in place of the truth
        self.worker: VirtualWorker | None = None
        self.connections: list[Connection] = []
        #: Whether something has happened that may keep its workers silent.
        self.harmed = is_byzantine or self.meets != WorkerConditions()
        self.garbles = False  # whether a message of its workers has been damaged on the way
        self.returns = True  # whether a worker that ends is followed by another
        self._starts = 0
        self._failing = Failing(world, self, number, self.meets.failures)

    def start(self) -> None:
        """Start a worker, unless one runs."""
        if self.worker is None and self.world.outcome is None:
            self._starts += 1
            self.worker = self._kind(self.world, self, self._starts)
            self._failing.begins(self.worker)

    @property
    def above(self) -> CoordinatorEnd | None:
        """See ``Place``."""
        aggregators, world = self.world.aggregators, self.world
        if not aggregators or self in aggregators:
            return world.coordinator
        roams = world.plan.roams
        slot = (
            world.rng.choice(aggregators) if roams else aggregators[self._number % len(aggregators)]
        )
        return slot.worker.below if isinstance(slot.worker, VirtualAggregator) else None

    def worker_gone(self, worker: WorkerEnd) -> None:
        """A process has ended. What it said may come late, and it be taken for one that lives."""
        self.harmed = self.harmed or self.world.network.stale > 0.0
        if self.worker is worker:
            self.worker = None
            if self.world.stopping:
                return
            if self.returns or (self.world.healed and not self.is_byzantine):
                self.world.clock.after(self.world.rng.uniform(0.1, 1.0), self.start)

    def left(self, leave: Leave) -> None:
        """A worker ends by its own will: it is not started again, except if it left for a while."""
        if leave.outcome == "refused":
            self.returns = False

    def seconds_for(self, job: Job) -> float:
        """How long a job takes here."""
        plan, calls = self.world.plan, getattr(job.task, "steps", 0) or 1  # local steps
        seconds = job.task.count * plan.document_seconds + calls * plan.call_seconds
        least, most = 1 - plan.noise, 1 + plan.noise
        # As Random.uniform does it, which is a call more.
        seconds *= self.machine.slowness * (least + (most - least) * self.world.rng.random())
        return seconds if seconds < SLOWEST else SLOWEST


class World:
    """Everything in one schedule. ``outcome`` is how the run has ended, None while it has not."""

    #: What processes are made of, and the link of workers of whom nothing is said.
    coordinator_kind: type[VirtualCoordinator] = VirtualCoordinator
    worker_kind: type[VirtualWorker] = VirtualWorker
    usual_link = GOOD

    def __init__(
        self,
        plan: Plan,
        reference_run: ReferenceRun,
        folder: Path | None,
        trace: bool,
        conditions: Conditions = QUIET,
    ) -> None:
        self.plan, self.reference_run, self.conditions = plan, reference_run, conditions
        promised = reference_run.strategy.promise is Promise.EXACT
        self._exact = promised and not conditions.have_lies
        self.knowledge = Knowledge(plan.slots) if conditions.have_lies else None
        self._lies = plan.byzantine is not None or conditions.have_lies
        self.rng = Random(plan.seed ^ 0x5EED)
        self.clock = Clock(trace)
        self.network = Network(self.clock, self.rng)
        self.network.stale, self.network.twice = plan.stale, plan.twice
        self.network.detects, self.network.codec = plan.detects, plan.codec
        self.disk = Disk(self.clock, reference_run, folder)
        self.coordinator: VirtualCoordinator | None = None
        self.outcome: Finish | None = None
        self.epochs = 0
        self.metrics: list[Mapping[str, Any]] = []
        self.healed = False
        self.stopping = False  # processes end now that whoever ends them will start again
        self.jumps = 0  # standstills of the coordinator; many at once do look like silence
        self.slots = [
            Slot(self, number + 1, is_byzantine=False, kind=self.worker_kind)
            for number in range(plan.slots)
        ]
        self.aggregators = [
            Slot(self, number + 1, is_byzantine=False, kind=VirtualAggregator)
            for number in range(plan.aggregators)
        ]
        self.slots += self.aggregators
        self.documents = Counter[str]()  # that each worker has answered for
        self._differences = 0
        self._closing: Outcome | None = None  # how the epoch that ends was to end
        self._event_audit, self.events = EventAudit(0), EventFile()

    # --- a run -----------------------------------------------------------------------------------

    def start_coordinator(self) -> None:
        """Start an epoch of the coordinator, from the newest good checkpoint."""
        if self.coordinator is not None or self.outcome is not None:
            return
        plan, reference_run = self.plan, self.reference_run
        self.epochs += 1
        self._closing = None
        state = self.disk.go_on()
        training = state or reference_run.states[0]
        self._event_audit = EventAudit(training.step)
        self.clock.trace("coordinator", f"starts epoch {self.epochs} after step {training.step}")
        self.metrics = [line for line in self.metrics if line["step"] <= training.step]
        policy = Policy(
            plan.shard_size,
            plan.checkpoint_every,
            plan.worker_timeout,
            plan.verify_fraction,
            max(1, plan.eval_every),
            plan.save_evaluated,
            plan.events,
            plan.snapshot_every,
        ).recording(reference_run.strategy)
        run, steps = "run" if state else f"run{self.epochs}", reference_run.config.steps
        where = training.step, steps, policy.events, training.next_document
        self.told(Started(SCHEMA, run, f"epoch{self.epochs}", *where))
        self.coordinator = self.coordinator_kind(
            self,
            CoordinatorState(
                reference_run.config,
                reference_run.corpus,
                training,
                policy,
                run=run,
                epoch=f"epoch{self.epochs}",
                strategy=reference_run.strategy,
                traffic=self.network.traffic,
            ),
        )

    def coordinator_gone(self, *, killed: bool, finish: Finish | None = None) -> None:
        """An epoch has ended: another one follows, unless the run is over."""
        self.coordinator = None
        if finish is not None:
            excused = self.disk.condition.full
            if finish.outcome == "done":
                self.outcome = finish
                self.clock.stop()
                return
            if self._closing is not Outcome.FAILED:  # the disk has not taken the last checkpoint
                excused = True
            if finish.outcome == "failed" and not excused:
                self.broken(f"the run has failed: {finish.reason}")
        if self.stopping:
            return
        self.clock.after(self.rng.uniform(0.05, 1.0 if killed else 2.0), self.start_coordinator)

    # --- promises --------------------------------------------------------------------------------

    def broken(self, what: str) -> None:
        """A promise is broken."""
        raise InvariantViolationError(what)

    def step_done(self, record: Mapping[str, Any], state: CoordinatorState) -> None:
        """Every step must follow the one before and, if the strategy promises its bits, have those
        of the quiet run.
        """
        step = record["step"]
        last = self.metrics[-1]["step"] if self.metrics else 0
        if step != last + 1:
            self.broken(f"step {step} is recorded after step {last}")
        if not self._exact:  # timing decides; and several steps may be done at once
            if state.training.step < step or not isfinite(record["loss"]):
                self.broken(f"step {step} is recorded, and cannot be")
        elif not same_state(state.training, self.reference_run.states[step]):
            self.broken(f"step {step} has other bits than in the quiet run")
        elif record["documents"] % self.reference_run.config.batch_size:  # whole batches
            self.broken(f"step {step} has counted {record['documents']} documents")
        self.metrics.append(record)
        self.clock.trace("coordinator", f"step {step} done")

    def judging(self) -> None:
        """A shard is computed at the coordinator's, which honest workers never make necessary."""
        if not self._lies:
            self.broken("honest workers have a shard judged")

    def told(self, event: EventBase) -> None:
        """Look for events that must not be."""
        self.events.add(event)
        if wrong := self._event_audit.take(event):
            self.broken(wrong)
        if isinstance(event, Answered):
            self.documents[event.name] += event.count
        elif isinstance(event, Closing):
            self._closing = event.outcome
        else:
            self.check_told(event)

    def check_told(self, event: EventBase) -> None:
        """Look for events that must not be, whoever gives out work."""
        if isinstance(event, Difference):
            self._differences += 1
            if not self._lies:
                self.broken(f"honest workers are said to differ: {describe(event)}")
        elif isinstance(event, Silent | Expelled):
            slot = next(slot for slot in self.slots if slot.name == event.name)
            excused = slot.harmed or self.jumps >= 3
            if isinstance(event, Expelled):
                excused = slot.garbles or slot.is_byzantine or bool(slot.lie)
            if not excused:
                self.broken(f"a worker is given up without a cause: {describe(event)}")

    def audit(self, state: CoordinatorState) -> None:
        """What must hold at any time."""
        if state.closing is None:
            try:
                for ledger in state.ledgers:
                    ledger.audit()
            except AssertionError as error:
                self.broken(str(error))
            for ledger in state.ledgers:
                if any(
                    ledger.assignees(shard).keys() - state.workers.keys() for shard in ledger.all
                ):
                    self.broken("a shard is in flight at a worker that is not there")
        places = len(self.slots) + 1
        waiting = 10 * MAX_PENDING if self.conditions.have_links else MAX_PENDING
        if self.clock.pending > waiting * places:
            self.broken(f"{self.clock.pending} things are waiting to happen")
        if len(state.workers) > 4 * places:
            self.broken(f"{len(state.workers)} workers are known at {places} places")

    def deadline(self) -> None:
        """The time for the rest of the run is over."""
        if self.outcome is None:
            step = self.coordinator.state.training.step if self.coordinator else "no coordinator"
            self.broken(f"no end in sight after the last fault, at step {step}")

    def patience(self) -> float:
        """Seconds in which the rest of the run must be done once nothing goes wrong any more."""
        lazy = (
            STALLED_SECONDS if self.plan.byzantine is not None and self.plan.lie == "lazy" else 0.0
        )
        config = self.reference_run.config
        more = self.reference_run.states[-1].next_document / config.batch_size  # usually the steps
        hard = HARDSHIP if self.conditions != QUIET else 1.0
        return hard * (PATIENCE + lazy * 1.5 + PATIENCE_PER_STEP * more)

    def check_end(self) -> None:
        """What must hold when the run is over. Raises InvariantViolationError."""
        steps = self.reference_run.config.steps
        if [line["step"] for line in self.metrics] != list(range(1, steps + 1)):
            self.broken(f"the record has the steps {[line['step'] for line in self.metrics]}")
        final = self.disk.newest()
        if not self._exact:
            if final is None or final.step != steps or not all_finite(final.params):
                self.broken("the last checkpoint is not that of the last step")
            return
        after = self.reference_run.states[1:]
        if [line["loss"] for line in self.metrics] != [state.losses[-1] for state in after]:
            self.broken("the record has other losses than the quiet run")
        seen = [state.validation for state in after]
        fresh = [now.loss if now and now.step == step else None for step, now in enumerate(seen, 1)]
        if [line.get("validation_loss") for line in self.metrics] != fresh:
            self.broken("the record has other validation losses than the quiet run")
        if final is None or not same_state(final, self.reference_run.states[-1]):
            self.broken("the last checkpoint is not that of the quiet run")
