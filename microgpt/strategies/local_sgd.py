"""``local-sgd``: replicas train on their own for H steps, then average.

Stich 2018, "Local SGD Converges Fast and Communicates Little" (arXiv 1805.09767):

    theta_i <- theta;  H times: theta_i <- InnerOptimizer(theta_i, g_i);  theta <- mean of theta_i

With Delta_i = theta - theta_i the average is theta - mean(Delta_i): a step of plain SGD of rate 1
along the mean Delta, which is the outer optimizer unless the run names another one. A round is H
batches, of which each replica takes an equal part. ``steps`` = 8: long enough to see the difference
in communication, short enough that a thousand batches of names are a hundred rounds (Stich varies
H from 1 to 1024). The inner optimizer is the run's (``adamw`` unless told), and its state stays
with its replica. The bits are exact: the replicas' vectors are averaged in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.strategies.base import LocalSteps, Promise, Result, Round, View
from microgpt.strategies.spread import consensus_distance
from microgpt.strategies.update import combined, descended, mean_loss, num_documents
from microgpt.training import TrainingState


@dataclass(frozen=True)
class LocalSGD:
    """``steps``: of the inner optimizer, by each replica, from one average to the next."""

    steps: int = 8

    promise: ClassVar[Promise] = Promise.EXACT
    outer: ClassVar[str] = "sgd:learning_rate=1.0"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError("steps must be at least 1")

    def open(self, view: View) -> Sequence[Round]:
        """Each replica's share of the next batches, once the last average is taken."""
        if view.open:
            return ()
        count = view.config.batch_size * self.steps
        replicas = tuple(range(view.replicas))
        where = view.state.step, view.next_document, count
        return (Round(*where, LocalSteps(self.steps), replicas=replicas),)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """Every replica has answered."""
        return num_documents(results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The outer optimizer's step along the mean of the replicas' way."""
        made = combined(view, round, results)
        loss = mean_loss(results)
        return descended(view, made.vector, loss, made.slots, usual=self.outer, constant=True)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far the replicas were apart before they were averaged."""
        return consensus_distance([(round, results)])
