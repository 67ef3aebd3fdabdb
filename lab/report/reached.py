"""What a run has taken to a loss: the step, the seconds and the bytes. Pure.

Two losses are told. That of held-out documents counts at the first evaluation that shows it or
less. That of training is the mean of the last ``MEAN_OF`` steps, as programs print it that hold
nothing out; it counts from the first step at which there are so many.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lab.report.chart import running_mean
from lab.report.reading import Steps

MEAN_OF = 100  # steps of the running mean of a training loss
LOSSES = (2.2, 2.1, 2.0)  # nats per token: what names are trained to here
VALIDATION, TRAINING = "validation", "training"
MEGA = 1e6


@dataclass(frozen=True)
class Reached:
    """``step``, ``seconds`` of work and ``bytes`` sent and received up to it, both summed up."""

    step: int
    seconds: float
    bytes: int

    def text(self) -> str:
        """For people."""
        return f"{self.seconds:,.2f} s, {self.bytes / MEGA:,.1f} MB, step {self.step:,}"


def first_evaluated(validations: Sequence[tuple[int, float]], loss: float) -> int | None:
    """The first evaluated step whose held-out documents had no more than this loss."""
    return next((step for step, found in validations if found <= loss), None)


def first_trained(numbers: Sequence[int], losses: Sequence[float], loss: float) -> int | None:
    """The first step at which the mean of the last ``MEAN_OF`` losses was no more than this."""
    means = [*zip(numbers, running_mean(losses, MEAN_OF), strict=True)]
    return next((step for step, mean in means[MEAN_OF - 1 :] if mean <= loss), None)


def reached(steps: Steps, kind: str, loss: float) -> Reached | None:
    """When a run has reached a loss of a kind; None if it has not."""
    if kind == VALIDATION:
        step = first_evaluated(steps.validations, loss)
    else:
        step = first_trained(steps.numbers, steps.losses, loss)
    if step not in steps.numbers:
        return None
    many = steps.numbers.index(step) + 1
    moved = sum(steps.sent[:many]) + sum(steps.received[:many])
    return Reached(step, sum(steps.seconds[:many]), moved)


def reached_by_any(
    runs: Sequence[Steps], losses: Sequence[float]
) -> Iterator[tuple[str, float, list[Reached | None]]]:
    """Each kind and loss that one of the runs has reached, and what each run has taken to it."""
    for kind in (VALIDATION, TRAINING):
        for loss in losses:
            found = [reached(steps, kind, loss) for steps in runs]
            if any(found):
                yield kind, loss, found
