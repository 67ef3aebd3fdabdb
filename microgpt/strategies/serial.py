"""The shortest one who runs a strategy: one engine in one process, no network and no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.model import parameter_shapes
from microgpt.numerics.vectors import Vector
from microgpt.optim.reduction import Shard, shards
from microgpt.replicas import work
from microgpt.replicas.recipe import recipe_of
from microgpt.replicas.state import Assignment, ReplicaLog, ReplicaState
from microgpt.replicas.work import Computes
from microgpt.strategies.base import Losses, Result, Strategy, StrategyError
from microgpt.strategies.driver import Closed, OpenRound, RoundDriver, never
from microgpt.training import TrainingState, count_tokens


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
    replicas = Replicas(config, corpus, engine, state.replicas)
    for closed in closes(driver, corpus, engine, replicas, workers):
        if closed.done is not None:
            yield replace(closed.done, replicas=replicas.logs()) if replicas else closed.done


def closes(
    driver: RoundDriver, corpus: Corpus, engine: Computes, replicas: Replicas, workers: int = 1
) -> Iterator[Closed]:
    """Train to the end; yields what each round has led to. See ``run``."""
    computed: deque[tuple[OpenRound, list[Result]]] = deque()
    while not driver.complete:
        for opened in driver.begin(workers, max(0, workers - len(computed))):
            computed.append((opened, compute(opened, corpus, engine, replicas)))
        ready = next(i for i, (o, _) in enumerate(computed) if not driver.waits(o.number))
        opened, results = computed[ready]
        del computed[ready]
        if not driver.enough(opened.number, results):
            raise StrategyError("all results of a round are there, and are not enough for it")
        more = driver.gathers is not None and any(not driver.waits(o.number) for o, _ in computed)
        closed = driver.close(opened.number, results, workers, more=more)
        replicas.close(opened.number, results)
        if closed.to_evaluate is None and not closed.gathered:
            replicas.settle()
        yield closed


class Replicas:
    """The replicas of a run in one process, as they are after the last step done."""

    def __init__(
        self,
        config: TrainingConfig,
        corpus: Corpus,
        engine: Computes,
        logs: Sequence[ReplicaLog] = (),
    ) -> None:
        self._recipe, self._shapes = recipe_of(config), parameter_shapes(config.model)
        self._config, self._corpus, self._engine = config, corpus, engine
        self._states = {log.replica: self._restored(log) for log in logs}
        self._settled = dict(self._states)
        self._open: dict[int, dict[int, ReplicaState]] = {}  # before which round
        self._closed: dict[int, ReplicaState] = {}

    def __bool__(self) -> bool:
        return bool(self._states)

    def compute(
        self, number: int, assignment: Assignment, params: Vector, first: int, count: int
    ) -> work.Done:
        """Do a task of round ``number`` with these documents."""
        state = self._states.get(assignment.replica, ReplicaState())
        done = self._do(assignment, params, first, count, state)
        self._states[assignment.replica] = done.state
        self._open.setdefault(number, {})[assignment.replica] = state
        return done

    def tokens(self, replica: int, first: int, count: int) -> int:
        """How many predictions a replica makes for these documents."""
        return count_tokens(self._config, self._corpus.documents(first, count, replica))

    def close(self, number: int, results: Sequence[Result]) -> None:
        """A round is closed with these results: who has none of them is as it was before."""
        done = {result.replica for result in results}
        for replica, before in self._open.pop(number, {}).items():
            if replica not in done:
                self._states[replica] = before
            self._closed[replica] = self._states[replica]

    def settle(self) -> None:
        """The step that the closed rounds belong to is over, or they were dropped."""
        self._settled |= self._closed
        self._closed = {}

    def logs(self) -> tuple[ReplicaLog, ...]:
        """What is known of them after the last step done."""
        return tuple(ReplicaLog(r, state) for r, state in sorted(self._settled.items()))

    def _do(
        self,
        assignment: Assignment,
        params: Vector,
        first: int,
        count: int,
        state: ReplicaState,
    ) -> work.Done:
        documents = self._corpus.documents(first, count, assignment.replica)
        return work.compute(
            self._recipe, assignment, self._shapes, params, documents, state, self._engine
        )

    def _restored(self, log: ReplicaLog) -> ReplicaState:
        state = log.snapshot
        for task in log.since:
            state = self._do(task.assignment, task.params, task.first, task.count, state).state
        return state


def compute(
    opened: OpenRound,
    corpus: Corpus,
    engine: Computes,
    replicas: Replicas,
    cut: Sequence[Shard] = (),
) -> list[Result]:
    """The results of a round, in the order of its shards.

    ``cut``: which shards are computed. If there are none given: the parts of all replicas, or one
    with all documents.
    """
    round = opened.round
    if opened.assignments:
        results = []
        for part, assignment in zip(round.parts(), opened.assignments, strict=True):
            if not cut or part in cut:
                where = round.first + part.start, part.count
                done = replicas.compute(opened.number, assignment, opened.params, *where)
                tokens = replicas.tokens(assignment.replica, *where)
                given = part, done.losses, done.vector, assignment.replica, tokens
                results.append(Result(*given))
        return results
    if not cut:
        cut = shards(round.count, round.shard_size or 1 << (round.count - 1).bit_length())
    evaluation = isinstance(round.task, Losses)
    documents = corpus.validation if evaluation else corpus.documents(round.first, round.count)
    results = []
    for shard in cut:
        own = documents[shard.start : shard.start + shard.count]
        if evaluation:
            losses, vector = engine.losses(opened.params, own), np.empty(0)
        else:
            computed = engine.gradients(opened.params, own)
            losses, vector = computed.losses, computed.gradient
        results.append(Result(shard, np.asarray(losses, np.float64), vector))
    return results
