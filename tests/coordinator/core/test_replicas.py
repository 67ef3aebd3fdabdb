"""Replicas at the coordinator: where they are, how they move, and that nobody can spoil them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coordinator.core import work_order
from coordinator.core.events import Cause, Expelled
from coordinator.core.inputs import Judged, Received, Tick
from lab.simulation.arithmetic import same_state, wrong_bit
from microgpt.checkpoint.format import decode, encode
from microgpt.distribution import Distribution
from microgpt.protocol import messages
from microgpt.strategies.base import Strategy
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.sync import Sync
from microgpt.training import TrainingState, from_checkpoint
from tests.coordinator.core.cluster import RUN, Change, Cluster, honest

SNAPSHOT_EVERY = 8


@pytest.fixture(autouse=True)
def snapshots_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short runs have some."""
    monkeypatch.setattr(work_order, "SNAPSHOT_EVERY", SNAPSHOT_EVERY)


A, B, C, D = b"A", b"B", b"C", b"D"
FED = Distribution(4, compress="topk:0.2")
LOCAL = Distribution(4, compress="randomk:0.5", outer_optimizer="momentum")
EXACT: list[tuple[Strategy, Distribution]] = [(Sync(), FED), (DiLoCo(steps=2), LOCAL)]


def fed(**more: Any) -> Cluster:
    return Cluster(Sync(), FED, **more)


def same_bits(cluster: Cluster, expected: Sequence[TrainingState]) -> bool:
    """Whether the steps done here are those of the quiet run, as far as they go."""
    offset = cluster.config.steps - len(expected)
    assert offset == 0
    first = cluster.states[0].step - 1
    return all(
        same_state(one, other) for one, other in zip(cluster.states, expected[first:], strict=False)
    )


def replicas_of(cluster: Cluster, peer: bytes) -> list[int]:
    """Whose tasks a worker was given, in this order; those done again are left out."""
    return [t.replica for t in cluster.got(peer, messages.ReplicaTask) if not t.redo]


# Where they are


def test_a_replica_stays_with_its_worker() -> None:
    cluster = fed(steps=20)
    cluster.joins(A, B)
    cluster.runs_until(3)
    homes = {peer: set(replicas_of(cluster, peer)[-4:]) for peer in (A, B)}
    assert sorted(homes[A] | homes[B]) == [0, 1, 2, 3]
    assert not homes[A] & homes[B]
    for peer in (A, B):
        cluster.sent[peer].clear()
    cluster.ends()
    assert {peer: set(replicas_of(cluster, peer)) for peer in (A, B)} == homes
    for peer in (A, B):
        assert cluster.got(peer, messages.ReplicaState) == [], "nothing has moved"
    assert same_bits(cluster, cluster.quiet())


def test_a_worker_that_comes_later_takes_over_its_share() -> None:
    cluster = fed(steps=20)
    cluster.joins(A)
    cluster.runs_until(2)
    assert replicas_of(cluster, A) == [0, 1, 2, 3] * 2 + [0]
    cluster.joins(B)
    cluster.ends()
    assert len(set(replicas_of(cluster, A)[-4:])) == 2, "each has two in the end"
    assert len(set(replicas_of(cluster, B)[-4:])) == 2
    assert same_bits(cluster, cluster.quiet())


def test_without_a_state_a_replica_is_anywhere() -> None:
    """Nothing has to be moved, so whoever is idle takes the next part."""
    cluster = Cluster(Sync(), Distribution(4), steps=4)
    cluster.joins(A, B)
    cluster.runs_until(1)
    while cluster.answers(A):
        pass
    waiting = cluster.members[B].todo
    assert [m.replica for m in waiting if isinstance(m, messages.ReplicaTask)] == [1]
    assert replicas_of(cluster, A)[-3:] == [0, 2, 3]
    assert same_bits(cluster, cluster.quiet())


def test_an_idle_worker_waits_for_a_replica_that_is_elsewhere_and_not_for_a_slow_one() -> None:
    cluster = fed(steps=20)
    cluster.joins(A, B)
    cluster.runs_until(3)
    theirs = set(replicas_of(cluster, B)[-2:])
    while cluster.answers(A):
        pass
    assert set(replicas_of(cluster, A)[-2:]).isdisjoint(theirs)
    before = len(replicas_of(cluster, A))
    for _ in range(20):  # B is alive, and does not answer
        cluster.do(Received(B, messages.Heartbeat(RUN, cluster.epoch, ready=True)), after=0.05)
        cluster.do(Tick())
        while cluster.answers(A):
            pass
    assert set(replicas_of(cluster, A)[before:][:2]) == theirs
    assert cluster.state.training.step >= 4
    assert same_bits(cluster, cluster.quiet())


