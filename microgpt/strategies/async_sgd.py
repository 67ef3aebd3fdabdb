"""``async``: every replica's gradient is an update of its own, however old its weights are.

Dean et al. 2012, "Large Scale Distributed Deep Networks" (Downpour SGD); tau is the staleness, the
number of updates since the weights that a gradient belongs to:

    none:     w_{t+1} = w_t - eta * g(w_{t-tau})
    inverse:  w_{t+1} = w_t - (eta / tau) * g(w_{t-tau}), a tau of 0 counted as 1
              (Zhang, Gupta, Lian, Liu 2015, "Staleness-aware Async-SGD", arXiv 1511.05950)
    dc:       w_{t+1} = w_t - eta * (g + lambda * g * g * (w_t - w_{t-tau})), g = g(w_{t-tau})
              (Zheng et al. 2016, delay compensation, DC-ASGD: arXiv 1609.08326)

The optimizer is the run's outer one (Adam unless told), eta its rate. ``compensation`` is lambda:
0.04, which we remember from DC-ASGD's experiments with a constant lambda on CIFAR-10. ``bound`` = 8
is more than twice what four replicas of one pace come to, which is 3; staler gradients are dropped,
and their documents used up.
Each of the run's replicas computes one batch at a time. Timing decides: the bits are replayable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import Promise, Result, Round, View
from microgpt.strategies.single import free_replicas, rounds_of
from microgpt.strategies.spread import drift
from microgpt.strategies.update import combined, descended, mean_loss, num_documents
from microgpt.training import TrainingState

DAMPING = ("none", "inverse", "dc")


@dataclass(frozen=True)
class Async:
    """``bound``: the largest staleness. ``damping``: ``none``, ``inverse`` or ``dc``."""

    bound: int = 8
    damping: str = "none"
    compensation: float = 0.04

    promise: ClassVar[Promise] = Promise.REPLAYABLE

    def __post_init__(self) -> None:
        if self.bound < 0:
            raise ValueError("bound must be at least 0")
        if self.damping not in DAMPING:
            raise ValueError(f"damping must be one of {', '.join(DAMPING)}")
        if self.compensation < 0.0:
            raise ValueError("compensation must be at least 0")

    def open(self, view: View) -> Sequence[Round]:
        """A batch for each replica that has nothing to do."""
        return rounds_of(view, free_replicas(view), view.config.batch_size)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """The replica has answered."""
        return num_documents(results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The optimizer's step along the replica's gradient, unless it is too stale."""
        staleness = view.state.step - round.version
        view.note("staleness", staleness)
        if staleness > self.bound:
            return None
        made = combined(view, round, results)
        gradient = made.vector
        if self.damping == "dc" and view.sent is not None:
            way = view.state.params - view.sent
            gradient = gradient + self.compensation * gradient * gradient * way
        damping = 1 / max(1, staleness) if self.damping == "inverse" else 1.0
        return descended(view, gradient, mean_loss(results), made.slots, damping=damping)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the weights have gone while the gradient was computed."""
        return drift(view)
