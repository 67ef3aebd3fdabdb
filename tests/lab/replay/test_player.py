"""The coordinator's core with strategies whose timing decides, and what it tells played again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from coordinator.core.events import (
    SCHEMA,
    Event,
    LearningRateChanged,
    Level,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
)
from coordinator.core.inputs import Asked, Disconnected, Wish
from lab.replay.player import Training, play
from lab.replay.record import ReplayError, legs, read
from lab.simulation.arithmetic import DocumentByDocument, stand_in
from microgpt.engine.answering import documents_of
from microgpt.numerics.vectors import vector_from_map, vector_to_map
from microgpt.parameters import to_bytes
from microgpt.protocol import messages
from microgpt.strategies.base import Strategy
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, initial_state
from tests.coordinator.core.test_coordinator_state import MODEL, SHAPES, A, B, C, Play
from tests.strategies_of_users import FirstHalf, OneEach

ENGINE = DocumentByDocument(stand_in, MODEL.block_size)


class Run(Play):
    """A coordinator whose workers compute something that depends on weights and documents."""

    def __init__(self, strategy: Strategy, **settings: Any) -> None:
        super().__init__(strategy=strategy, batch_size=4, **settings)
        self.strategy = strategy

    def answer(self, task: messages.Task, **changes: Any) -> messages.ShardResult:
        sent = (w for each in self.sent.values() for w in each if isinstance(w, messages.Weights))
        weights = next(w.weights for w in sent if w.step == task.step)
        given = ENGINE.gradients(vector_from_map(weights, SHAPES), [*documents_of(task)])
        gradient = vector_to_map(given.gradient, SHAPES) if task.training else {}
        return super().answer(task, losses=to_bytes(given.losses), gradient=gradient, **changes)

    def rounds(self) -> list[RoundOpened | RoundClosed | LearningRateChanged]:
        kinds = RoundOpened | RoundClosed | LearningRateChanged
        return [event for event in self.told if isinstance(event, kinds)]

    def replay(self, events: Sequence[Event] | None = None) -> list[TrainingState]:
        """The states after each step, and after each drop."""
        begun = Started(SCHEMA, "run", "epoch", 0, self.config.steps, Level.ROUNDS, 0)
        told = self.rounds() if events is None else events
        numbered = enumerate([begun, *told], 1)
        epochs = read((line, Recorded(0.0, 0, event)) for line, event in numbered)
        training = Training(self.config, self.corpus, ENGINE, self.strategy)
        start = initial_state(self.config, self.corpus)
        return [*play(training, legs(epochs, exact=training.exact), start)]


def same(one: TrainingState, other: TrainingState) -> bool:
    vectors = [(one.params, other.params), (one.m, other.m), (one.v, other.v)]
    marks = [
        (s.step, s.losses, s.validation, s.next_document, s.learning_rate) for s in (one, other)
    ]
    return marks[0] == marks[1] and all(a.tobytes() == b.tobytes() for a, b in vectors)


def stale() -> Run:
    """Three steps, of which two are made with old weights; one answer comes too late."""
    run = Run(OneEach(bound=1), shard_size=4, steps=3)
    run.joins(A, B, C)
    run.answers(B)
    run.answers(A)
    run.answers(C)
    run.finishes_with(B, A, C)
    return run


def test_rounds_are_computed_with_their_weights_and_closed_in_their_order() -> None:
    run = stale()
    outcomes = [event.outcome for event in run.rounds() if isinstance(event, RoundClosed)]
    assert RoundOutcome.DROPPED in outcomes
    states = run.replay()
    assert same(states[-1], run.state.training)
    assert [s.losses[-1] for s in states if s.losses][-1] == run.done[-1]["loss"]
    in_order = Run(OneEach(bound=1), shard_size=4, steps=3)
    in_order.joins(A)
    in_order.finishes_with(A)
    assert not same(in_order.state.training, run.state.training), "timing decides"


def test_a_round_that_closes_early_counts_the_shards_that_did() -> None:
    run = Run(FirstHalf(), shard_size=1, steps=3)
    run.joins(A, B, C)
    run.do(Disconnected(A))
    run.finishes_with(C, B)
    closed = [event for event in run.rounds() if isinstance(event, RoundClosed)]
    assert {event.cut for event in closed} == {(1, 1, 1, 1)}
    assert any(event.counted not in ((), (0, 1)) for event in closed)
    assert same(run.replay()[-1], run.state.training)


def test_evaluations_are_where_they_were() -> None:
    run = Run(OneEach(bound=1), shard_size=2, steps=4, held_out=0.25, eval_every=2)
    run.joins(A, B)
    run.finishes_with(B, A)
    states = run.replay()
    losses = {s.step: s.validation.loss for s in states if s.validation}
    assert losses[2] == run.done[1]["validation_loss"]
    assert same(states[-1], run.state.training)


def test_an_exact_strategy_needs_no_record_of_its_rounds() -> None:
    run = Run(Sync(), steps=3)
    run.joins(A, B)
    run.finishes_with(A, B)
    assert run.rounds() == []
    assert same(run.replay()[-1], run.state.training)


@pytest.mark.parametrize("strategy", [Sync(), OneEach(bound=1), FirstHalf()], ids=str)
def test_learning_rates_are_changed_where_they_were(strategy: Strategy) -> None:
    run = Run(strategy, steps=8, shard_size=2, held_out=0.25, eval_every=2, events=Level.ROUNDS)
    run.joins(A, B)
    wanted = [(1, 0.5), (3, 0.25), (5, 0.0)]
    while run.state.closing is None:
        if wanted and run.state.training.step >= wanted[0][0]:
            run.do(Asked(Wish.LEARNING_RATE, "page", wanted.pop(0)[1]))
        for peer in (B, A):
            run.answers(peer)
    events = [event for event in run.told if isinstance(event, LearningRateChanged)]
    assert [event.learning_rate for event in events] == [0.5, 0.25, 0.0]
    states = run.replay()
    assert same(states[-1], run.state.training)
    without = [event for event in run.rounds() if not isinstance(event, LearningRateChanged)]
    assert not same(run.replay(without)[-1], run.state.training)


def closed(**changes: Any) -> Any:
    return lambda event: replace(event, **changes) if isinstance(event, RoundClosed) else event


def opened(**changes: Any) -> Any:
    return lambda event: replace(event, **changes) if isinstance(event, RoundOpened) else event


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (closed(round=99), r"^line 5, step 1: round 99 cannot have been closed here"),
        (closed(outcome=RoundOutcome.DROPPED), r"step 1: round 1 was dropped, and is now applied"),
        (closed(evaluation=True), r"step 1: round 1 was applied, and is now evaluated"),
        (closed(cut=(2, 1), shards=2), r"step 1: round 1 has not so many documents as its shards"),
        (closed(cut=(4, 0), shards=2), r"step 1: round 1 has not so many documents as its shards"),
        (
            closed(cut=(1, 3), shards=2, counted=(1, 0), results=2),
            r"round 1 are out of order",
        ),
        (closed(counted=(2,)), r"round 1 has not the shards that are said to count"),
        (closed(shards=3), r"round 1 has not so many shards"),
        (closed(results=2), r"round 1 has not the shards that are said to count"),
        (closed(workers=2**60), r"round 1 cannot have been closed here"),
        (opened(version=1), r"^line 2, step 1: .* no round of now"),
        (opened(round=3), r"^line 2, step 1: round 3 cannot have been opened here"),
        (opened(evaluation=True), r"^line 2, step 1: .* opens no round although none is open"),
        (opened(documents=2**50), r"^line 2, step 1: a round of 1125899906842624 documents"),
        (opened(documents=0), r"^line 2, step 1: a round of 0 documents from 0 cannot be"),
        (opened(replicas=(2**40,)), r"^line 2, step 1: .*replica 1099511627776 cannot be"),
        (opened(replicas=(1, 0)), r"^line 2, step 1: replicas are numbers from 0"),
        (opened(local_steps=2), r"^line 2, step 1: local steps are the work of replicas"),
        (opened(local_steps=1, elastic=7.0, replicas=(0,)), r"^line 2, step 1: local steps: at"),
    ],
)
def test_a_record_of_what_cannot_have_been_is_one_sentence(change: Any, says: str) -> None:
    run = stale()
    with pytest.raises(ReplayError, match=says) as caught:
        run.replay([change(event) for event in run.rounds()])
    assert "\n" not in str(caught.value)


def test_other_documents_give_other_bits_from_that_step_on() -> None:
    run = stale()
    events: list[Any] = run.rounds()
    place = next(i for i, e in enumerate(events) if isinstance(e, RoundOpened) and e.round == 3)
    events[place] = replace(events[place], first=events[place].first + 1)
    theirs, ours = run.replay(), run.replay(events)
    equal = [same(one, other) for one, other in zip(theirs, ours, strict=True)]
    assert equal[0] and not equal[-1]  # noqa: PT018  # the two ends of one list


def test_more_steps_than_any_training_has_are_one_sentence() -> None:
    run = stale()
    run.config = replace(run.config, steps=3)
    begun = Started(SCHEMA, "run", "epoch", 0, 10**15 + 1, Level.ROUNDS, 0)
    numbered = enumerate([begun, *run.rounds()], 1)
    epochs = read((line, Recorded(0.0, 0, event)) for line, event in numbered)
    training = Training(run.config, run.corpus, ENGINE, run.strategy)
    with pytest.raises(ReplayError, match=r"^line 1: steps must be at most 1,000,000,000,000,000$"):
        [*play(training, legs(epochs, exact=False), initial_state(run.config, run.corpus))]