# How they move


def test_what_a_worker_is_sent_that_takes_a_replica_over() -> None:
    """The snapshot, if there is one, then each task since with its weights, then the task."""
    cluster = Cluster(Sync(), Distribution(1, compress="topk:0.2"), steps=20, batch_size=1)
    cluster.joins(A)
    cluster.runs_until(SNAPSHOT_EVERY + 2)
    cluster.loses(A)
    cluster.joins(B)
    welcome, *sent = cluster.sent[B]
    assert isinstance(welcome, messages.Welcome)
    kinds = [type(message).__name__ for message in sent]
    assert kinds == ["ReplicaState", *["Weights", "ReplicaTask"] * 3]
    state = sent[0]
    assert isinstance(state, messages.ReplicaState)
    assert (state.replica, state.clock, [*state.vectors]) == (0, SNAPSHOT_EVERY, ["residual"])
    tasks = [message for message in sent if isinstance(message, messages.ReplicaTask)]
    assert [(t.clock, t.step, t.redo, t.snapshot) for t in tasks] == [
        (8, 8, True, False), (9, 9, True, False), (10, 10, False, False)
    ]  # fmt: skip
    weights = [message for message in sent if isinstance(message, messages.Weights)]
    assert [w.step for w in weights] == [8, 9, 10]
    assert b"".join(weights[0].weights.values()) == cluster.states[7].params.tobytes()
    answered = len(cluster.answered)
    assert cluster.answers(B)
    assert len(cluster.answered) == answered + 1, "what is done again is not answered"
    assert cluster.ends() is not None
    assert same_bits(cluster, cluster.quiet())


def test_before_the_first_snapshot_all_is_done_again() -> None:
    cluster = Cluster(Sync(), Distribution(1, compress="topk:0.2"), steps=9, batch_size=1)
    cluster.joins(A)
    cluster.runs_until(3)
    cluster.loses(A)
    cluster.joins(B)
    (state,) = cluster.got(B, messages.ReplicaState)
    assert (state.clock, state.vectors) == (0, {})
    tasks = cluster.got(B, messages.ReplicaTask)
    assert [(t.clock, t.redo) for t in tasks] == [(0, True), (1, True), (2, True), (3, False)]
    cluster.ends()
    assert same_bits(cluster, cluster.quiet())


def test_a_worker_that_begins_again_is_told_all_again() -> None:
    """It has been silent for a moment, or missed something: nobody knows what it has."""
    cluster = fed(steps=12)
    cluster.joins(A, B)
    cluster.runs_until(4)
    cluster.now += 1.0
    cluster.sent[A].clear()
    cluster.do(Received(A, messages.Hello(RUN, cluster.epoch, "A", "stub", "")))
    cluster.members[A].todo.clear()
    cluster.members[A].todo.append(cluster.got(A, messages.Welcome)[-1])
    cluster.do(Received(A, messages.Heartbeat(RUN, cluster.epoch, ready=True)))
    assert cluster.got(A, messages.ReplicaState) != []
    cluster.ends()
    assert same_bits(cluster, cluster.quiet())


@pytest.mark.parametrize(("strategy", "distribution"), EXACT)
def test_workers_that_come_and_go(strategy: Strategy, distribution: Distribution) -> None:
    """A worker more or less after every answer, over several snapshots."""
    cluster = Cluster(strategy, distribution, steps=2 * SNAPSHOT_EVERY + 3)
    expected = cluster.quiet()
    names = [b"%d" % number for number in range(500)]
    cluster.joins(names.pop(), names.pop())
    while cluster.state.training.step < cluster.config.steps:
        cluster.works()
        if len(names) % 3:
            cluster.joins(names.pop())
        if len(cluster.members) > 3 or len(names) % 2:
            cluster.loses(next(iter(cluster.members)))
        if not cluster.members:
            cluster.joins(names.pop())
        if cluster.state.training.step < cluster.config.steps:
            names.pop()
    assert same_bits(cluster, expected)
    assert len(cluster.states) == cluster.config.steps


# What is saved


@pytest.mark.parametrize(("strategy", "distribution"), EXACT)
def test_a_run_goes_on_from_every_moment_with_the_same_bits(
    strategy: Strategy, distribution: Distribution
) -> None:
    """After each answer: what would be saved now is read by another epoch with other workers."""
    steps = SNAPSHOT_EVERY + 2
    cluster = Cluster(strategy, distribution, steps=steps, batch_size=8, held_out=0.3, eval_every=3)
    expected = cluster.quiet()
    cluster.joins(A, B)
    moments = 0
    while cluster.state.training.step < steps:
        for peer in (A, B):
            cluster.answers(peer)
            moments += 1
            if moments % 4 == 0 and cluster.state.training.step < steps:
                goes_on(cluster, expected)
    assert same_bits(cluster, expected)


