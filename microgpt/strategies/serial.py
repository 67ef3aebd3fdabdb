"""The shortest one who runs a strategy: one engine in one process, no network and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import shards
from microgpt.strategies.base import Losses, Result, Strategy, StrategyError
from microgpt.strategies.driver import OpenRound, RoundDriver, never
from microgpt.training import TrainingState


class Gradients(Protocol):
    """What an engine gives: see ``microgpt.engine.base.ShardGradient``."""

    @property
    def losses(self) -> Sequence[float]: ...  # noqa: D102  # as said above

    @property
    def gradient(self) -> Vector: ...  # noqa: D102  # as said above


class Computes(Protocol):
    """The part of ``microgpt.engine.base.Engine`` that is needed here."""

    def gradients(self, params: Vector, documents: Sequence[Sequence[int]], /) -> Gradients:
        """Losses and summed gradient of the documents."""
        ...

    def losses(self, params: Vector, documents: Sequence[Sequence[int]], /) -> Sequence[float]:
        """Losses of the documents."""
        ...


def run(
    strategy: Strategy,
    config: TrainingConfig,
    corpus: Corpus,
    state: TrainingState,
    engine: Computes,
    *,
    workers: int = 1,
    evaluates: Callable[[int], bool] = never,
) -> Iterator[TrainingState]:
    """Train from ``state`` to ``config.steps``; yields the state after each step.

    ``workers`` pretends that so many compute at once and answer in the order in which they were
    asked: each round is computed with the weights of the moment when it was opened. The corpus'
    held-out documents are evaluated after each step for which ``evaluates`` is true.
    Raises StrategyError, ArithmeticError if numbers overflow, and what the engine raises.
    """
    driver = RoundDriver(
        strategy, config, state, held_out=len(corpus.validation), evaluates=evaluates
    )
    computed: deque[tuple[OpenRound, list[Result]]] = deque()
    while not driver.complete:
        for opened in driver.begin(workers, max(0, workers - len(computed))):
            computed.append((opened, compute(opened, corpus, engine)))
        ready = next(i for i, (o, _) in enumerate(computed) if not driver.waits(o.number))
        opened, results = computed[ready]
        del computed[ready]
        if not driver.enough(opened.number, results):
            raise StrategyError("all results of a round are there, and are not enough for it")
        closed = driver.close(opened.number, results, workers)
        if closed.done is not None:
            yield closed.done


def compute(opened: OpenRound, corpus: Corpus, engine: Computes) -> list[Result]:
    """The results of a round, in the order of its shards."""
    round = opened.round
    size = round.shard_size or 1 << (round.count - 1).bit_length()
    evaluation = isinstance(round.task, Losses)
    documents = corpus.validation if evaluation else corpus.documents(round.first, round.count)
    results = []
    for shard in shards(round.count, size):
        part = documents[shard.start : shard.start + shard.count]
        if evaluation:
            losses, vector = engine.losses(opened.params, part), np.empty(0)
        else:
            given = engine.gradients(opened.params, part)
            losses, vector = given.losses, given.gradient
        results.append(Result(shard, np.asarray(losses, np.float64), vector))
    return results
