"""``decoupled-diloco``: DiLoCo in which nobody waits for the slowest, and little is lost by that.

Douillard et al. 2026, "Decoupled DiLoCo for Resilient Distributed Pre-training" (arXiv 2604.21428).
Each learner (a replica here) takes H steps of AdamW on its own; a central syncer waits for K of
them (``quorum``) with one that began after the last merge, then for ``grace`` seconds more, and
merges all that has come:

    w_i = tokens_i^2 / steps_i;  phi(x) = x / |x|
    Delta = (sum w_i |v_i| / sum w_i) * phi(sum w_i phi(v_i) / sum w_i)
    theta <- Nesterov(theta, Delta)

v_i is how far learner i has moved from the weights that it began with; of embeddings the plain
weighted mean is taken. The weights and the merge by radius and direction are known to us from
others' summaries only. Outer rate 0.7 and momentum 0.9 are those of ``diloco``, and so is H
(``steps``); K = 1 is the paper's. Its grace follows from measured times; 0.05 seconds is a few
rounds of the default model, and a grace of 0 is its ablation. Each matrix is a fragment, and all
are merged at once (there 24 in turn). On the names the plain mean does better than the radial one:
learners that see so little disagree, and their mean should be shorter. Who is late is not lost:
its round stays open, and it is merged when it has come, as a learner that began with older weights.
Timing decides: the bits are replayable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from microgpt.model import parameter_shapes
from microgpt.strategies.base import LocalSteps, Promise, Result, Round, View
from microgpt.strategies.merge import radial, weighted_mean
from microgpt.strategies.single import free_replicas, local_documents, rounds_of
from microgpt.strategies.spread import consensus_distance
from microgpt.strategies.update import combined, descended, mean_loss, num_documents
from microgpt.training import TrainingState


@dataclass(frozen=True)
class DecoupledDiLoCo:
    """``steps``: H. ``quorum``: K. ``grace``: seconds. ``merge``: ``radial``, or plain ``mean``."""

    steps: int = 8
    quorum: int = 1
    grace: float = 0.05
    merge: str = "radial"

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    outer: ClassVar[str] = "nesterov:learning_rate=0.7,momentum=0.9"

    def __post_init__(self) -> None:
        if self.steps < 1 or self.quorum < 1:
            raise ValueError("steps and quorum must be at least 1")
        if not 0.0 <= self.grace <= 3600.0:
            raise ValueError("grace must be a number of seconds from 0 to 3600")
        if self.merge not in ("radial", "mean"):
            raise ValueError("merge must be radial or mean")

    def open(self, view: View) -> Sequence[Round]:
        """The next steps of each learner that has nothing to do."""
        count = local_documents(view, self.steps)
        return rounds_of(view, free_replicas(view), count, LocalSteps(self.steps))

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """The learner has answered."""
        return num_documents(results) == round.count

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """The outer optimizer's step along what all learners that have come have found."""
        all_ = [*view.gathered, (round, results)]
        ways = [combined(view, each, given).vector for each, given in all_]
        weights = [max(1, given[0].tokens) ** 2 / self.steps for _, given in all_]
        view.note("learners", len(all_))
        view.note("staleness", tuple(view.state.step - each.version for each, _ in all_))
        if self.merge == "radial":
            merged = radial(ways, weights, parameter_shapes(view.config.model))
        else:
            merged = weighted_mean(ways, weights)
        loss = mean_loss([result for _, given in all_ for result in given])
        return descended(view, merged, loss, {}, usual=self.outer, constant=True)

    def numbers(self, view: View, round: Round, results: Sequence[Result]) -> Mapping[str, float]:
        """How far apart the ways of the learners are that were merged."""
        return consensus_distance([*view.gathered, (round, results)])
