"""Errors inside the coordinator: one that a peer's message causes costs the peer, no other the run.

Everything that is raised here on purpose stands for a fault that nobody knows of yet.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

import coordinator.core.results
from coordinator.core.event_text import describe
from coordinator.core.events import Cause, Expelled, Fault
from coordinator.core.inputs import Disconnected, Misbehaved, Tick
from coordinator.core.membership import MISSED, MISSED_SECONDS, Membership
from coordinator.core.results import Results
from coordinator.core.round_ledger import RoundLedger
from coordinator.core.stragglers import Stragglers
from microgpt.checkpoint.format import load
from microgpt.data.packed import PackedDocuments
from microgpt.numerics.vectors import vector_to_map
from microgpt.protocol import messages
from tests.conftest import Reference
from tests.coordinator.core.test_coordinator_state import (
    EPOCH,
    RUN,
    SHAPES,
    A,
    B,
    C,
    Play,
    expected,
    pretend,
)
from tests.marks import soak
from tests.processes import TINY, Lab
from tests.system.test_system_strangers import SMALL, STEPS, Target, answers
from tests.system.test_system_workers import ends_alike


def raise_overflow(*arguments: Any, **more: Any) -> Any:
    raise OverflowError("cannot convert float infinity to integer")


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (coordinator.core.results, "read_gradient"),
        (coordinator.core.results, "take_result"),
        (Stragglers, "answered"),
        (RoundLedger, "answer"),
        (RoundLedger, "undisputed"),
        (Results, "_enter"),
    ],
)
def test_an_error_in_handling_an_answer_costs_its_giver(
    where: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    play = Play(batch_size=2)
    play.joins(A, B)
    sound, raised = getattr(where, what), [False]

    def once(*arguments: Any, **more: Any) -> Any:
        if raised[0]:
            return sound(*arguments, **more)
        raised[0] = True
        return raise_overflow()

    monkeypatch.setattr(where, what, once)
    play.answers(A)
    assert list(play.state.workers) == [B]
    (told,) = play.events(Expelled)
    assert (told.worker, told.cause) == (1, Cause.FAULT)
    assert "A is cut off: handling its ShardResult failed (OverflowError: cannot" in describe(told)
    assert told.warning
    assert [type(m) for m in play.sent[A]][-1] is messages.Refuse
    play.finishes_with(B)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_an_error_about_a_stranger_costs_the_stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(batch_size=1, steps=1)
    play.joins(A)
    with monkeypatch.context() as patched:
        patched.setattr(Membership, "welcome", raise_overflow)
        play.says(B, messages.Hello("", "", "B", "stub", ""))
    assert [type(m) for m in play.sent[B]] == [messages.Refuse]
    play.finishes_with(A)
    assert play.state.training.params.tobytes() == expected(play.config)


def test_a_ledger_that_is_not_in_order_is_not_worked_with(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play(batch_size=2)
    play.joins(A, B)
    monkeypatch.setattr(coordinator.core.results, "take_result", raise_overflow)
    for shard in play.state.ledgers[0].all:
        play.state.ledgers[0].queue.put(shard, 0)
    monkeypatch.setattr(RoundLedger, "release", lambda *_: [])
    monkeypatch.setattr(RoundLedger, "audit", raise_overflow)
    with pytest.raises(OverflowError):
        play.answers(A)


def test_an_error_that_no_peer_has_caused_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    play = Play()
    monkeypatch.setattr(Stragglers, "back_up", raise_overflow)
    with pytest.raises(OverflowError):
        play.do(Tick())


def test_a_third_late_answer_that_contradicts_two_breaks_nothing() -> None:
    """They are of a step that is cut otherwise than the one in hand."""
    play = Play(steps=2, batch_size=4, shard_size=None)
    play.joins(A)
    old = play.task(A)
    assert old.count == 4
    for peer in (B, C):
        play.joins(peer)
        for _ in range(20):
            play.do(Tick(), after=0.2)
            for other in (A, B, C):
                play.says(other, messages.Heartbeat(RUN, EPOCH, ready=True))
            if play.got(peer, messages.Task):
                break
        assert play.task(peer).start == old.start
    play.answers(A, seconds=1000.0)
    assert play.state.training.step == 1
    assert play.task(A).count == 1
    wrong = vector_to_map(0.0 * pretend([[0]]), SHAPES)
    play.says(B, play.answer(old, gradient=wrong))
    play.says(C, play.answer(old))
    assert list(play.state.workers) == [A, B, C], "that is not put to a vote"
    play.judges()
    assert "expelled" in play.kinds()
    assert list(play.state.workers) == [A, C]


# --- workers that have gone without a word -------------------------------------------------------


def test_a_silent_worker_is_missed_until_it_is_back() -> None:
    play = Play(worker_timeout=1.0)
    play.joins(A, B)
    play.answers(A)
    for _ in range(6):
        play.do(Tick(), after=0.2)
        play.says(B, messages.Heartbeat(RUN, EPOCH, ready=True))
    (missed,) = play.state.missed
    assert (missed.name, missed.engine, missed.gone, missed.documents) == ("A", "stub", "silent", 1)
    assert 1.0 < play.state.silence(missed) < 1.5
    play.do(Disconnected(B))
    assert [(worker.name, worker.gone) for worker in play.state.missed] == [
        ("A", "silent"),
        ("B", "lost"),
    ]
    play.joins(A)
    assert [worker.name for worker in play.state.missed] == ["B"]


def test_who_leaves_or_is_cut_off_is_not_missed() -> None:
    play = Play()
    play.joins(A, B)
    play.says(A, messages.Goodbye(RUN, EPOCH))
    play.do(Misbehaved(B, "nonsense"))
    assert play.state.missed == []


def test_few_are_missed_and_not_for_ever() -> None:
    play = Play()
    for number in range(3 * MISSED):
        peer = b"peer %d" % number
        play.joins(peer)
        play.do(Disconnected(peer))
    assert len(play.state.missed) == MISSED
    for _ in range(int(MISSED_SECONDS / 0.375) + 2):  # time goes on by so much at once
        play.do(Tick(), after=0.375)
    assert play.state.missed == []


# --- with real processes -------------------------------------------------------------------------

FAULTY = """
import sys
from coordinator.core.stragglers import Stragglers
from coordinator.run.console import PlainConsole
from coordinator.core.inputs import Broken, Tick
from coordinator.core.state import _HANDLERS
from microgpt.support import cli