def goes_on(cluster: Cluster, expected: Sequence[TrainingState]) -> None:
    saved = decode(encode(cluster.checkpoint()), "FILE")
    training = from_checkpoint(saved)
    assert training.step == cluster.state.training.step
    other = Cluster(
        cluster.strategy, cluster.config.distribution, steps=cluster.config.steps,
        batch_size=cluster.config.batch_size, held_out=0.3, eval_every=3, training=training,
    )  # fmt: skip
    other.joins(C, D)
    assert same_state(other.ends(), expected[-1])
    assert same_bits(other, expected)


def test_a_snapshot_of_a_step_that_waits_for_its_evaluation_is_not_saved_yet() -> None:
    """The checkpoint is of the step before, and must not know replicas that are further."""
    cluster = Cluster(
        Sync(), Distribution(1, compress="topk:0.2"), steps=12, batch_size=1, held_out=0.3,
        eval_every=SNAPSHOT_EVERY,
    )  # fmt: skip
    cluster.joins(A)
    cluster.runs_until(SNAPSHOT_EVERY - 1)
    assert cluster.answers(A)
    assert cluster.state.training.step == SNAPSHOT_EVERY - 1, "to be evaluated"
    (log,) = cluster.state.resumable.replicas
    assert (log.snapshot.clock, log.clock) == (0, SNAPSHOT_EVERY - 1)
    while cluster.state.training.step < SNAPSHOT_EVERY:
        cluster.works()
    (log,) = cluster.state.resumable.replicas
    assert (log.snapshot.clock, log.clock, log.since) == (SNAPSHOT_EVERY, SNAPSHOT_EVERY, ())
    cluster.ends()
    assert same_bits(cluster, cluster.quiet())


def test_what_is_open_is_not_saved() -> None:
    cluster = fed(steps=4)
    cluster.joins(A)
    assert cluster.answers(A)
    assert [log.clock for log in cluster.state.resumable.replicas] == [0, 0, 0, 0]
    cluster.runs_until(1)
    assert [log.clock for log in cluster.state.resumable.replicas] == [1, 1, 1, 1]
    (past,) = {t.params.tobytes() for log in cluster.state.resumable.replicas for t in log.since}
    assert past == cluster.saved[0].params.tobytes()


# What the judge is given


@pytest.mark.parametrize("liar", [A, B])
def test_the_judge_does_again_what_it_must(liar: bytes) -> None:
    """Both compute everything; one lies, late in the run: the host finds out who."""
    cluster = fed(steps=SNAPSHOT_EVERY + 4, verify_fraction=1.0)
    cluster.joins(A, B)
    cluster.runs_until(SNAPSHOT_EVERY + 2)
    while not cluster.questions:
        for peer in (A, B):
            if not cluster.questions:
                cluster.answers(peer, lie if peer == liar else honest)
    before = cluster.questions[0].before
    assert [type(message).__name__ for message in before] == [
        "ReplicaState", *["Weights", "ReplicaTask"] * 2
    ]  # fmt: skip
    cluster.judges()
    assert [e.name for e in cluster.events(Expelled)] == [liar.decode()]
    del cluster.members[liar]
    assert same_state(cluster.ends(), cluster.quiet()[-1])


def lie(answer: Any) -> Any:
    """One bit of a loss."""
    return replace(answer, losses=wrong_bit(answer.losses))


# What cannot be computed


@pytest.mark.parametrize(
    ("strategy", "whole"), [(Sync(), "batch"), (DiLoCo(steps=2), "round")], ids=["sync", "diloco"]
)
def test_a_document_that_cannot_be_computed_is_named(strategy: Strategy, whole: str) -> None:
    """By its place among all documents of the round, whichever replica has it."""
    cluster = Cluster(strategy, Distribution(4, compress="topk:0.2"), steps=4)
    cluster.joins(A)
    cluster.runs_until(1)
    assert cluster.answers(A)
    task = cluster.got(A, messages.ReplicaTask)[-1]
    assert (task.step, task.replica) == (1, 1)
    count = 16 if whole == "round" else 8
    place = task.start + task.count - 1
    failure = messages.Failure(
        RUN, cluster.epoch, 1, place, "its loss is not finite", round=task.round
    )
    cluster.says(A, failure)
    cluster.do(Judged(failure))
    assert cluster.state.closing is not None
    name = cluster.corpus.tokenizer.decode([*cluster.corpus.documents(count, count)][place])
    assert cluster.state.closing.reason == (
        f"step 2, document {place + 1} of the {whole} ({name!r}): its loss is not finite; "
        "a lower --learning-rate may help"
    )
    (log, *_) = cluster.saved[-1].replicas
    assert log.clock == 1, "the state before is saved"


