"""How a run is conducted, as the user wants it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coordinator.core.events import Level
from microgpt.strategies.base import Promise, Strategy
from microgpt.training import TrainingState


@dataclass(frozen=True)
class Policy:
    """How the run is conducted; none of this has any influence on its bits.

    ``shard_size`` None means: chosen anew for each step from the number of workers. Times are in
    seconds. ``verify_fraction`` of the shards are computed by two workers and compared. Held-out
    documents are evaluated after every ``eval_every`` steps, and after the last one;
    ``save_evaluated``: each time that makes a checkpoint. ``events``: how much is told of the run.
    ``snapshot_every``: after so many tasks of a replica, or fewer, its state is asked for; 0: as
    ``coordinator.core.work_order`` has it.
    """

    shard_size: int | None = None
    checkpoint_every: int = 100
    worker_timeout: float = 1.5
    verify_fraction: float = 0.0
    eval_every: int = 100
    save_evaluated: bool = False
    events: Level = Level.SUMMARY
    snapshot_every: int = 0

    def recording(self, strategy: Strategy) -> Policy:
        """The policy for a run with this strategy: what it needs to be replayed is recorded."""
        if strategy.promise is Promise.EXACT or self.events.has(Level.ROUNDS):
            return self
        return replace(self, events=Level.ROUNDS)

    def evaluates(self, step: int, steps: int) -> bool:
        """Whether held-out documents are evaluated after ``step`` of ``steps`` updates."""
        return step % self.eval_every == 0 or step == steps

    def saves(self, state: TrainingState) -> bool:
        """Whether this state, which is not the last, is written to disk."""
        evaluated = state.validation is not None and state.validation.step == state.step
        return state.step % self.checkpoint_every == 0 or (self.save_evaluated and evaluated)
