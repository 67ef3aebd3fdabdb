"""Rounds of one replica each: what strategies have in common in which replicas do not wait."""

from __future__ import annotations

from collections.abc import Iterable

from microgpt.strategies.base import Gradient, Round, StrategyError, Task, View


def free_replicas(view: View) -> list[int]:
    """Those that are in no open round, in ascending order."""
    busy = {replica for round in view.open for replica in round.replicas}
    return [replica for replica in range(view.replicas) if replica not in busy]


def rounds_of(
    view: View, replicas: Iterable[int], count: int, task: Task | None = None
) -> list[Round]:
    """A round for each of the replicas, with the next ``count`` documents; of gradients by default.

    Raises StrategyError in a run with a rule that puts several replicas' vectors together.
    """
    rule = view.config.distribution.aggregate
    if rule != "mean":
        raise StrategyError(
            f"--aggregate {rule} needs the vectors of several replicas at once, and "
            f"--strategy {view.config.strategy} takes them one by one"
        )
    return [
        Round(
            view.state.step,
            view.next_document + place * count,
            count,
            task or Gradient(),
            replicas=(replica,),
        )
        for place, replica in enumerate(replicas)
    ]


def local_documents(view: View, steps: int) -> int:
    """How many documents one replica takes in ``steps`` local steps: its share of the batches."""
    return max(steps, view.config.batch_size * steps // view.replicas)
