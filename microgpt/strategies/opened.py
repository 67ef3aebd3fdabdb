"""What a driver of strategies says of rounds: that they are open, and what closing has led to."""

from __future__ import annotations

from dataclasses import dataclass

from microgpt.numerics.vectors import Vector
from microgpt.replicas.state import Assignment
from microgpt.strategies.base import Round
from microgpt.training import TrainingState


@dataclass(frozen=True)
class OpenRound:
    """A round under way. ``number`` counts the rounds of this driver from 0.

    ``params``: (num_params,) float64, the weights to compute with. ``assignments``: what each of
    the round's replicas is to do, in their order.
    """

    number: int
    round: Round
    params: Vector
    assignments: tuple[Assignment, ...] = ()


@dataclass(frozen=True)
class Closed:
    """What closing a round has led to; nothing of all if the strategy has dropped the results.

    ``done``: the state of a step that is over. ``to_evaluate``: the state of a step that is over
    once its evaluation is. ``gathered``: the results are kept for the update of another round.
    """

    done: TrainingState | None = None
    to_evaluate: TrainingState | None = None
    gathered: bool = False
