"""Play one schedule from beginning to end, faults included, and say what has become of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lab.conditions import Conditions
from lab.simulation import arithmetic, faults
from lab.simulation.clock import InvariantViolationError
from lab.simulation.plan import Plan
from lab.simulation.processes import VirtualWorker
from lab.simulation.replayed import what_differs
from lab.simulation.world import QUIET, Slot, World
from microgpt.distribution import Distribution
from microgpt.strategies.base import Promise, Strategy
from microgpt.training import TrainingState


@dataclass
class Result:
    """What has become of a schedule: ``problem`` is empty if every promise was kept.

    ``documents``: how many each worker's answers were about. ``final``: the last state saved.
    """

    plan: Plan
    problem: str = ""
    trace: list[str] = field(default_factory=list)
    events: int = 0
    messages: int = 0
    epochs: int = 0
    virtual_seconds: float = 0.0
    aftermath: float = 0.0
    documents: dict[str, int] = field(default_factory=dict)
    final: TrainingState | None = None


def play(
    plan: Plan,
    engine: str,
    folder: Path | None = None,
    trace: bool = False,
    strategy: Strategy = arithmetic.SYNC,
    distribution: Distribution = arithmetic.PLAIN,
    conditions: Conditions = QUIET,
) -> Result:
    """Run a schedule under these conditions and say what has become of it."""
    reference_run = arithmetic.reference_run(
        plan.steps,
        plan.batch_size,
        engine,
        plan.eval_every,
        strategy,  # type: ignore[arg-type]  # frozen
        distribution,
    )
    world = World(plan, reference_run, folder, trace, conditions)
    result = Result(plan, trace=world.clock.lines)
    try:
        _until_the_end(world)
    except InvariantViolationError as error:
        result.problem = str(error)
    except Exception as error:  # whatever it is, the seed must be told
        result.problem = f"{type(error).__name__}: {error}"
    result.events, result.messages = world.clock.events, world.network.sent
    result.epochs, result.virtual_seconds = world.epochs, world.clock.now
    result.aftermath = world.clock.now - plan.heals_at
    result.documents = dict(world.documents)
    result.final = None if result.problem else world.disk.newest()
    return result


def _until_the_end(world: World) -> None:
    """Start the processes, let the faults happen, and check. Raises InvariantViolationError."""
    plan, rng = world.plan, world.rng
    world.start_coordinator()
    for slot in world.slots:
        late = rng.random() < 0.2 and plan.byzantine is None
        world.clock.after(2.0 if late else rng.uniform(0.0, 0.3), slot.start)
    if plan.byzantine is not None:
        # They come when the others are there: alone they would be believed.
        for number in range(plan.num_byzantine):
            world.slots.append(
                Slot(world, plan.byzantine + number + 1, is_byzantine=True, kind=VirtualWorker)
            )
            world.slots[-1].returns = False
            world.clock.after(0.7, world.slots[-1].start)
    for fault in plan.faults:
        world.clock.after(fault.at, faults.happen, world, fault)
    world.clock.after(plan.heals_at, faults.heal, world)
    world.clock.run()
    world.check_end()
    replayable = world.reference_run.strategy.promise is Promise.REPLAYABLE
    # Who said what is on record, and not whether it was true.
    if replayable and not world.conditions.have_lies and (wrong := what_differs(world)):
        world.broken(wrong)
