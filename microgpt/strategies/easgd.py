"""``easgd``: replicas explore on their own, tied to the global weights by a spring.

Zhang, Choromanska, LeCun 2015, "Deep Learning with Elastic Averaging SGD" (arXiv 1412.6651), the
asynchronous algorithm: replica i keeps weights x_i of its own, and every tau steps

    x_i <- x_i - alpha * (x_i - x~);   x~ <- x~ + alpha * (x_i - x~);   alpha = beta / p

between steps x_i <- x_i - eta * g_i. p is the number of replicas; ``beta`` = 0.9 and tau
(``steps``) = 10 are the paper's. The inner optimizer is plain SGD as there, unless the run names
another; its rate 1 learns the names well, and 2 is too much for them. In a step a replica takes its
share of a batch.

It differs from the paper in one point: x~ in both formulas is the one that the replica began its
tau steps with, not the one of the moment, so that replica and coordinator move by the same vector
without another message. Timing decides: the bits are replayable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import LocalSteps, Promise, Result, Round, View
from microgpt.strategies.single import free_replicas, local_documents, rounds_of
from microgpt.strategies.spread import length
from microgpt.strategies.update import combined, descended, mean_loss, num_documents
from microgpt.training import TrainingState


@dataclass(frozen=True)
class EASGD:
    """``steps``: of a replica from one exchange to the next. ``beta``: the pull of all replicas."""

    steps: int = 10
    beta: float = 0.9

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    inner: ClassVar[str] = "sgd:learning_rate=1.0"
    outer: ClassVar[str] = "sgd:learning_rate=1.0"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")
        if not 0.0 < self.beta <= 1.0:
            raise ValueError("beta must lie in (0, 1]")

    def open(self, view: View) -> Sequence[Round]:
        """The next steps of each replica that has nothing to do."""
        task = LocalSteps(self.steps, elastic=self.beta / view.replicas)
        return rounds_of(view, free_replicas(view), local_documents(view, self.steps), task)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """The replica has answered."""
        return num_documents(results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The global weights come to the replica by as much as it came to them."""
        view.note("staleness", view.state.step - round.version)
        made = combined(view, round, results)
        loss = mean_loss(results)
        return descended(view, made.vector, loss, made.slots, usual=self.outer, constant=True)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the replica was from the weights that it was given, before both were pulled.

        That is the norm of what it has answered over alpha.
        """
        way = length(results[0].vector)
        return {"consensus_distance": way / (self.beta / view.replicas)}
