"""Which checkpoints of a run may be deleted. Pure: no files, no clock."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A good checkpoint: its step, and its loss on held-out documents if that was measured."""

    step: int
    validation_loss: float | None = None


@dataclass(frozen=True)
class Retention:
    """The rules. A checkpoint that any of them keeps is kept; without rules all are.

    ``keep_last``: the newest so many. ``keep_every``: those of every so many steps, the initial
    state (step 0) among them. ``keep_best``: the so many with the lowest validation loss; of equal
    ones the earlier is the better.
    """

    keep_last: int | None = None
    keep_every: int | None = None
    keep_best: int | None = None

    @property
    def keeps_all(self) -> bool:
        """Whether nothing is ever deleted."""
        return self.keep_last is None and self.keep_every is None and self.keep_best is None

    @property
    def keeps_two(self) -> bool:
        """Whether there is an older checkpoint beside the newest, as soon as one was written."""
        return self.keeps_all or (self.keep_last or 0) >= 2

    def wants(self, entry: Entry) -> bool:
        """Whether this one may stay when others have come: rather skip another for a newer one."""
        if self.keep_every is not None and entry.step % self.keep_every == 0:
            return True
        return self.keep_best is not None and entry.validation_loss is not None

    def to_delete(self, entries: Collection[Entry], newest: int) -> list[int]:
        """Steps of the checkpoints that no rule keeps, in ascending order.

        ``entries`` are all good checkpoints of the run, one per step, and ``newest`` is the step
        that the run has reached: its checkpoint is always kept. Later ones are of an attempt that
        was given up; they neither count nor are they deleted before the run comes to them.
        """
        reached = {entry.step: entry for entry in entries if entry.step <= newest}
        if self.keeps_all:
            return []
        steps = sorted(reached)
        kept = {newest}
        if self.keep_last is not None:
            kept.update(steps[-self.keep_last :])
        if self.keep_every is not None:
            kept.update(step for step in steps if step % self.keep_every == 0)
        if self.keep_best is not None:
            kept.update(_best(reached.values())[: self.keep_best])
        return [step for step in steps if step not in kept]


def _best(entries: Collection[Entry]) -> list[int]:
    """Steps with a validation loss, the best first."""
    ranked = [
        (entry.validation_loss, entry.step)
        for entry in entries
        if entry.validation_loss is not None and math.isfinite(entry.validation_loss)
    ]
    return [step for _, step in sorted(ranked)]
