"""Work that workers are told of before its weights exist: what they know, and who computes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

import coordinator.core.ahead
from coordinator.core.events import Expelled, Lost
from coordinator.core.inputs import Asked, Disconnected, Idle, Tick, Wish
from coordinator.core.membership import HELLO_SECONDS
from coordinator.core.stragglers import SLOW_FACTOR
from microgpt.protocol import messages
from microgpt.protocol.messages import Task, TaskAhead, Weights
from microgpt.strategies.base import Round, View
from microgpt.strategies.sync import Sync
from tests.coordinator.core.test_coordinator_state import A, B, C, Play, expected


class Foresight(Play):
    """A ``Play`` whose workers begin what they were told of when its weights come."""

    def __init__(self, **settings: Any) -> None:
        self.ahead: dict[bytes, TaskAhead] = {}
        settings.setdefault("shard_size", None)
        super().__init__(**settings)

    def idles(self) -> list[type[messages.Message]]:
        """There is nothing to take in. Returns what kinds of messages that has led to."""
        before = sum(map(len, self.sent.values()))
        self.do(Idle())
        kinds = [type(m) for sent in self.sent.values() for m in sent]
        return kinds[before:] if len(self.sent) == 1 else [TaskAhead] * (len(kinds) - before)

    def task(self, peer: bytes) -> Task:
        """What the worker has to compute now, whenever it was told."""
        found: Task | None = None
        held: TaskAhead | None = None
        for message in self.sent[peer]:
            if isinstance(message, Task):
                found = message
            elif isinstance(message, TaskAhead):
                held = message
            elif isinstance(message, Weights) and held is not None and held.step == message.step:
                where = held.run, held.epoch, held.step, held.start, held.count
                found, held = Task(*where, held.tokens, held.lengths, round=held.round), None
        assert found is not None
        return found

    def since(self, peer: bytes, number: int) -> list[type[messages.Message]]:
        return [type(message) for message in self.sent[peer][number:]]


def test_only_weights_are_under_way_between_two_rounds() -> None:
    play = Foresight(steps=3)
    play.joins(A)
    assert play.idles() == [], "nobody is proven yet"
    for step in (1, 2):
        play.answers(A)
        assert play.idles() == ([TaskAhead] if step == 1 else []), "after the last there is none"
        assert play.idles() == [], "once"
    assert [type(message) for message in play.sent[A]] == [
        messages.Welcome, Weights, Task, Weights, Task, TaskAhead, Weights
    ]  # fmt: skip
    assert play.task(A).step == 2
    play.answers(A)
    assert play.saves[-1] == 3
    assert play.state.training.params.tobytes() == expected(play.config)


def two_at_work(**settings: Any) -> Foresight:
    """Two proven workers in the second step, each told its shard of the third."""
    play = Foresight(**{"steps": 5, "shard_size": 2, **settings})
    play.joins(A, B)
    for peer in (A, B):
        play.answers(peer)
    assert play.idles() == [TaskAhead] * 2
    assert [play.got(peer, TaskAhead)[-1].start for peer in (A, B)] == [0, 2]
    return play


def test_each_worker_begins_what_it_was_told_whoever_answered_first() -> None:
    play = two_at_work()
    before = [len(play.sent[peer]) for peer in (A, B)]
    play.answers(B)
    play.answers(A)
    assert [play.since(p, n) for p, n in zip((A, B), before, strict=True)] == [[Weights]] * 2
    assert [play.task(peer).start for peer in (A, B)] == [0, 2]


def test_what_a_lost_worker_was_told_is_given_to_another() -> None:
    play = two_at_work()
    play.do(Disconnected(B))
    assert play.events(Lost)
    play.answers(A)
    play.answers(A)  # for B
    before = len(play.sent[A])
    play.answers(A)
    assert play.since(A, before) == [Task], "that of B, with the weights that A has"
    assert (play.task(A).step, play.task(A).start) == (2, 2)


def test_who_begins_again_is_given_its_task_in_full() -> None:
    play = two_at_work()
    play.now += 2 * HELLO_SECONDS
    play.joins(B)
    play.answers(A)
    before = len(play.sent[B])
    play.answers(B)
    assert play.since(B, before) == [Weights, Task]
    assert (play.task(B).step, play.task(B).start) == (2, 2)


def test_who_comes_meanwhile_takes_nothing_from_those_who_were_told() -> None:
    play = two_at_work()
    play.joins(C)
    for peer in (A, B):
        play.answers(peer)
    assert [(play.task(p).step, play.task(p).start) for p in (A, B)] == [(2, 0), (2, 2)]
    play.answers(C)  # a trial
    assert play.state.workers[C].proven
    assert (play.task(C).step, len(play.got(C, Task))) == (1, 1), "all is given away"
    assert not play.events(Expelled)


def test_who_is_not_free_when_the_round_begins_holds_up_nobody() -> None:
    play = two_at_work()
    play.answers(A)
    play.do(Tick(), after=SLOW_FACTOR)
    assert play.task(A).start == 2, "it stands in for B, which is slow"
    play.answers(A)
    assert play.state.training.step == 2
    assert (play.task(A).step, play.task(A).start) == (2, 0)
    play.answers(A)
    assert (play.task(A).step, play.task(A).start) == (2, 2), "B's: it is still busy"


def test_what_was_told_is_begun_when_a_pause_is_over() -> None:
    play = two_at_work()
    play.do(Asked(Wish.PAUSE, "somebody"))
    before = [len(play.sent[peer]) for peer in (A, B)]
    for peer in (A, B):
        play.answers(peer)
    assert play.idles() == []
    assert [len(play.sent[peer]) for peer in (A, B)] == before
    play.do(Asked(Wish.RESUME, "somebody"))
    assert [play.since(p, n) for p, n in zip((A, B), before, strict=True)] == [[Weights]] * 2
    for peer in (A, B):
        play.answers(peer)
    assert play.state.training.step == 3


def test_an_answer_before_the_weights_is_not_taken_in() -> None:
    play = two_at_work()
    told = play.got(B, TaskAhead)[-1]
    where = told.run, told.epoch, told.step, told.start, told.count
    task = Task(*where, told.tokens, told.lengths, round=told.round)
    play.says(B, play.answer(task))
    (expelled,) = play.events(Expelled)
    assert expelled.reason == "it answers what it was not asked"


def test_no_work_is_told_ahead_of_an_evaluation() -> None:
    play = Foresight(steps=4, held_out=0.5, eval_every=2)
    play.joins(A)
    play.answers(A)
    assert play.idles() == [], "the second step is evaluated before the third begins"
    play.answers(A)
    assert not play.task(A).training
    assert play.idles() == []
    play.answers(A)
    assert play.idles() == [TaskAhead]


def test_large_tasks_are_sent_when_they_are_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coordinator.core.ahead, "LARGEST_TOLD", 8)
    play = Foresight(steps=3)
    play.joins(A)
    play.answers(A)
    assert play.idles() == []
    play.answers(A)
    assert play.task(A).step == 2


@dataclass(frozen=True)
class Errs(Sync):
    """Foretells rounds of two documents, and opens others."""

    def open(self, view: View) -> Sequence[Round]:
        return super().open(view)

    def following(self, round: Round) -> Round | None:
        return Round(round.version + 1, round.first, 2)


def test_a_round_that_was_foretold_wrongly_counts_for_nothing() -> None:
    play = Foresight(strategy=Errs(), steps=4, shard_size=2)
    play.joins(A)
    play.answers(A)
    play.answers(A)
    assert play.task(A).step == 1
    play.answers(A)  # the other half
    assert play.idles() == [TaskAhead]
    told = play.got(A, TaskAhead)[-1]
    play.answers(A)
    task = play.got(A, Task)[-1]
    assert (task.step, task.start, task.count) == (2, 0, 2)
    assert task.round == told.round + 1, "a name of its own"
    where = told.run, told.epoch, told.step, told.start, told.count
    play.says(A, play.answer(Task(*where, told.tokens, told.lengths, round=told.round)))
    assert not play.events(Expelled), "it has done what it was told"
    assert len(play.state.ledgers[0].arrived) == 0
    while play.state.closing is None:
        play.idles()
        play.says(A, play.answer(play.got(A, Task)[-1]))
    assert play.state.training.params.tobytes() == expected(play.config)


@dataclass(frozen=True)
class OpensOthers(Sync):
    """Half batches: what ``Sync`` foretells is not true of it."""

    def open(self, view: View) -> Sequence[Round]:
        return [] if view.open else [Round(view.state.step, view.next_document, 2)]


def test_a_subclass_that_opens_other_rounds_foretells_nothing() -> None:
    play = Foresight(strategy=OpensOthers())
    play.joins(A)
    play.answers(A)
    assert play.idles() == []


@dataclass(frozen=True)
class Foretells(Sync):
    """Foretells what cannot be."""

    what: str = "nonsense"

    def open(self, view: View) -> Sequence[Round]:
        return super().open(view)

    def following(self, round: Round) -> Any:
        return {"nonsense": "a round", "past": round, "error": 1}[self.what]


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("nonsense", "strategy Foretells: following gives 'a round', no round without "),
        ("past", "strategy Foretells: following gives Round(version=1, "),
        ("missing", "strategy Foretells: following raises KeyError: 'missing' (line "),
    ],
)
def test_what_foretells_nonsense_ends_the_run_with_its_state_saved(what: str, reason: str) -> None:
    play = Foresight(strategy=Foretells(what))
    play.joins(A)
    play.answers(A)
    play.idles()
    assert play.state.closing is not None
    assert play.state.closing.outcome == "failed"
    assert play.state.closing.reason.startswith(reason)
    assert play.saves[-1] == 1


def test_a_prepared_round_of_nobody_is_cut_for_who_comes() -> None:
    """All workers are gone before it begins."""
    play = two_at_work()
    for peer in (A, B):
        play.do(Disconnected(peer))
    play.joins(C)
    while play.state.closing is None:
        play.answers(C)
        play.idles()
    assert play.state.training.params.tobytes() == expected(play.config)
