"""The coordinator's decisions: events in, actions out, and not a socket in sight."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import pytest

from coordinator.core.actions import Action, Finish, Judge, RecordStep, Save, Send
from coordinator.core.event_json import kind_of
from coordinator.core.event_text import describe
from coordinator.core.events import (
    BackedUp,
    Cause,
    CheckpointAwaited,
    Closing,
    Difference,
    EventBase,
    Expelled,
    Left,
    Lost,
    OtherPlatform,
)
from coordinator.core.inputs import (
    Disconnected,
    Input,
    Judged,
    KeyRevoked,
    Misbehaved,
    Peer,
    Received,
    Saved,
    StopRequested,
    Tick,
)
from coordinator.core.membership import HELLO_SECONDS
from coordinator.core.pulses import no_traffic
from coordinator.core.state import CoordinatorState, Policy
from coordinator.core.tally import Traffic
from coordinator.core.work_times import WorkTimes
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.engine.answering import documents_of
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.numerics.vectors import vector_to_map
from microgpt.parameters import num_params
from microgpt.protocol import messages
from microgpt.strategies.base import Strategy
from microgpt.training import advance, initial_state
from tests.processes import NAMES

CORPUS = Corpus(NAMES, 42)
MODEL = GPTConfig(CORPUS.tokenizer.vocab_size, n_embd=2, n_head=1, block_size=2)
SHAPES = parameter_shapes(MODEL)
A, B, C = b"A", b"B", b"C"
RUN, EPOCH = "run", "epoch"

M = TypeVar("M")
E = TypeVar("E", bound=EventBase)


def pretend(documents: Sequence[Sequence[int]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """A stand-in gradient that is exact whatever the order of the sum, and tells documents apart.

    Whole numbers: their sums round nowhere.
    """
    return np.full(num_params(SHAPES), float(sum(sum(d) for d in documents)))


class Play:
    """A state, the actions of the last event, and all that was sent to each peer."""

    def __init__(
        self,
        *,
        steps: int = 3,
        batch_size: int = 4,
        held_out: float = 0.0,
        strategy: Strategy | None = None,
        traffic: Callable[[Peer], Traffic | None] = no_traffic,
        **policy: Any,
    ) -> None:
        self.config = TrainingConfig(
            MODEL, steps=steps, batch_size=batch_size, validation_fraction=held_out
        )
        policy.setdefault("shard_size", 1)
        self.corpus = Corpus(NAMES, 42, held_out)
        begin = initial_state(self.config, self.corpus)
        self.state = CoordinatorState(
            self.config, self.corpus, begin, Policy(**policy),
            run=RUN, epoch=EPOCH, strategy=strategy, traffic=traffic,
        )  # fmt: skip
        self.begin()

    def begin(self) -> None:
        self.now = 100.0
        self.sent: dict[bytes, list[messages.Message]] = {}
        self.told: list[EventBase] = []
        self.done: list[dict[str, Any]] = []
        self.saves: list[int] = []
        self.finish: Finish | None = None
        self.questions: list[Judge] = []
        self._take(self.state.start(self.now))

    def do(self, event: Input, after: float = 0.0) -> list[Action]:
        self.now += after
        actions = self.state.handle(event, self.now)
        self._take(actions)
        if self.state.closing is None:
            for ledger in self.state.ledgers:
                ledger.audit()
        return actions

    def _take(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.sent.setdefault(action.peer, []).append(action.message)
            elif isinstance(action, EventBase):
                self.told.append(action)
            elif isinstance(action, RecordStep):
                self.done.append(dict(action.record))
            elif isinstance(action, Save):
                self.saves.append(action.state.step)
            elif isinstance(action, Judge):
                self.questions.append(action)
            else:
                self.finish = action

    def says(self, peer: bytes, message: messages.Message) -> list[Action]:
        return self.do(Received(peer, message))

    def joins(self, *peers: bytes) -> None:
        for peer in peers:
            self.says(peer, messages.Hello("", "", peer.decode(), "stub", ""))
            self.says(peer, messages.Heartbeat(RUN, EPOCH, ready=True))

    def got(self, peer: bytes, kind: type[M]) -> list[M]:
        return [message for message in self.sent.get(peer, []) if isinstance(message, kind)]

    def task(self, peer: bytes) -> messages.Task:
        return self.got(peer, messages.Task)[-1]

    def answer(self, task: messages.Task, **changes: Any) -> messages.ShardResult:
        gradient = vector_to_map(pretend(documents_of(task)), SHAPES) if task.training else {}
        losses = np.full(task.count, 1.0 if task.training else 2.0 + task.step).tobytes()
        place = task.step, task.start, task.count
        honest = messages.ShardResult(
            task.run, task.epoch, *place, 0.01, losses, gradient, task.training, round=task.round
        )
        return replace(honest, **changes)

    def answers(self, peer: bytes, **changes: Any) -> list[Action]:
        return self.says(peer, self.answer(self.task(peer), **changes))

    def judges(self, **changes: Any) -> list[Action]:
        """The judge answers the last question honestly, but for these fields."""
        return self.do(Judged(self.answer(self.questions[-1].task, **changes)))

    def judge_fails(self, reason: str) -> list[Action]:
        """The judge finds that the first document of the last question cannot be computed."""
        task = self.questions[-1].task
        return self.do(
            Judged(
                messages.Failure(
                    RUN, EPOCH, task.step, task.start, reason, task.training, round=task.round
                )
            )
        )

    def kinds(self) -> list[str]:
        return [kind_of(event) for event in self.told]

    def events(self, event_type: type[E]) -> list[E]:
        return [event for event in self.told if isinstance(event, event_type)]

    def finishes_with(self, *peers: bytes) -> None:
        """Let the workers answer whatever they are asked until the run is over."""
        answered = {id(t) for p in peers for t in self.got(p, messages.Task)[:-1]}
        while self.state.closing is None:
            peer, task = next(
                (p, t) for p in peers for t in self.got(p, messages.Task) if id(t) not in answered
            )
            answered.add(id(task))
            self.says(peer, self.answer(task))
        self.do(Saved(self.state.training.step))


def batch(step: int, size: int) -> list[list[int]]:
    """The documents of a step as workers get them: without what lies behind the context."""
    return [document[: MODEL.block_size + 1] for document in CORPUS.batch(step, size)]


def expected(config: TrainingConfig) -> bytes:
    """The weights after the whole run, without any coordinator."""
    state = initial_state(config, CORPUS)
    while state.step < config.steps:
        documents = batch(state.step, config.batch_size)
        state = advance(config, state, pretend(documents), [1.0] * config.batch_size)
    return state.params.tobytes()


def test_it_begins_by_saving_and_says_that_nobody_is_there() -> None:
    play = Play()
    assert play.saves == [0]
    assert describe(play.told[0]) == "waiting for workers at step 1"
    assert play.sent == {}


def test_a_worker_is_welcomed_and_given_weights_before_work() -> None:
    play = Play()
    play.joins(A)
    kinds = [type(message).__name__ for message in play.sent[A]]
    assert kinds == ["Welcome", "Weights", "Task"]
    (welcome,) = play.got(A, messages.Welcome)
    assert (welcome.run, welcome.epoch, welcome.worker) == (RUN, EPOCH, 1)
    assert GPTConfig(**welcome.model) == MODEL
    task = play.task(A)
    assert (task.step, task.start, task.count) == (0, 0, 1)
    assert [*documents_of(task)] == batch(0, 4)[:1]


def test_nobody_is_given_work_before_its_engine_is_made() -> None:
    play = Play(batch_size=2, shard_size=1)
    play.says(A, messages.Hello("", "", "A", "stub", ""))
    play.says(A, messages.Heartbeat(RUN, EPOCH, ready=False))
    assert [type(message) for message in play.sent[A]] == [messages.Welcome]
    play.joins(B)
    assert play.got(B, messages.Task) != [], "nobody waits for A"
    play.says(A, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert len(play.got(A, messages.Task)) == 1
    play.says(A, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert len(play.got(A, messages.Task)) == 1
    play.finishes_with(A, B)
    assert [record["workers"] for record in play.done] == [2, 2, 2]


def test_a_worker_whose_c_library_differs_is_loudly_named_once() -> None:
    play = Play()
    for _ in range(2):
        play.says(B, messages.Hello("", "", "B", "stub", "another digest"))
    (told,) = play.events(OtherPlatform)
    assert told == OtherPlatform(1, "B")
    assert told.warning
    assert describe(told).startswith("B has another C library or processor")


def test_whoever_says_hello_again_is_asked_again_whether_it_is_ready() -> None:
    play = Play(batch_size=1)
    play.joins(A)
    play.now += HELLO_SECONDS
    play.says(A, messages.Hello(RUN, EPOCH, "A", "stub", ""))
    assert len(play.got(A, messages.Task)) == 1
    play.says(A, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert len(play.got(A, messages.Task)) == 2


def test_a_welcome_says_which_hello_it_answers() -> None:
    play = Play(batch_size=1)
    for attempt in (0, 3):
        play.now += HELLO_SECONDS
        play.says(A, messages.Hello(RUN, EPOCH, "A", "stub", "", attempt))
    assert [welcome.attempt for welcome in play.got(A, messages.Welcome)] == [0, 3]


def test_hello_again_and_again_brings_no_weights_again_and_again() -> None:
    """Each welcome makes the coordinator queue weights for who may never read them."""
    play = Play(batch_size=1)
    play.joins(A)
    for _ in range(100):
        play.now += HELLO_SECONDS / 20
        play.joins(A)
    assert len(play.got(A, messages.Welcome)) <= 6
    assert len(play.got(A, messages.Weights)) <= 6


@pytest.mark.parametrize("peers", [(A,), (A, B), (A, B, C), (B, C, A)])
def test_a_quiet_run(peers: tuple[bytes, ...]) -> None:
    play = Play()
    play.joins(*peers)
    play.finishes_with(*peers)
    assert [record["step"] for record in play.done] == [1, 2, 3]
    assert play.state.training.params.tobytes() == expected(play.config)
    assert play.finish == Finish("done", "all 3 steps are done")
    assert all(len(play.got(peer, messages.Stop)) == 1 for peer in peers)
    assert play.saves == [0, 3]
    # The weights go to each worker once per step, however many shards it gets.
    assert [w.step for w in play.got(peers[0], messages.Weights)] == [0, 1, 2]


def test_the_record_of_a_step() -> None:
    play = Play(steps=2)
    play.joins(A)
    play.now += 0.25
    for _ in range(4):
        play.answers(A)
    (record,) = play.done
    documents = CORPUS.batch(0, 4)
    assert record["tokens"] == sum(min(2, len(d) - 1) for d in documents)
    assert (record["lr"], record["loss"], record["documents"]) == (0.01, 1.0, 4)
    assert (record["workers"], record["shards"]) == (1, 4)
    assert record["seconds"] == pytest.approx(0.25)


def test_a_step_is_timed_while_somebody_is_ready_and_no_longer() -> None:
    play = Play(steps=2, batch_size=1)
    play.do(Tick(), after=20.0)
    play.says(A, messages.Hello("", "", "A", "stub", ""))
    play.do(Tick(), after=1.0)  # it compiles
    play.says(A, messages.Heartbeat(RUN, EPOCH, ready=True))
    play.now += 0.25
    play.do(Disconnected(A))
    play.do(Tick(), after=60.0)
    play.joins(B)
    play.now += 0.5
    play.answers(B)
    play.now += 0.125
    play.answers(B)
    assert [record["seconds"] for record in play.done] == [0.75, 0.125]
    assert play.state.times == WorkTimes(until_ready=21.0, worked=0.875, alone=60.0)


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (Disconnected(A), Lost(1, "A", 1)),
        (Received(A, messages.Goodbye(RUN, EPOCH)), Left(1, "A", 1)),
        (Misbehaved(A, "nonsense"), Expelled(1, "A", 1, Cause.PROTOCOL, "nonsense")),
        (KeyRevoked(A, "no key"), Expelled(1, "A", 1, Cause.KEY, "no key")),
        (
            Received(A, messages.Stop(RUN, EPOCH, "")),
            Expelled(1, "A", 1, Cause.PROTOCOL, "a worker does not send Stop"),
        ),
    ],
)
def test_what_a_lost_worker_has_in_flight_goes_to_another_at_once(
    event: Input, told: EventBase
) -> None:
    play = Play(batch_size=2)
    play.joins(A, B)
    in_flight = play.task(A)
    play.answers(B)  # idle now: all that is left is A's
    before = len(play.got(B, messages.Task))
    play.do(event)
    again = play.task(B)
    assert len(play.got(B, messages.Task)) == before + 1
    assert (again.start, again.tokens) == (in_flight.start, in_flight.tokens)
    assert play.told[-1] == told
    assert told.warning == (not isinstance(told, Left))
    play.finishes_with(B)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_silence() -> None:
    play = Play(worker_timeout=1.0)
    play.joins(A, B)
    for _ in range(9):
        play.do(Tick(), after=0.1)
        play.says(B, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert "silent" not in play.kinds()
    for _ in range(3):
        play.do(Tick(), after=0.1)
        play.says(B, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert play.kinds().count("silent") == 1
    assert list(play.state.workers) == [B]


def test_the_coordinators_own_pause_is_nobodys_silence() -> None:
    play = Play(worker_timeout=1.0)
    play.joins(A)
    play.do(Tick(), after=3600.0)
    assert list(play.state.workers) == [A]


def test_all_gone() -> None:
    play = Play()
    play.joins(A)
    play.do(Disconnected(A))
    assert describe(play.told[-1]) == "waiting for workers at step 1"
    for _ in range(50):
        play.do(Tick(), after=0.1)
    assert play.kinds().count("waiting") == 2, "once each time that it becomes true"
    play.joins(B)
    play.finishes_with(B)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_strangers_are_asked_for_their_name() -> None:
    play = Play()
    play.says(C, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert [type(m) for m in play.sent[C]] == [messages.Reregister]
    play.says(B, messages.Goodbye(RUN, EPOCH))
    assert B not in play.sent, "who leaves is not held up"


def test_answers_are_counted_once() -> None:
    play = Play()
    play.joins(A, B)
    first = play.task(A)
    for _ in range(3):
        play.says(A, play.answer(first))
    play.finishes_with(A, B)
    assert play.state.training.params.tobytes() == expected(play.config)
    assert len(play.done) == 3


def test_an_answer_of_a_step_that_is_over_changes_nothing() -> None:
    play = Play(batch_size=1)
    play.joins(A)
    old = play.answer(play.task(A))
    play.says(A, old)
    play.says(A, old)
    play.finishes_with(A)
    assert play.state.training.params.tobytes() == expected(play.config)
    assert "expelled" not in play.kinds()


@pytest.mark.parametrize("changes", [{"run": "other"}, {"epoch": "earlier"}])
def test_messages_of_an_earlier_epoch_are_dropped(changes: dict[str, str]) -> None:
    play = Play(batch_size=1)
    play.joins(A)
    assert play.answers(A, **changes) == []
    assert play.done == []
    assert list(play.state.workers) == [A]


ZEROS = vector_to_map(np.zeros(num_params(SHAPES)), SHAPES)
NAN = vector_to_map(np.full(num_params(SHAPES), math.nan), SHAPES)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": NAN},
        {"gradient": {**ZEROS, "wte": b""}},
        {"gradient": {**ZEROS, "more": b""}},
        {"gradient": {}},
        {"losses": b""},
        {"losses": bytes(16)},
        {"losses": np.array([np.inf]).tobytes()},
        {"start": 3},
        {"count": 2},
        {"start": 1 << 40},
        {"step": 1},
        {"step": 1 << 40},
    ],
    ids=str,
)
def test_an_answer_that_cannot_be_right_ends_the_acquaintance(changes: dict[str, Any]) -> None:
    play = Play()
    play.joins(A, B)
    play.answers(A, **changes)
    assert list(play.state.workers) == [B]
    assert [type(m) for m in play.sent[A]][-1] is messages.Refuse
    assert "expelled" in play.kinds()
    play.finishes_with(B)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_a_worker_that_starts_again_gets_everything_again() -> None:
    play = Play(batch_size=2)
    play.joins(A, B)
    in_flight = play.task(A)
    play.now += HELLO_SECONDS
    play.joins(A)
    assert play.task(A) == in_flight
    assert len(play.got(A, messages.Weights)) == 2
    play.finishes_with(A, B)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_stop_saves_before_it_ends() -> None:
    play = Play()
    play.joins(A)
    for _ in range(5):
        play.answers(A)
    play.do(StopRequested())
    play.do(StopRequested())
    assert (play.saves, play.finish) == ([0, 1], None)
    assert len(play.got(A, messages.Stop)) == 1
    play.says(B, messages.Hello("", "", "B", "stub", ""))  # who comes now is sent home
    assert [type(m) for m in play.sent[B]] == [messages.Welcome, messages.Stop]
    assert play.answers(A) == []
    play.do(Saved(1))
    assert play.finish == Finish("stopped", "stopped after step 1")
    assert play.do(Tick()) == []


def test_who_stops_a_run_does_not_wait_for_a_slow_disk() -> None:
    play = Play()
    play.joins(A)
    play.do(StopRequested())
    play.do(Tick(), after=60.0)
    assert play.finish is None, "that we did not get to run is no fault of the disk"
    wait(play, 0.75)
    assert play.finish is None
    wait(play, 0.5)
    text = "stopped; the disk is too slow for the checkpoint of the last steps"
    assert play.finish == Finish("stopped", text)
    assert play.do(Saved(0)) == []


def test_whoever_waits_for_a_slow_disk_is_told_once() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A)
    play.answers(A)
    wait(play, 20.0)
    (told,) = play.events(CheckpointAwaited)
    text = "the disk is slow: waiting for the last checkpoint; Ctrl-C ends this"
    assert describe(told) == text
    assert play.finish is None
    play.do(StopRequested())
    wait(play, 1.0)
    assert play.finish is None
    play.do(Saved(1))
    assert play.finish == Finish("done", "all 1 steps are done")


def test_a_checkpoint_that_fails_stops_nothing_and_at_the_end_is_an_error() -> None:
    play = Play(batch_size=1, checkpoint_every=1)
    play.joins(A)
    play.answers(A)
    play.do(Saved(0, "full"))
    play.do(Saved(1, "full"))
    assert play.state.closing is None
    play.answers(A)
    play.answers(A)
    play.do(Saved(3, "the disk is full"))
    assert play.finish == Finish("failed", "the last checkpoint is missing: the disk is full")


def test_checkpoints_come_as_often_as_asked() -> None:
    play = Play(steps=7, batch_size=1, checkpoint_every=3)
    play.joins(A)
    play.finishes_with(A)
    assert play.saves == [0, 3, 6, 7]


def test_a_complete_run_ends_at_once() -> None:
    play = Play(steps=1, batch_size=1)
    play.joins(A)
    play.finishes_with(A)
    again = CoordinatorState(
        play.config, CORPUS, play.state.training, Policy(), run=RUN, epoch="next"
    )
    assert [type(action) for action in again.start(0.0)] == [Save, Closing]
    (finish,) = again.handle(Saved(1), 0.1)
    assert finish == Finish("done", "the run was complete already")


def test_a_document_without_a_gradient_ends_the_run_and_says_which() -> None:
    play = Play()
    play.joins(A)
    play.says(A, messages.Failure(RUN, EPOCH, 0, 0, "because", round=0))
    assert play.state.closing is None, "what a worker says is computed first"
    play.judge_fails("the loss is inf")
    play.do(Saved(0))
    assert play.finish is not None
    assert play.finish.outcome == "failed"
    name = CORPUS.tokenizer.decode(CORPUS.batch(0, 1)[0])
    assert f"step 1, document 1 of the batch ({name!r}): the loss is inf" in play.finish.reason
    assert "--learning-rate" in play.finish.reason


def test_a_slow_worker_is_helped_and_the_first_answer_counts() -> None:
    play = Play(batch_size=2, steps=1)
    play.joins(A, B)
    slow = play.task(A)
    play.answers(B)
    for _ in range(30):
        play.do(Tick(), after=0.1)
        for peer in (A, B):
            play.says(peer, messages.Heartbeat(RUN, EPOCH, ready=True))
    assert play.kinds().count("backed_up") == 1
    assert play.task(B).start == slow.start
    play.answers(B)
    play.do(Saved(1))
    assert play.finish == Finish("done", "all 1 steps are done")
    assert play.state.training.params.tobytes() == expected(play.config)


def wait(play: Play, seconds: float, *peers: bytes) -> None:
    """Let time pass while these workers say that they live."""
    for _ in range(round(seconds / 0.25)):
        play.do(Tick(), after=0.25)
        for peer in peers:
            play.says(peer, messages.Heartbeat(RUN, EPOCH, ready=True))


def test_the_first_shard_of_all_is_waited_for_a_second_and_not_for_ever() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    wait(play, 0.75, A, B)
    assert play.got(B, messages.Task) == []
    wait(play, 0.5, A, B)
    play.answers(B)
    play.do(Saved(1))
    assert play.finish == Finish("done", "all 1 steps are done")


def test_however_many_are_lazy_the_one_who_works_gets_every_shard() -> None:
    play = Play(batch_size=2, steps=3)
    lazy = [b"lazy %d" % number for number in range(6)]
    play.joins(*lazy, A)
    waited = 0.0
    while play.state.closing is None:
        wait(play, 0.25, *lazy, A)
        waited += 0.25
        assert waited < 10.0
        if play.state.workers[A].in_flight and play.state.closing is None:
            play.answers(A)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_a_verified_shard_that_two_lazy_workers_have_goes_to_others() -> None:
    play = Play(batch_size=1, steps=1, verify_fraction=1.0)
    play.joins(A, B, C, b"D")
    assert play.got(C, messages.Task) == []
    wait(play, 5.0, A, B, C, b"D")
    play.answers(C)
    play.answers(b"D")
    assert play.state.closing == Finish("done", "all 1 steps are done")


def test_a_second_result_of_lazy_workers_is_not_waited_for_for_ever() -> None:
    play = Play(batch_size=1, steps=3, verify_fraction=1.0)
    play.joins(A, B, C)
    play.answers(C) if play.got(C, messages.Task) else play.answers(A)
    honest = next(peer for peer in (A, C) if play.state.workers[peer].documents)
    wait(play, 25.0, A, B, C)
    assert play.done == [], "somebody may still verify it"
    wait(play, 7.0, A, B, C)
    assert len(play.done) == 1
    assert "unverified" in play.kinds()
    for _ in range(2):
        play.answers(honest)
    assert play.state.closing == Finish("done", "all 3 steps are done")


def test_a_failure_that_lazy_workers_do_not_confirm_is_judged() -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A, B)
    play.says(A, messages.Failure(RUN, EPOCH, 0, 0, "the loss is nan", round=0))
    wait(play, 0.75, A, B)
    assert play.questions == []
    wait(play, 0.5, A, B)
    play.judge_fails("the loss is nan")
    assert play.state.closing is not None
    assert "the loss is nan" in play.state.closing.reason


def test_a_slow_worker_is_told_of_once_and_then_counted() -> None:
    play = Play(batch_size=3, steps=80)
    play.joins(A, B, C)
    for _ in range(80):
        for _ in range(4):  # A is asked anew each time, and never answers in time
            for peer in (B, C):
                if play.state.workers[peer].in_flight and play.state.closing is None:
                    play.answers(peer)
        wait(play, 0.25, A, B, C)
        if play.state.closing is None and play.state.workers[A].in_flight:
            play.answers(A)
    backups = play.events(BackedUp)
    assert 2 <= len(backups) <= 3, "of twenty seconds"
    assert {(event.slow, event.slow_name) for event in backups} == {(1, "A")}
    assert backups[0].others == 0 < backups[1].others
    assert "that A is slow with (and " in describe(backups[1])


def test_two_results_that_differ_are_reported_with_both_names() -> None:
    play = Play(batch_size=1, steps=2, verify_fraction=1.0)
    play.joins(A, B, C)
    play.answers(A)  # it was alone when the step began, but is not any more
    play.answers(B, gradient=ZEROS)
    (told,) = play.events(Difference)
    assert told == Difference(0, 0, 0, 1, False, ("A", "B"), applied=False)
    assert told.warning
    assert "A and B gave different answers for documents 1 to 1 of step 1" in describe(told)
    assert len(play.done) == 0, "nothing doubtful is trained on"
    assert play.got(C, messages.Task) == [], "that is not put to a vote"
    play.judges()
    assert len(play.done) == 1
    assert list(play.state.workers) == [A, C]


def test_names_from_outside_cannot_command_a_terminal() -> None:
    play = Play()
    play.says(A, messages.Hello("", "", "evil\x1b[2J\n" + "x" * 500, "en\x07gine", ""))
    play.says(A, messages.Status(RUN, EPOCH, "look\x1b]0;title\x07"))
    for event in play.told:
        assert describe(event).isprintable()
        assert len(describe(event)) < 300
