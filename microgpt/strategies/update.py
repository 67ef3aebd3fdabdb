"""From the results of a round to the next state: what strategies have in common.

``combined`` makes one vector of the results: their mean, or what the run's aggregation rule makes
of the replicas' vectors. ``descended`` is the state after an optimizer's step along it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from microgpt.compression.base import Compressor
from microgpt.numerics.vectors import Vector, tree_sum_of
from microgpt.optim.reduction import tree_sum
from microgpt.optim.registry import optimizer_of
from microgpt.replicas.recipe import recipe_of
from microgpt.strategies.base import Gradient, Result, Round, View, sum_of_results
from microgpt.strategies.parts import aggregation_of
from microgpt.support.user_class import blamed
from microgpt.training import RECENT_LOSSES, TrainingState, adam_step, base_rate

#: Under which names a state keeps the vectors of an aggregation rule and of the outer optimizer.
AGGREGATE, OUTER = "aggregate.", "outer."


class Combined(NamedTuple):
    """``vector``: (num_params,) float64; ``slots``: what is to be kept of how it was made."""

    vector: Vector
    slots: Mapping[str, Vector]


def replicas_if_needed(view: View) -> tuple[int, ...]:
    """All replicas where what they compute must be told apart; else none, and the batch is cut as
    suits the workers.
    """
    given = view.config.distribution
    told_apart = given.replicas or given.compress or given.shard_by or given.aggregate != "mean"
    if not told_apart:
        return ()
    return tuple(range(view.replicas))


def num_documents(results: Sequence[Result]) -> int:
    """How many documents the results are of."""
    return sum(result.shard.count for result in results)


def mean_loss(results: Sequence[Result]) -> float:
    """Mean loss of all documents in nats, summed as those of a batch are."""
    losses = np.concatenate([result.losses for result in results])
    return (1 / len(losses)) * tree_sum_of(losses)


def combined(
    view: View,
    round: Round,
    results: Sequence[Result],
    added: Callable[[Sequence[Result]], Vector] = sum_of_results,
) -> Combined:
    """The mean gradient, or the mean of what local steps have led to; or what the rule says.

    ``added``: makes the sum of the documents' gradients, (num_params,), of the results.
    Raises StrategyError if there are too few replicas for the rule.
    """
    if not round.replicas:
        return Combined((1 / num_documents(results)) * added(results), {})
    distribution = view.config.distribution
    compressor = recipe_of(view.config).compressor
    vectors = [result.vector for result in results]
    if isinstance(round.task, Gradient):
        each = [1 / result.shard.count for result in results]
        vectors = [one * vector for one, vector in zip(each, vectors, strict=True)]
    if distribution.aggregate != "mean":
        rule = aggregation_of(distribution)
        with blamed("aggregation rule", rule, "init"):
            kept = _part(view.state.slots, AGGREGATE) or rule.init(len(vectors[0]))
        with blamed("aggregation rule", rule, "combine"):
            made = rule.combine(vectors, kept)
            _require_vector(made.vector, len(vectors[0]))
            rejected = tuple(results[place].replica or 0 for place in made.rejected)
        view.note("rejected", rejected)
        if rejected:
            taken = (each.replica or 0 for each in results)
            view.note("selected", tuple(each for each in taken if each not in rejected))
        return Combined(made.vector, {AGGREGATE + name: x for name, x in made.slots.items()})
    voted = _vote(compressor, vectors)
    if voted is not None:
        return Combined(voted, {})
    if isinstance(round.task, Gradient):  # of all documents: the same bits as without replicas
        return Combined((1 / num_documents(results)) * added(results), {})
    return Combined((1 / len(vectors)) * tree_sum(vectors), {})


def descended(
    view: View,
    vector: Vector,
    loss: float,
    slots: Mapping[str, Vector],
    *,
    usual: str = "adam",
    constant: bool = False,
    damping: float = 1.0,
) -> TrainingState:
    """The state after one step of the outer optimizer along ``vector``, which has cost ``loss``.

    ``usual``: the optimizer where the run names none. Its rate falls linearly to zero over the
    run unless it is ``constant``, and is multiplied by ``damping``. ``slots`` are kept besides.
    """
    config, state = view.config, view.state
    view.along(vector)
    spec = config.distribution.outer_optimizer or usual
    if spec == "adam" and not constant:
        if slots:
            state = replace(state, slots={**state.slots, **slots})
        return adam_step(config, state, vector, loss, damping)
    optimizer = optimizer_of(spec, config.adam)
    falls = 1.0 if constant else 1 - state.step / config.steps
    with blamed("optimizer", optimizer, "init"):
        kept = _part(state.slots, OUTER) or optimizer.init(len(state.params))
    rate = base_rate(state, optimizer.learning_rate) * falls * damping
    with blamed("optimizer", optimizer, "update"):
        params, made = optimizer.update(state.params, vector, kept, state.step, rate)
        _require_vector(params, len(state.params))
    view.note("step_norm", float(np.sqrt(tree_sum_of((params - state.params) ** 2))))
    outer = {OUTER + name: x for name, x in made.items()}
    return replace(
        state,
        step=state.step + 1,
        params=params,
        losses=(*state.losses, loss)[-RECENT_LOSSES:],
        slots={**state.slots, **slots, **outer},
    )


def _vote(compressor: Compressor | None, vectors: Sequence[Vector]) -> Vector | None:
    """What a compressor makes of the vectors of all replicas; None if that is their mean."""
    if compressor is None:
        return None
    with blamed("compressor", compressor, "combine"):
        voted = compressor.combine(vectors)
        if voted is not None:
            _require_vector(voted, len(vectors[0]))
        return voted


def _require_vector(made: object, length: int) -> None:
    if not isinstance(made, np.ndarray) or (made.dtype, made.shape) != (np.float64, (length,)):
        raise TypeError(f"it gives no vector of {length} float64 numbers")


def _part(slots: Mapping[str, Vector], prefix: str) -> dict[str, Vector]:
    return {name.removeprefix(prefix): x for name, x in slots.items() if name.startswith(prefix)}
