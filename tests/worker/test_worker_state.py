"""The worker's decisions: events in, actions out."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from microgpt.data.packed import PackedDocuments
from microgpt.protocol import messages
from worker.state import (
    Action,
    Compute,
    Computed,
    Configure,
    Configured,
    Connected,
    Event,
    Leave,
    Note,
    Prepare,
    Received,
    Reported,
    Send,
    StopRequested,
    Tick,
    WorkerState,
)

RUN, EPOCH = "run", "epoch"
DOCUMENTS = PackedDocuments.pack([[4, 0, 4]])
MODEL = {"vocab_size": 5, "n_layer": 1}
WELCOME = messages.Welcome(RUN, EPOCH, 1, 2.0, MODEL)


def weights(step: int, epoch: str = EPOCH) -> messages.Weights:
    return messages.Weights(RUN, epoch, step, {"wte": bytes([step]) * 8})


def task(step: int, start: int = 0, epoch: str = EPOCH) -> messages.Task:
    return messages.Task(RUN, epoch, step, start, 1, *DOCUMENTS.to_bytes(), round=2)


def answer(to: messages.Task) -> messages.ShardResult:
    return messages.ShardResult(
        to.run, to.epoch, to.step, to.start, 1, 0.1, bytes(8), {"wte": bytes(8)}, round=to.round
    )


class Play:
    """A worker and the time; ``hears`` and ``do`` return what it does."""

    def __init__(self) -> None:
        self.worker = WorkerState("anna", "scalar", "digest")
        self.now = 50.0
        self.first = self.worker.start(self.now)

    def do(self, event: Event, after: float = 0.0) -> list[Action]:
        self.now += after
        return self.worker.handle(event, self.now)

    def hears(self, *heard: messages.Message) -> list[Action]:
        return [action for message in heard for action in self.do(Received(message))]

    def computed(self, actions: list[Action]) -> list[Action]:
        """Carry out the one Compute among the actions."""
        (compute,) = (action for action in actions if isinstance(action, Compute))
        return self.do(Computed(compute.job, answer(compute.job.task)))


def sent(actions: list[Action]) -> list[messages.Message]:
    return [action.message for action in actions if isinstance(action, Send)]


HELLO = messages.Hello("", "", "anna", "scalar", "digest")


def test_it_offers_itself_until_it_is_welcomed() -> None:
    play = Play()
    assert sent(play.first) == [HELLO]
    offers = [message for _ in range(20) for message in sent(play.do(Tick(), after=0.1))]
    assert offers == [HELLO] * len(offers)
    assert 3 <= len(offers) <= 5
    actions = play.hears(WELCOME)
    assert Configure(MODEL) in actions
    assert any(isinstance(action, Note) for action in actions)


def test_heartbeats_come_well_within_the_time_that_the_coordinator_gives() -> None:
    play = Play()
    play.hears(WELCOME, weights(0))
    play.hears(task(0))  # and it goes on computing all the while
    beats = []
    for _ in range(100):
        for message in sent(play.do(Tick(), after=0.1)):
            assert message == messages.Heartbeat(RUN, EPOCH, ready=False)
            beats.append(play.now)
    gaps = [after - before for before, after in pairwise(beats)]
    assert max(gaps) < WELCOME.seconds / 2


def test_it_says_so_once_its_engine_is_made() -> None:
    play = Play()
    play.hears(WELCOME)
    ready = [messages.Heartbeat(RUN, EPOCH, ready=True)]
    assert sent(play.do(Configured(MODEL))) == ready
    assert sent(play.do(Tick(), after=1.0)) == ready, "and again, as messages may be lost"
    assert sent(play.hears(messages.Welcome(RUN, "second", 1, 2.0, MODEL))) == [
        messages.Heartbeat(RUN, "second", ready=True)
    ]


def test_an_engine_for_another_model_is_not_ready() -> None:
    play = Play()
    play.hears(WELCOME, messages.Welcome("next", EPOCH, 1, 2.0, {**MODEL, "n_layer": 2}))
    assert sent(play.do(Configured(MODEL))) == []
    assert sent(play.do(Configured({**MODEL, "n_layer": 2}))) == [
        messages.Heartbeat("next", EPOCH, ready=True)
    ]


def test_an_engine_that_is_made_before_the_second_welcome() -> None:
    play = Play()
    play.hears(WELCOME, messages.Reregister(RUN, EPOCH))
    assert sent(play.do(Configured(MODEL))) == [], "not welcomed yet"
    assert sent(play.hears(WELCOME)) == [], "late: the answer to the first Hello"
    welcome = replace(WELCOME, attempt=1)
    assert sent(play.hears(welcome)) == [messages.Heartbeat(RUN, EPOCH, ready=True)]
    assert sent(play.hears(messages.Reregister(RUN, EPOCH))) == [
        messages.Hello(RUN, EPOCH, "anna", "scalar", "digest", 2)
    ]


def test_work_is_done_in_order_and_one_at_a_time() -> None:
    play = Play()
    play.hears(WELCOME, weights(0))
    first = play.hears(task(0, 0))
    assert play.hears(task(0, 1)) == []
    second = play.computed(first)
    assert sent(second) == [answer(task(0, 0))]
    third = play.computed(second)
    assert sent(third) == [answer(task(0, 1))]
    assert not any(isinstance(action, Compute) for action in third)


def test_each_task_is_computed_with_the_weights_of_its_step() -> None:
    play = Play()
    play.hears(WELCOME)
    first = play.hears(weights(0), task(0))
    play.hears(weights(1), task(1))
    (compute,) = (action for action in first if isinstance(action, Compute))
    assert compute.job.weights == weights(0).weights
    (later,) = (action for action in play.computed(first) if isinstance(action, Compute))
    assert later.job.weights == weights(1).weights


@pytest.mark.parametrize("before", [[], [weights(3)]], ids=["none", "others"])
def test_a_task_without_its_weights_begins_all_again(before: list[Any]) -> None:
    play = Play()
    play.hears(WELCOME, *before)
    assert sent(play.hears(task(4))) == [messages.Hello(RUN, EPOCH, "anna", "scalar", "digest", 1)]


def redo(step: int) -> messages.ReplicaTask:
    where = RUN, EPOCH, step, 0, 1
    return messages.ReplicaTask(
        *where, *DOCUMENTS.to_bytes(), round=9, replica=0, clock=step, steps=0, updates=0,
        elastic=0.0, snapshot=False, redo=True,
    )  # fmt: skip


@pytest.mark.parametrize("late", [task(0), redo(0), redo(2)])
def test_a_task_that_comes_late_over_an_older_connection_is_left_out(late: messages.Task) -> None:
    """Beginning again would lose what has just been given, if a welcome comes late as well."""
    play = Play()
    play.hears(WELCOME, weights(1), replace(task(1), round=3))
    assert play.hears(late) == []
    assert play.worker.computing is not None
    play.hears(WELCOME)
    assert play.worker.computing.task == replace(task(1), round=3)
    newer = replace(task(2), round=4)
    assert sent(play.hears(newer)) == [messages.Hello(RUN, EPOCH, "anna", "scalar", "digest", 1)]


def test_a_state_that_is_told_again_is_for_the_task_after_it() -> None:
    """Also if that task is under way: what follows goes on from it, and not from the state."""
    play = Play()
    state, again = (messages.ReplicaState(RUN, EPOCH, 0, 0, {}) for _ in range(2))
    actions = play.hears(WELCOME, state, weights(0), redo(0))
    play.do(Connected())
    more = weights(0), redo(0), weights(1), redo(1), weights(1), redo(1)
    play.hears(replace(WELCOME, attempt=1), again, *more)
    jobs = []
    for _ in range(4):
        (compute,) = (action for action in actions if isinstance(action, Compute))
        jobs.append((compute.job.task, compute.job.replica))
        actions = play.computed(actions)
    assert jobs == [(redo(0), state), (redo(0), again), (redo(1), None), (redo(1), None)]


def test_a_redone_task_is_computed_and_not_answered() -> None:
    play = Play()
    state = messages.ReplicaState(RUN, EPOCH, 0, 0, {})
    actions = play.hears(WELCOME, state, weights(0), redo(0), weights(1), task(1))
    (first,) = (action for action in actions if isinstance(action, Compute))
    assert (first.job.task, first.job.replica) == (redo(0), state)
    actions = play.computed(actions)
    assert sent(actions) == []
    assert [action.job.task for action in actions if isinstance(action, Compute)] == [task(1)]
    assert len(sent(play.computed(actions))) == 1


def test_a_replica_that_is_not_as_it_should_be_begins_all_again() -> None:
    play = Play()
    (compute,) = (a for a in play.hears(WELCOME, weights(0), task(0)) if isinstance(a, Compute))
    hello = messages.Hello(RUN, EPOCH, "anna", "scalar", "digest", 1)
    assert sent(play.do(Computed(compute.job, None))) == [hello]


@pytest.mark.parametrize(
    "message", [weights(0, "old"), task(0, 0, "old"), messages.Stop(RUN, "old", "bye")]
)
def test_messages_of_an_earlier_epoch_are_dropped(message: messages.Message) -> None:
    play = Play()
    play.hears(WELCOME)
    assert play.hears(message) == []
    assert not play.worker.finished


def test_a_new_life_of_the_coordinator() -> None:
    play = Play()
    play.hears(WELCOME, weights(5))
    old = play.hears(task(5))
    asked = play.hears(messages.Reregister(RUN, "second"))
    assert [type(message) for message in sent(asked)] == [messages.Hello]
    actions = play.hears(messages.Welcome(RUN, "second", 1, 2.0, MODEL))
    assert not any(isinstance(action, Configure) for action in actions), "the model is the same"
    assert sent(play.computed(old)) == [], "nobody waits for that answer any more"
    new = play.hears(weights(3, "second"), task(3, 0, "second"))
    assert sent(play.computed(new)) == [answer(task(3, 0, "second"))]


def test_what_was_asked_over_an_older_connection_is_answered_if_it_is_asked_again() -> None:
    """To the coordinator it has come anew: others may have what it had."""
    play = Play()
    first = play.hears(WELCOME, weights(0), task(0, 0))
    play.do(Connected())
    play.hears(replace(WELCOME, attempt=1), weights(0), task(0, 1))
    second = play.computed(first)
    assert sent(second) == [], "that would be an answer that nobody has asked for"
    play.do(Connected())
    assert play.hears(replace(WELCOME, attempt=2), weights(0), task(0, 1)) == []
    assert sent(play.computed(second)) == [answer(task(0, 1))]


def test_what_waits_over_an_older_connection_is_not_answered_either() -> None:
    play = Play()
    first = play.hears(WELCOME, weights(0), task(0, 0), task(0, 1))
    play.do(Connected())
    second = play.computed(first)
    play.hears(replace(WELCOME, attempt=1), weights(0))
    assert sent(second) == sent(play.computed(second)) == []


def test_another_model_makes_another_engine() -> None:
    play = Play()
    play.hears(WELCOME)
    other = {**MODEL, "n_layer": 2}
    actions = play.hears(messages.Welcome("next", "epoch", 1, 2.0, other))
    assert Configure(other) in actions


@pytest.mark.parametrize(
    ("message", "leave"),
    [
        (messages.Stop(RUN, EPOCH, "all done"), Leave("done", "all done")),
        (
            messages.Refuse("", "", "wrong version"),
            Leave("refused", "the coordinator refuses this worker: wrong version"),
        ),
    ],
)
def test_it_ends_when_told_to(message: messages.Message, leave: Leave) -> None:
    play = Play()
    play.hears(WELCOME)
    assert play.hears(message) == [leave]
    assert play.do(Tick(), after=9.0) == []


def test_it_says_goodbye_when_asked_to_leave() -> None:
    play = Play()
    play.hears(WELCOME)
    actions = play.do(StopRequested())
    assert sent(actions) == [messages.Goodbye(RUN, EPOCH)]
    assert isinstance(actions[-1], Leave)
    assert actions[-1].outcome == "left"


def test_what_the_engine_reports_is_passed_on() -> None:
    play = Play()
    assert sent(play.do(Reported("compiling"))) == [], "nobody has welcomed it yet"
    play.hears(WELCOME)
    actions = play.do(Reported("x" * 10_000))
    (status,) = sent(actions)
    assert isinstance(status, messages.Status)
    assert messages.decode(messages.encode(status)) == status


def heard_nothing(worker: WorkerState, *events: Event, seconds: float) -> list[str]:
    """What it tells people while ticks and at the beginning these events are all that happens."""
    actions = worker.start(0.0)
    for event in events:
        actions += worker.handle(event, 0.1)
    for tick in range(2, round(10 * seconds) + 1):
        actions += worker.handle(Tick(), tick / 10)
    return [action.text for action in actions if isinstance(action, Note)]


def test_an_offer_without_an_answer_is_told_of_with_what_to_check() -> None:
    where = "tcp://there:5555"
    plain = WorkerState("anna", "scalar", address=where)
    assert heard_nothing(plain, seconds=1.9) == []
    checks = "does a coordinator run there, is the address right, does it want keys (--curve DIR)?"
    assert heard_nothing(WorkerState("anna", "scalar", address=where), seconds=30) == [
        f"no connection to {where} for 2 s, still trying: {checks}",
        f"no connection to {where} for 20 s, still trying: {checks}",
    ]
    keyed = WorkerState("anna", "scalar", address=where, keys="k")
    (text,) = heard_nothing(keyed, seconds=3)
    assert text.endswith("is the address right, is coordinator.key in k the coordinator's?")
    silent = WorkerState("anna", "scalar", address=where)
    assert heard_nothing(silent, Connected(), seconds=3) == [
        f"no answer from {where} for 2 s, still trying: is it a coordinator that has this address?"
    ]


def test_a_worker_that_is_welcomed_tells_of_no_silence() -> None:
    told = heard_nothing(WorkerState("anna", "scalar"), Received(WELCOME), seconds=60)
    assert told == ["anna is welcome in run run"]


def test_a_worker_calls_itself_by_its_own_name() -> None:
    """The coordinator counts workers as they come: that number is nobody's name."""
    state = WorkerState("worker-7", "stub")
    state.start(0.0)
    notes = [a.text for a in state.handle(Received(WELCOME), 0.1) if isinstance(a, Note)]
    assert notes == ["worker-7 is welcome in run run"]


