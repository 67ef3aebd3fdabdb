"""Computes a run anew from its record: the same rounds, in the order in which they were closed.

Everything that timing has decided stands in the record; the rest follows from the settings and the
documents. Of a strategy whose bits are exact nothing is decided by timing, and the record is not
needed: it opens its rounds itself. Pure: the caller reads the files and makes the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from coordinator.core.events import RoundClosed, RoundOpened, RoundOutcome
from lab.replay.record import Leg, Place, ReplayError
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.optim.reduction import Shard
from microgpt.replicas.work import Computes
from microgpt.strategies import serial
from microgpt.strategies.asking import takes_by_arrival
from microgpt.strategies.base import (
    Gradient,
    LocalSteps,
    Losses,
    Promise,
    Result,
    Round,
    Strategy,
    StrategyError,
    View,
)
from microgpt.strategies.driver import Closed, OpenRound, RoundDriver
from microgpt.training import TrainingState

MOST_DOCUMENTS = 1 << 24  # of a round: more would be no round but a file that means harm
MOST_WORKERS = 1 << 16

#: What goes wrong if the record asks for what cannot be.
_IMPOSSIBLE = (StrategyError, ArithmeticError, ValueError, LookupError, MemoryError)


@dataclass(frozen=True)
class Training:
    """What the bits follow from, beside the record."""

    config: TrainingConfig
    corpus: Corpus
    engine: Computes
    strategy: Strategy

    @property
    def exact(self) -> bool:
        """Whether timing decides nothing."""
        return self.strategy.promise is Promise.EXACT


class AsRecorded:
    """A strategy that opens the round which it is told, and updates as ``strategy`` does."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.round: Round | None = None

    @property
    def promise(self) -> Promise:
        """That of the strategy."""
        return self._strategy.promise

    def open(self, view: View) -> Sequence[Round]:
        """The recorded round."""
        return () if self.round is None else (self.round,)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        """They were."""
        return True

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        """What the strategy makes of it."""
        return self._strategy.update(view, round, results)


def play(training: Training, legs: Sequence[Leg], state: TrainingState) -> Iterator[TrainingState]:
    """The state after each step, beginning with ``state``, in which the first leg begins.

    And after each round whose results were dropped: it has the same step, and more documents are
    used up. Raises ReplayError where the record tells of what cannot have been.
    """
    if legs and place_of(state) != legs[0].epoch.start:
        begun = legs[0].epoch.begun
        raise ReplayError(
            f"line {legs[0].epoch.line}: no earlier epoch leads to step {begun.version} with "
            f"{begun.next_document} documents, where this one begins"
        )
    yield state
    for leg in legs:
        if leg.epoch.begun.steps < state.step:
            raise ReplayError(f"line {leg.epoch.line}: the run begins after its last step")
        for after in _Player(training, leg, state).states():
            state = after
            yield state
            if leg.until is not None and place_of(state) >= leg.until:
                break
        if leg.until is not None and place_of(state) != leg.until:
            raise ReplayError(
                f"line {leg.epoch.line}: this epoch does not lead to step {leg.until.step} "
                f"with {leg.until.documents} documents, from which the run has gone on"
            )


def place_of(state: TrainingState) -> Place:
    """How far the run is."""
    return Place(state.step, state.next_document)


