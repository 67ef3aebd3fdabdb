"""The coordinator with strategies that are not ``sync``: many rounds, early closing, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from coordinator.core.actions import Finish
from coordinator.core.events import RoundClosed, RoundOpened, RoundOutcome
from coordinator.core.inputs import Disconnected, Saved
from microgpt.engine.answering import documents_of
from microgpt.protocol import messages
from microgpt.training import TrainingState, advance, initial_state
from tests.coordinator.core.test_coordinator_state import CORPUS, MODEL, A, B, C, Play, pretend
from tests.strategies_of_users import BreaksAt, FirstHalf, OneEach


def places(documents: list[int]) -> list[list[int]]:
    """These documents of the endless sequence, as workers get them."""
    return [CORPUS.documents(i, 1)[0][: MODEL.block_size + 1] for i in documents]


def after(play: Play, *batches: list[int]) -> TrainingState:
    """The state after a step with each of these batches, without any coordinator."""
    state = initial_state(play.config, CORPUS)
    for batch in batches:
        size = play.config.batch_size
        state = advance(play.config, state, pretend(places(batch)), [1.0] * size)
    return state


def same(state: TrainingState, other: TrainingState) -> bool:
    return (state.step, state.losses, state.params.tobytes()) == (
        other.step, other.losses, other.params.tobytes(),
    )  # fmt: skip


# --- several rounds open at once -----------------------------------------------------------------


def test_each_idle_worker_gets_a_round_of_its_own() -> None:
    play = Play(batch_size=2, shard_size=2, strategy=OneEach(bound=1))
    play.joins(A, B, C)
    tasks = [play.task(peer) for peer in (A, B, C)]
    assert [ledger.round.number for ledger in play.state.ledgers] == [0, 1, 2]
    assert [(task.round, task.step) for task in tasks] == [(0, 0), (1, 0), (2, 0)]
    read = [[*documents_of(task)] for task in tasks]
    assert read == [places([0, 1]), places([2, 3]), places([4, 5])]


def test_rounds_close_in_the_order_of_their_answers_and_late_ones_are_dropped() -> None:
    play = Play(batch_size=2, shard_size=2, steps=3, strategy=OneEach(bound=1))
    play.joins(A, B, C)
    play.answers(B)  # step 1, with weights of step 0
    assert same(play.state.training, after(play, [2, 3]))
    play.answers(A)  # step 2: one update too old, which may be
    assert same(play.state.training, after(play, [2, 3], [0, 1]))
    play.answers(C)  # two updates too old: dropped
    assert same(play.state.training, after(play, [2, 3], [0, 1]))
    assert play.state.training.next_document == 6, "the dropped documents are used up, too"
    assert [(play.task(p).round, play.task(p).step) for p in (B, A, C)] == [(3, 1), (4, 2), (5, 2)]
    play.answers(C)
    assert play.state.closing == Finish("done", "all 3 steps are done")
    assert same(play.state.training, after(play, [2, 3], [0, 1], [10, 11]))


def test_the_round_of_a_lost_worker_goes_to_the_next_idle_one() -> None:
    play = Play(batch_size=2, shard_size=2, strategy=OneEach(bound=9))
    play.joins(A, B)
    lost = play.task(A)
    play.do(Disconnected(A))
    play.answers(B)
    again = play.task(B)
    assert (again.round, again.tokens) == (lost.round, lost.tokens)
    play.answers(B)
    assert same(play.state.training, after(play, [2, 3], [0, 1]))


# --- closed early --------------------------------------------------------------------------------


def test_a_round_that_is_closed_early_drops_what_comes_late() -> None:
    play = Play(batch_size=2, steps=2, strategy=FirstHalf())
    play.joins(A, B)
    late = play.task(A)
    play.answers(B)
    assert same(play.state.training, after(play, [1, 1]))
    assert play.state.training.next_document == 2
    assert play.state.workers[A].in_flight, "A is not idle before it has answered"
    assert len(play.got(A, messages.Task)) == 1
    assert play.task(B).step == 1
    play.answers(A)
    assert same(play.state.training, after(play, [1, 1])), "an answer of a closed round"
    assert play.state.workers[A].documents == 0, "counts for nothing"
    assert list(play.state.workers) == [A, B], "but costs nobody anything"
    assert (play.task(A).step, play.task(A).round) == (1, late.round + 1)
    play.answers(A)
    assert play.state.closing == Finish("done", "all 2 steps are done")
    assert same(play.state.training, after(play, [1, 1], [3, 3]))


def test_who_is_lost_with_work_of_a_round_closed_early_leaves_nothing_to_do() -> None:
    play = Play(batch_size=2, steps=2, strategy=FirstHalf())
    play.joins(A, B)
    play.answers(B)
    play.do(Disconnected(A))
    play.answers(B)
    assert play.state.closing == Finish("done", "all 2 steps are done")
    steps = [task.step for task in play.got(B, messages.Task)]
    assert steps == [0, 1], "A's shard is nobody's any more"


# --- what is recorded ----------------------------------------------------------------------------


def rounds(play: Play) -> list[RoundOpened | RoundClosed]:
    return [event for event in play.told if isinstance(event, RoundOpened | RoundClosed)]


def test_rounds_are_told_of_where_timing_decides_and_only_there() -> None:
    play = Play(batch_size=2, steps=2, strategy=FirstHalf())
    play.joins(A, B)
    play.answers(B)
    applied, cut = RoundOutcome.APPLIED, (1, 1)
    assert rounds(play) == [
        RoundOpened(0, 0, False, 0, 2),
        RoundClosed(0, 0, False, 2, 1, applied, cut, (1,), workers=2),
        RoundOpened(1, 1, False, 2, 2),
    ]
    exact = Play(batch_size=2, steps=2)
    exact.joins(A, B)
    exact.answers(B)
    exact.answers(A)
    assert exact.state.training.step == 1
    assert rounds(exact) == []


# --- errors of a strategy ------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["open", "enough", "update"])
@pytest.mark.parametrize("error", ["KeyError", "StrategyError", "MemoryError", "SystemExit"])
def test_an_error_of_a_strategy_ends_the_run_with_the_state_before(
    method: str, error: str, tmp_path: Path
) -> None:
    play = Play(batch_size=2, strategy=BreaksAt(method, 1, error, str(tmp_path)))
    play.joins(A, B)
    while play.state.closing is None:
        play.answers(A) if play.state.workers[A].in_flight else play.answers(B)
    assert play.state.closing.outcome == "failed"
    if error == "StrategyError":
        assert play.state.closing.reason == "on purpose"
    else:
        reason = f"strategy BreaksAt: {method} raises {error}: "
        assert play.state.closing.reason.startswith(reason)
        assert "on purpose" in play.state.closing.reason
        assert "(line " in play.state.closing.reason
    assert same(play.state.training, after(play, [0, 1]))
    assert play.saves == [0, 1]
    for peer in (A, B):
        assert len(play.got(peer, messages.Stop)) == 1
    play.do(Saved(1))
    assert play.finish == play.state.closing
    assert np.isfinite(play.state.training.params).all()


def test_an_error_of_a_strategy_costs_no_worker_anything(tmp_path: Path) -> None:
    play = Play(batch_size=2, strategy=BreaksAt("update", 0, "RecursionError", str(tmp_path)))
    play.joins(A, B)
    play.answers(A)
    play.answers(B)
    assert list(play.state.workers) == [A, B]
    assert "expelled" not in play.kinds()
