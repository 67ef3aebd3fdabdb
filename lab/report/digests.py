"""Digests of the states that checkpoints hold, and where those of two runs part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lab.replay.run_files import Checkpoints
from lab.report.reading import RunRecord, Steps


class State(NamedTuple):
    """``sha256``: of all that decides the future after ``step`` updates.

    ``learning_rate``: the one that it was changed to while the run went on, or None.
    """

    step: int
    sha256: str
    learning_rate: float | None = None


class Digests:
    """The checkpoints of a run; each is read when it is asked for."""

    def __init__(self, run: RunRecord) -> None:
        self._checkpoints = Checkpoints(run.path, run.run)
        self._known: dict[int, State | None] = {}

    @property
    def steps(self) -> list[int]:
        """Of which steps there are files, in order."""
        return self._checkpoints.steps

    @property
    def faults(self) -> Sequence[str]:
        """Why some of those that were asked for do not count."""
        return self._checkpoints.faults

    def of(self, step: int) -> str | None:
        """That of the state after a step; None if there is no good checkpoint of it."""
        state = self._state(step)
        return state.sha256 if state else None

    def _state(self, step: int) -> State | None:
        if step not in self._known:
            good = (loaded for _, loaded in self._checkpoints.of(step))
            told = (State(step, each.state_sha256, each.learning_rate) for each in good)
            self._known[step] = next(told, None)
        return self._known[step]

    def newest(self) -> State | None:
        """That of the newest good checkpoint."""
        for step in reversed(self.steps):
            if state := self._state(step):
                return state
        return None


class Parting(NamedTuple):
    """Where two runs part; None: nowhere, as far as can be seen.

    ``losses`` steps and ``checkpoints`` can be compared. ``loss_step``: the first step whose loss
    has other bits. ``same_state`` and ``other_state``: the last checkpoint of equal digests and the
    first of others.
    """

    losses: int
    loss_step: int | None
    checkpoints: int
    same_state: int | None
    other_state: int | None

    def text(self) -> str:
        """One sentence."""
        if not self.losses and not self.checkpoints:
            return "there is no step of both to compare"
        if self.loss_step is None and self.other_state is None:
            many = f"{self.losses:,} losses and {self.checkpoints:,} checkpoints"
            return f"same bits in all {many} that both have"
        parts = []
        if self.loss_step is not None:
            parts.append(f"losses differ from step {self.loss_step:,}")
        if self.other_state is not None:
            since = f", equal at step {self.same_state:,}" if self.same_state is not None else ""
            parts.append(f"states differ in the checkpoint of step {self.other_state:,}{since}")
        elif self.same_state is not None:
            parts.append(f"states are equal in the checkpoint of step {self.same_state:,}")
        return "; ".join(parts)


def parting(a: Steps, b: Steps, states: Digests, others: Digests) -> Parting:
    """Where two runs part. Raises nothing: what cannot be read cannot be compared.

    States that have parted are taken to stay apart, so that few checkpoints must be read.
    """
    losses = dict(zip(b.numbers, b.losses, strict=True))
    both = [(s, x, losses[s]) for s, x in zip(a.numbers, a.losses, strict=True) if s in losses]
    first = next((step for step, x, y in both if x.hex() != y.hex()), None)
    common = sorted(set(states.steps) & set(others.steps))
    low, high = 0, len(common)
    while low < high:
        middle = (low + high) // 2
        x, y = states.of(common[middle]), others.of(common[middle])
        low, high = (low, middle) if x and y and x != y else (middle + 1, high)
    equal = (step for step in reversed(common[:low]) if states.of(step) and others.of(step))
    other = common[low] if low < len(common) else None
    return Parting(len(both), first, len(common), next(equal, None), other)