class _Player:
    """Plays one leg from ``state`` on."""

    def __init__(self, training: Training, leg: Leg, state: TrainingState) -> None:
        self._training, self._epoch = training, leg.epoch
        self._corpus, self._engine = training.corpus, training.engine
        try:
            config = replace(training.config, steps=leg.epoch.begun.steps)
        except ValueError as error:
            raise ReplayError(f"line {leg.epoch.line}: {error}") from error
        self._shim = AsRecorded(training.strategy)
        self._driver = RoundDriver(
            training.strategy if training.exact else self._shim, config, state,
            held_out=len(training.corpus.validation),
            evaluates=leg.epoch.evaluated.__contains__, rates=leg.epoch.rates,
        )  # fmt: skip
        self._replicas = serial.Replicas(config, self._corpus, self._engine, state.replicas)

    def states(self) -> Iterator[TrainingState]:
        """The state after each round that has changed it."""
        closes = self._by_itself() if self._training.exact else self._as_recorded()
        for closed in closes:
            if closed.to_evaluate is None:
                logs = self._replicas.logs()
                yield replace(self._driver.state, replicas=logs) if logs else self._driver.state

    def _by_itself(self) -> Iterator[Closed]:
        """Without a record."""
        closes = serial.closes(self._driver, self._corpus, self._engine, self._replicas)
        try:
            yield from closes
        except _IMPOSSIBLE as error:
            raise ReplayError(f"step {self._driver.state.step + 1}: {error}") from error

    def _as_recorded(self) -> Iterator[Closed]:
        for line, event in self._epoch.acts:
            step = self._driver.state.step + 1
            try:
                if isinstance(event, RoundOpened):
                    self._open(event)
                    continue
                closed = self._close(event)
            except _IMPOSSIBLE as error:
                raise ReplayError(f"line {line}, step {step}: {error or type(error)}") from error
            yield closed

    def _open(self, event: RoundOpened) -> None:
        self._shim.round = None if event.evaluation else recorded_round(event)
        opened = self._driver.begin(1, 1)
        if [told(each) for each in opened] != [told_of(event)]:
            raise ValueError(f"round {event.round} cannot have been opened here")

    def _close(self, event: RoundClosed) -> Closed:
        opened = self._driver.open.get(event.round)
        if opened is None or self._driver.waits(event.round) or event.workers > MOST_WORKERS:
            raise ValueError(f"round {event.round} cannot have been closed here")
        results = self._results(opened, event)
        more = event.outcome is RoundOutcome.GATHERED
        closed = self._driver.close(event.round, results, event.workers, more=more)
        self._replicas.close(event.round, results)
        if closed.to_evaluate is None and not closed.gathered:
            self._replicas.settle()
        came_of_it = RoundOutcome.EVALUATED if event.evaluation else RoundOutcome.APPLIED
        if closed.done is None and closed.to_evaluate is None:
            came_of_it = RoundOutcome.GATHERED if closed.gathered else RoundOutcome.DROPPED
        if event.outcome is not came_of_it:
            raise ValueError(f"round {event.round} was {event.outcome}, and is now {came_of_it}")
        return closed

    def _results(self, opened: OpenRound, event: RoundClosed) -> list[Result]:
        """Of the shards that counted."""
        cut = recorded_cut(opened.round, event)
        counted = event.counted or tuple(range(len(cut)))
        if not all(0 <= place < len(cut) for place in counted) or event.results != len(counted):
            raise ValueError(f"round {event.round} has not the shards that are said to count")
        if len(set(counted)) != len(counted):
            raise ValueError(f"a shard of round {event.round} is said to count twice")
        in_order = sorted(counted)
        which = [cut[place] for place in in_order]
        results = serial.compute(opened, self._corpus, self._engine, self._replicas, which)
        if takes_by_arrival(self._training.strategy) and not event.evaluation:
            return [results[in_order.index(place)] for place in counted]
        if list(counted) != in_order:
            raise ValueError(f"the shards of round {event.round} are out of order")
        return results


def recorded_round(event: RoundOpened) -> Round:
    """The round that an event tells of. Raises ValueError if it cannot be."""
    if event.documents > MOST_DOCUMENTS:
        raise ValueError(f"a round of {event.documents} documents cannot be")
    task = LocalSteps(event.local_steps, event.elastic) if event.local_steps else Gradient()
    return Round(event.version, event.first, event.documents, task, None, event.replicas)


def recorded_cut(round: Round, event: RoundClosed) -> list[Shard]:
    """All shards of a round that an event tells of. Raises ValueError if they cannot be."""
    if round.replicas:
        cut = round.parts()
    else:
        sizes = event.cut or (round.count,)
        ends = [*accumulate(sizes)]
        cut = [Shard(end - size, size) for end, size in zip(ends, sizes, strict=True)]
        if ends[-1] != round.count or not all(sizes):
            raise ValueError(f"round {event.round} has not so many documents as its shards")
    if event.shards != len(cut):
        raise ValueError(f"round {event.round} has not so many shards")
    return cut


def told(opened: OpenRound) -> tuple[object, ...]:
    """What tells a round from others."""
    round = opened.round
    evaluation = isinstance(round.task, Losses)
    return opened.number, evaluation, round.version, round.first, round.count


def told_of(event: RoundOpened) -> tuple[object, ...]:
    """The same of an event."""
    return event.round, event.evaluation, event.version, event.first, event.documents
