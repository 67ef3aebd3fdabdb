"""Replicas that are too late for a round: their task does not count, and they are as before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import pytest

from coordinator.core import work_order
from coordinator.core.inputs import Tick
from microgpt.distribution import Distribution
from microgpt.protocol import messages
from microgpt.strategies.base import LocalSteps, Promise, Result, Round, View
from microgpt.strategies.update import combined, descended, mean_loss
from microgpt.training import TrainingState
from tests.coordinator.core.cluster import Cluster

SNAPSHOT_EVERY = 8


@pytest.fixture(autouse=True)
def snapshots_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short runs have some."""
    monkeypatch.setattr(work_order, "SNAPSHOT_EVERY", SNAPSHOT_EVERY)


A, B = b"a", b"b"


@dataclass(frozen=True)
class FirstOfTwo:
    """Each of two replicas takes local steps, and the first to answer decides."""

    promise: ClassVar[Promise] = Promise.REPLAYABLE
    early: ClassVar[bool] = True

    def open(self, view: View) -> Sequence[Round]:
        if view.open:
            return ()
        where = view.state.step, view.next_document, 4
        return (Round(*where, LocalSteps(2), replicas=(0, 1)),)

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        return len(results) >= 1

    def update(self, view: View, round: Round, results: Sequence[Result]) -> TrainingState | None:
        made = combined(view, round, results)
        return descended(view, made.vector, mean_loss(results), made.slots, usual="sgd:1.0")


def begun() -> Cluster:
    cluster = Cluster(
        FirstOfTwo(), Distribution(replicas=2), batch_size=4, steps=2 * SNAPSHOT_EVERY
    )
    cluster.joins(A, B)
    return cluster


def last_task(cluster: Cluster, peer: bytes) -> tuple[int, int, int]:
    """The replica, its clock and the version of the weights that a worker was told last."""
    task = cluster.got(peer, messages.ReplicaTask)[-1]
    return task.replica, task.clock, task.step


def test_the_task_of_a_late_replica_does_not_count() -> None:
    cluster = begun()
    assert {last_task(cluster, peer) for peer in (A, B)} == {(0, 0, 0), (1, 0, 0)}
    quick, late = (last_task(cluster, peer)[0] for peer in (A, B))
    cluster.answers(A)  # the round is over
    assert cluster.state.training.step == 1
    assert last_task(cluster, A) == (quick, 1, 1)
    cluster.answers(B)  # too late
    assert cluster.state.training.step == 1
    assert last_task(cluster, B) == (late, 0, 1)
    restored = [(m.replica, m.clock) for m in cluster.got(B, messages.ReplicaState)]
    assert restored == [(late, 0), (late, 0)], "it must forget what it has done in vain"
    cluster.answers(B)  # now it is the first
    assert cluster.state.training.step == 2
    assert last_task(cluster, B) == (late, 1, 2)


@dataclass(frozen=True)
class FirstThenBoth(FirstOfTwo):
    """Only the first round is closed by the first answer."""

    def enough(self, round: Round, results: Sequence[Result]) -> bool:
        return len(results) >= (1 if round.version == 0 else 2)


def test_another_past_with_as_many_tasks_is_told_apart() -> None:
    cluster = Cluster(FirstThenBoth(), Distribution(replicas=2), batch_size=4)
    cluster.joins(A, B)
    late = last_task(cluster, B)[0]
    cluster.answers(A)  # B goes on with a task that does not count
    cluster.answers(A)
    cluster.do(Tick(), after=60.0)  # so long that A does the work of B
    assert last_task(cluster, A) == (late, 0, 1)
    cluster.answers(A)
    assert cluster.state.training.step == 2
    cluster.answers(B)  # what it has come to in vain is replica ``late`` after one task, too
    cluster.loses(A)
    before = len(cluster.sent[B])
    while last_task(cluster, B)[:2] != (late, 1):
        cluster.answers(B)
    told = [m for m in cluster.sent[B][before:] if getattr(m, "replica", None) == late]
    assert isinstance(told[0], messages.ReplicaState)
    assert [(m.clock, m.redo) for m in told if isinstance(m, messages.ReplicaTask)] == [
        (0, True), (1, False),
    ]  # fmt: skip


def test_who_was_never_given_the_task_need_not_be_told_anything() -> None:
    cluster = begun()
    cluster.loses(B)
    for step in range(3):  # one worker alone: the second replica's task is never given out
        cluster.answers(A)
        assert cluster.state.training.step == step + 1
    assert {m.replica for m in cluster.got(A, messages.ReplicaTask)} == {0}
    assert len(cluster.got(A, messages.ReplicaState)) == 1


def test_what_is_saved_knows_only_what_has_counted() -> None:
    cluster = begun()
    quick = last_task(cluster, A)[0]
    for _ in range(SNAPSHOT_EVERY + 2):
        cluster.answers(A)
    logs = {log.replica: log for log in cluster.state.resumable.replicas}
    assert (logs[quick].snapshot.clock, len(logs[quick].since)) == (SNAPSHOT_EVERY, 2)
    assert (logs[1 - quick].snapshot.clock, len(logs[1 - quick].since)) == (0, 0)
