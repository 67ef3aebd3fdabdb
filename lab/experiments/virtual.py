"""One run of an experiment in virtual time: real arithmetic, the decisions of production, and
times that were measured. Its trust in them is that of ``lab.simulation``, which checks them; here
they are not checked again, so that a strategy that is wrong may show how.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from coordinator.core.actions import Finish
from coordinator.core.events import EventBase, Ready, Recorded, RoundClosed, RoundOpened, Started
from coordinator.core.level import Level
from coordinator.core.state import CoordinatorState
from lab.conditions import DOWN, UP, Link
from lab.experiments import kept_weights
from lab.experiments.checks import Prepared
from lab.experiments.measurement import DONE, FAILED, Measurement, measured
from lab.experiments.one_machine import (
    SharedMachine,
    SharingCoordinator,
    SharingWorker,
)
from lab.experiments.one_machine_costs import OneMachine
from lab.experiments.simulation import Simulation
from lab.simulation import faults
from lab.simulation.arithmetic import Calculator, ReferenceRun
from lab.simulation.clock import InvariantViolationError
from lab.simulation.plan import WRONG_BIT, Plan
from lab.simulation.world import World
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.engine import make_engine
from microgpt.engine.answering import Answerer
from microgpt.engine.base import Engine
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.protocol import messages
from microgpt.replicas.byzantine import Knowledge, Liar
from microgpt.replicas.lies import KINDS
from microgpt.replicas.recipe import recipe_of
from microgpt.training import initial_state, to_checkpoint
from worker.state import Job

WORKER_TIMEOUT = 10.0  # seconds, likewise
MOST_QUEUED = 10**6  # what is done again may be much
HESITATION = 1e-6  # all workers are there when training begins
PATIENCE = 1e7  # seconds of virtual time for a run
KEPT = (Started, Ready, RoundOpened, RoundClosed)


class FailedRunError(Exception):
    """The training has failed; the message says why."""


def run(
    prepared: Prepared,
    workers: int,
    settings: Any,
    simulation: Simulation,
    corpus: Corpus,
    keep: Callable[[Mapping[int, Vector]], None] = kept_weights.forget,
) -> Measurement:
    """Train, and say what was seen. Raises OwnCodeError for what the user's own classes do.

    ``keep`` is given the weights after each evaluated step.
    """
    config = prepared.config
    engine = make_engine(settings["engine"], config.model)
    corpus.divide(config)
    calculate = Computing(engine, config)
    quiet = ReferenceRun(
        config, corpus, calculate, (initial_state(config, corpus),), prepared.strategy
    )
    plan = _plan(config, workers, settings, simulation)
    machine = simulation.machine
    world = (
        Observed(plan, quiet, None, False, prepared.conditions)
        if machine is None
        else OnOneMachine(machine, plan, quiet, None, False, prepared.conditions)
    )
    outcome = {"outcome": DONE}
    try:
        world.start_coordinator()
        for slot in world.slots:
            slot.start()
        faults.heal(world)
        world.clock.run()
    except (FailedRunError, InvariantViolationError) as error:
        outcome = {"outcome": FAILED, "reason": str(error)}
    final = world.disk.newest()
    if final is not None:
        checkpoint = to_checkpoint(
            config, final, corpus.tokenizer, {"name": "simulated"}, "simulated"
        )
        outcome["state_sha256"] = checkpoint.state_sha256
    keep(world.weights)
    return measured(world.metrics, world.moved, world.recorded, **outcome)


def _plan(config: TrainingConfig, workers: int, settings: Any, simulation: Simulation) -> Plan:
    call, document = simulation.call_microseconds, simulation.document_microseconds
    return Plan(
        seed=config.seed + (settings.get("repeat", 0) << 64),  # another one than any run has
        steps=config.steps, batch_size=config.batch_size, slots=workers,
        document_seconds=1e-6 * (document or 0.0), call_seconds=1e-6 * (call or 0.0),
        noise=simulation.noise, shard_size=None, checkpoint_every=settings["checkpoint_every"],
        verify_fraction=settings["verify_fraction"], faults=(), heals_at=0.0, stale=0.0, twice=0.0,
        detects=True, codec=True, byzantine=None, eval_every=settings["eval_every"],
        save_evaluated=False, lie=WRONG_BIT, num_byzantine=0, hesitation=HESITATION,
        worker_timeout=WORKER_TIMEOUT, most_queued=MOST_QUEUED,
        snapshot_every=settings["snapshot_every"], start_seconds=simulation.start_seconds,
        events=Level.ROUNDS,  # as in real runs
    )  # fmt: skip


class Computing(Calculator):
    """An engine that computes each shard at once, as real ones do."""

    def __init__(self, engine: Engine, config: TrainingConfig) -> None:
        super().__init__(engine.gradients, config)
        self._engine, self._config = engine, config

    def answerer(
        self, lie: str = "", seed: int = 0, knowledge: Knowledge | None = None
    ) -> Answerer:
        """See ``Calculator.answerer``."""
        shapes, recipe = parameter_shapes(self._config.model), recipe_of(self._config)
        liar = Liar(lie, seed, knowledge) if lie in KINDS else knowledge
        return Answerer(self._engine, shapes, recipe, liar)

    def __call__(
        self, job: Job, seconds: float, answerer: Answerer, lie: bool = False
    ) -> messages.ShardResult:
        """The answer to a job. Raises FailedRunError where there is no finite one."""
        if job.replica is not None:
            answerer.restore(job.replica)
        answer = answerer.answer(job.weights, job.task)
        if isinstance(answer, messages.Failure):
            raise FailedRunError(f"step {job.task.step + 1}: {answer.reason}")
        return replace(answer, seconds=seconds)


class Observed(World):
    """A world that keeps what was seen in it, and does not ask whether the bits are right."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._exact = False
        self.recorded: list[Recorded] = []
        self.moved: list[tuple[int, int]] = []
        self.weights: dict[int, Vector] = {}  # of each evaluated step

    def told(self, event: EventBase) -> None:
        """Keep it with the virtual time, if it is about rounds."""
        if isinstance(event, KEPT):
            self.recorded.append(Recorded(self.clock.now, 0, event))

    def step_done(self, record: Any, state: CoordinatorState) -> None:
        """A step is done: so many bytes have been under way."""
        super().step_done(record, state)
        del self.moved[len(self.metrics) - 1 :]
        self.moved.append((self.network.bytes[DOWN], self.network.bytes[UP]))
        if "validation_loss" in record:
            self.weights[record["step"]] = state.training.params

    def coordinator_gone(self, *, killed: bool, finish: Finish | None = None) -> None:
        """The run is over. Raises FailedRunError if it has failed."""
        if finish is not None and finish.outcome == "failed":
            raise FailedRunError(finish.reason)
        super().coordinator_gone(killed=killed, finish=finish)

    def audit(self, state: CoordinatorState) -> None:
        """What must hold is checked where failures are played."""

    def judging(self) -> None:
        """Honest workers and liars alike may be judged."""

    def patience(self) -> float:
        """A run may take as long as it wants to."""
        return PATIENCE


class OnOneMachine(Observed):
    """The same with all processes on one machine, without links but for those that are wanted."""

    coordinator_kind = SharingCoordinator
    worker_kind = SharingWorker
    usual_link = Link()

    def __init__(self, setting: OneMachine, plan: Plan, *given: Any) -> None:
        super().__init__(plan, *given)
        self.machine = SharedMachine(self.clock, setting, min(plan.slots, plan.batch_size))