# Members that mean harm


NAN = np.array([np.nan]).tobytes()


def plain(answer: Any) -> messages.Message:
    """As if no replica had been asked."""
    where = answer.run, answer.epoch, answer.step, answer.start, answer.count, answer.seconds
    return messages.ShardResult(*where, answer.losses, {}, round=answer.round)


def with_state(change: Callable[[dict[str, bytes]], object]) -> Change:
    def changed(answer: Any) -> Any:
        state = dict(answer.state)
        change(state)
        return replace(answer, state=state)

    return changed


LIES: dict[str, tuple[int, Change]] = {
    "no replica's answer": (3, plain),
    "a state where none was wanted": (3, lambda a: replace(a, state={"residual": a.losses})),
    "no state where one was wanted": (7, lambda a: replace(a, state={})),
    "an unknown part": (7, with_state(lambda state: state.update(more=bytes(8)))),
    "a missing part": (7, with_state(lambda state: state.clear())),
    "a part that is too short": (7, with_state(lambda s: s.update(residual=s["residual"][8:]))),
    "a part that is not finite": (
        7,
        with_state(lambda s: s.update(residual=NAN + s["residual"][8:])),
    ),
    "no payload": (3, lambda a: replace(a, payload=b"")),
    "a payload that is cut off": (3, lambda a: replace(a, payload=a.payload[:-1])),
    "a payload that is too long": (3, lambda a: replace(a, payload=a.payload + bytes(8))),
    "a payload of other places": (3, lambda a: replace(a, payload=b"\xff" * len(a.payload))),
    "a gradient beside the payload": (3, lambda a: replace(a, gradient={"wte": bytes(8)})),
    "too few losses": (3, lambda a: replace(a, losses=a.losses[8:])),
    "another count": (3, lambda a: replace(a, count=a.count + 1)),
    "a shard that nobody asked for": (3, lambda a: replace(a, start=1)),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_malformed_answer_costs_the_worker_and_nothing_else(lie: str) -> None:
    step, change = LIES[lie]
    cluster = fed(steps=SNAPSHOT_EVERY + 2)
    cluster.joins(A, B)
    cluster.runs_until(step)
    assert cluster.answers(A, change)
    (expelled,) = cluster.events(Expelled)
    assert expelled.name == "A"
    assert expelled.cause in (Cause.MALFORMED, Cause.NOT_ASKED), "and not a fault of ours"
    assert same_bits(cluster, cluster.quiet())
    del cluster.members[A]
    assert same_state(cluster.ends(), cluster.quiet()[-1])


def uncompressed(answer: Any) -> Any:
    return replace(answer, payload=b"12345678")


def as_replica(answer: Any) -> messages.Message:
    where = answer.run, answer.epoch, answer.step, answer.start, answer.count, answer.seconds
    given = answer.losses, answer.gradient
    return messages.ReplicaResult(*where, *given, round=answer.round, payload=b"", state={})


@pytest.mark.parametrize(
    ("distribution", "change"),
    [
        (Distribution(4), uncompressed),
        (Distribution(4), plain),
        (Distribution(4), lambda answer: replace(answer, state={"residual": bytes(8)})),
        (Distribution(), as_replica),
    ],
)
def test_what_was_not_agreed(distribution: Distribution, change: Change) -> None:
    cluster = Cluster(Sync(), distribution, steps=4)
    cluster.joins(A, B)
    assert cluster.answers(A, change)
    (expelled,) = cluster.events(Expelled)
    assert (expelled.name, expelled.cause) == ("A", Cause.MALFORMED)
    del cluster.members[A]
    assert same_state(cluster.ends(), cluster.quiet()[-1])


@pytest.mark.parametrize(
    "message",
    [
        lambda epoch: messages.ReplicaState(RUN, epoch, 0, 0, {}),
        lambda epoch: messages.ReplicaTask(
            RUN, epoch, 0, 0, 1, b"", b"", round=0, replica=0, clock=0, steps=0, elastic=0.0,
            updates=1, snapshot=False, redo=False,
        ),
    ],
)  # fmt: skip
def test_a_worker_does_not_send_what_is_the_coordinators(
    message: Callable[[str], messages.Message],
) -> None:
    cluster = fed(steps=4)
    cluster.joins(A, B)
    cluster.says(A, message(cluster.epoch))
    (expelled,) = cluster.events(Expelled)
    assert (expelled.name, expelled.cause) == ("A", Cause.PROTOCOL)
    del cluster.members[A]
    assert same_state(cluster.ends(), cluster.quiet()[-1])
