"""A run with virtual workers, for ``microgpt.train(..., simulate=True)``: real arithmetic, virtual
time, and the decisions of production. Nothing goes wrong in it but what ``link`` says.

A document takes ``DOCUMENT_SECONDS`` of virtual time, about what the tape engine takes for a name.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from coordinator.core.event_json import to_json
from coordinator.core.events import EventBase, Recorded
from coordinator.core.state import CoordinatorState
from lab.condition_texts import read_conditions
from lab.conditions import DOWN, UP
from lab.simulation import faults
from lab.simulation.arithmetic import Calculator, DocumentByDocument, ReferenceRun
from lab.simulation.clock import InvariantViolationError
from lab.simulation.plan import WRONG_BIT, Plan
from lab.simulation.world import World
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.data.documents import Dataset
from microgpt.engine import make_engine
from microgpt.result import TrainingResult
from microgpt.strategies import serial
from microgpt.strategies.base import Strategy
from microgpt.training import Validation, initial_state, to_checkpoint

DOCUMENT_SECONDS = 1e-5
CHECKPOINT_EVERY = 100

Report = Callable[[int, float], None]


def run(
    strategy: Strategy,
    config: TrainingConfig,
    dataset: Dataset,
    corpus: Corpus,
    workers: int,
    *,
    engine: str,
    eval_every: int,
    link: tuple[str, ...] = (),
    progress: Report | None = None,
) -> TrainingResult:
    """Train; see ``microgpt.train``. Raises ValueError for a link that cannot be, and
    InvariantViolationError, with the reason, if the run fails.
    """
    conditions = read_conditions(workers, link=link)
    compute = make_engine(engine, config.model).gradients
    start = initial_state(config, corpus)
    one_by_one = DocumentByDocument(compute, config.model.block_size)
    states = serial.run(
        strategy, config, corpus, start, one_by_one,
        evaluates=lambda step: step % eval_every == 0 or step == config.steps,
    )  # fmt: skip
    quiet = ReferenceRun(config, corpus, Calculator(compute, config), (start, *states), strategy)
    world = Told(plan_for(config, workers, eval_every), quiet, None, False, conditions)
    world.progress = progress
    world.start_coordinator()
    for slot in world.slots:
        world.clock.after(world.rng.uniform(0.0, 0.1), slot.start)
    faults.heal(world)
    world.clock.run()
    world.check_end()
    return world.result(dataset)


def plan_for(config: TrainingConfig, workers: int, eval_every: int) -> Plan:
    """A schedule in which nothing goes wrong."""
    return Plan(
        seed=config.seed, steps=config.steps, batch_size=config.batch_size, slots=workers,
        document_seconds=DOCUMENT_SECONDS, shard_size=None, checkpoint_every=CHECKPOINT_EVERY,
        verify_fraction=0.0, faults=(), heals_at=0.0, stale=0.0, twice=0.0, detects=True,
        codec=True, byzantine=None, eval_every=eval_every, save_evaluated=False, lie=WRONG_BIT,
        num_byzantine=0,
    )  # fmt: skip


class Told(World):
    """A world that keeps what was told of it."""

    progress: Report | None = None

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.recorded: list[Recorded] = []
        self._steps_done = 0

    def told(self, event: EventBase) -> None:
        """Keep it with the virtual time."""
        super().told(event)
        self.recorded.append(Recorded(self.clock.now, self._steps_done, event))  # type: ignore[arg-type]  # there are no others

    def step_done(self, record: Any, state: CoordinatorState) -> None:
        """Tell whoever waits."""
        super().step_done(record, state)
        self._steps_done = record["step"]
        if self.progress is not None:
            self.progress(record["step"], record["loss"])

    def result(self, dataset: Dataset) -> TrainingResult:
        """What the run has come to. Raises InvariantViolationError if it has saved nothing."""
        state, quiet = self.disk.newest(), self.reference_run
        if state is None:
            raise InvariantViolationError("nothing was saved")
        corpus, run = quiet.corpus, f"simulated-{quiet.config.seed}"
        validations = tuple(
            Validation(line["step"], line["validation_loss"])
            for line in self.metrics
            if "validation_loss" in line
        )
        return TrainingResult(
            to_checkpoint(quiet.config, state, corpus.tokenizer, dataset.fingerprint(), run),
            tuple(line["loss"] for line in self.metrics),
            validations,
            sum(line["seconds"] for line in self.metrics),
            self.network.bytes[DOWN],
            self.network.bytes[UP],
            tuple(json.loads(to_json(recorded)) for recorded in self.recorded),
        )