class Faulty(Exception): pass

def fail(*arguments, **more):
    raise Faulty("on purpose")

def later(old):
    def call(self, record, *more):
        return fail() if record["step"] >= 5 else old(self, record, *more)
    return call

CASE
from coordinator.__main__ import main
cli.run(main, args=sys.argv[1:])
"""
CASES = {
    "ticks": "Stragglers.back_up = fail",
    "console": "PlainConsole.step = later(PlainConsole.step)",
    "ledgers": "_HANDLERS[Tick] = _HANDLERS[Broken] = fail",
}


@pytest.mark.parametrize("case", [soak("ticks"), soak("console"), "ledgers"])
def test_an_unexpected_error_saves_and_says_where(case: str, lab: Lab) -> None:
    program = FAULTY.replace("CASE", CASES[case])
    size = (*TINY, "--steps", "200", "--batch-size", "4", "--data", str(lab.data))
    where = ("--bind", "tcp://127.0.0.1:*", "--run-dir", "runs/it")
    coordinator = lab.start(sys.executable, "-c", program, *where, *size, name="coordinator")
    coordinator.expected = True
    run = lab.run_dir()
    worker = lab.worker(run.endpoint())
    worker.expected = True
    assert coordinator.wait() == 1
    (line,) = (line for line in coordinator.err.splitlines() if line.startswith("error: "))
    assert "a fault of this program (" in line
    assert "Faulty: on purpose" in line
    assert "Traceback" not in coordinator.out + coordinator.err
    done = len(run.metrics)
    assert load(run.newest).step == done
    (fault,) = run.events(Fault)
    assert fault.traceback.endswith("Faulty: on purpose\n")
    if case == "console":
        assert done == 5


def test_seconds_that_overflow_are_refused_when_they_are_decoded() -> None:
    task = messages.Task(
        "run", "epoch", 0, 0, 1, *PackedDocuments.pack([[1, 2]]).to_bytes(), round=0
    )
    for seconds in (1e-312, 5e-324, 1e-13, 1.1e7, 1e308, float("inf"), float("nan"), -1.0):
        answer = messages.ShardResult(task.run, task.epoch, 0, 0, 1, seconds, bytes(8), {}, round=0)
        with pytest.raises(messages.ProtocolError, match="'seconds'"):
            messages.decode(messages.encode(answer))
    for seconds in (0.0, 1e-12, 1e-9, 1e7):
        answer = messages.ShardResult(task.run, task.epoch, 0, 0, 1, seconds, bytes(8), {}, round=0)
        assert messages.decode(messages.encode(answer)) == answer


def test_seconds_that_overflow_cost_a_member_and_not_the_run(
    lab: Lab, reference: Reference
) -> None:
    target = Target(lab)
    try:
        dealer = target.dealer()
        target.hello(dealer, "evil")
        task = target.receive(dealer, messages.Task)
        fields = {**answers(task), "seconds": 1e-312}
        dealer.send(messages.encode(messages.ShardResult(gradient={}, **fields)))
        assert "'seconds' has a wrong value" in target.receive(dealer, messages.Refuse).reason
        assert target.coordinator.wait() == 0, target.coordinator.err
        ends_alike(target.run, reference(STEPS, SMALL))
    finally:
        target.close()