def ahead(step: int, start: int = 0) -> messages.TaskAhead:
    return messages.TaskAhead(RUN, EPOCH, step, start, 1, *DOCUMENTS.to_bytes(), round=2)


def jobs(actions: list[Action]) -> list[tuple[messages.Task, Any]]:
    return [(a.job.task, a.job.weights) for a in actions if isinstance(a, Compute)]


def test_a_task_that_is_told_ahead_is_begun_with_its_weights() -> None:
    play = Play()
    first = play.hears(WELCOME, weights(0), task(0))
    assert play.hears(ahead(1)) == [Prepare(task(1))]
    assert play.computed(first) == [Send(answer(task(0)))]
    assert jobs(play.hears(weights(1))) == [(task(1), weights(1).weights)]
    assert play.hears(weights(2)) == [], "it is begun once"


def test_weights_that_come_late_over_an_older_connection_take_no_task_away() -> None:
    play = Play()
    play.hears(WELCOME, weights(2), ahead(3))
    assert play.hears(weights(1), weights(2)) == []
    assert jobs(play.hears(weights(3))) == [(task(3), weights(3).weights)]


@pytest.mark.parametrize(
    "meanwhile",
    [
        [weights(2)],
        [replace(WELCOME, epoch="next"), replace(weights(0), epoch="next")],
        [ahead(2), ahead(2, 1), ahead(2, 2), ahead(2, 3)],
    ],
    ids=["newer weights", "another epoch", "more than are kept"],
)
def test_a_task_that_was_told_ahead_may_come_to_nothing(meanwhile: list[Any]) -> None:
    play = Play()
    play.hears(WELCOME, weights(0), ahead(1))
    play.hears(*meanwhile)
    later = replace(weights(1), epoch=play.worker.epoch)
    assert jobs(play.hears(later)) == []


def test_what_is_told_ahead_of_nothing_is_left_out() -> None:
    """It is late, and was told over an older connection."""
    play = Play()
    play.hears(WELCOME)
    assert play.hears(ahead(1), weights(1)) == []
    assert play.hears(ahead(1), ahead(0)) == []
    assert jobs(play.hears(weights(1))) == []
