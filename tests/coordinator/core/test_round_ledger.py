"""The ledger of a round: nothing is lost, nothing counts twice."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from coordinator.core.cross_check import outvoted
from coordinator.core.in_flight import InFlight, RoundId
from coordinator.core.round_ledger import RoundLedger
from microgpt.optim.reduction import Shard, shards, tree_sum
from microgpt.protocol.messages import ShardResult
from tests.marks import tried

A, B, C = b"A", b"B", b"C"
WORDS = [0.1, 0.7, -0.3, 1e-9, 5e8, 0.2, -0.6, 0.9]


def new_ledger(count: int, shard_size: int, verify: Collection[Shard] = ()) -> RoundLedger:
    return RoundLedger(RoundId(0, 0, True), shards(count, shard_size), InFlight(), verify)


def answer(shard: Shard, value: float | None = None) -> tuple[ShardResult, Any]:
    """The honest answer, or one with another gradient."""
    part = np.array(WORDS[shard.start : shard.start + shard.count])
    gradient = tree_sum(list(part.reshape(-1, 1))) if value is None else np.array([value])
    losses = part.tobytes()
    message = ShardResult(
        "", "", 0, shard.start, shard.count, 0.0, losses, {"w": gradient.tobytes()}, round=0
    )
    return message, gradient


def give(
    ledger: RoundLedger, peer: bytes, shard: Shard, value: float | None = None
) -> bytes | None:
    return ledger.answer(peer, shard, *answer(shard, value))


def losses(ledger: RoundLedger) -> list[float]:
    """Of all documents, in their order."""
    return [loss for result in ledger.results() for loss in result.losses.tolist()]


def gradient_sum(ledger: RoundLedger) -> list[float]:
    """The tree sum of what the shards have come to."""
    total: list[float] = tree_sum([result.vector for result in ledger.results()]).tolist()
    return total


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_all_shards_go_out_in_order_and_the_sum_is_the_batchs(size: int) -> None:
    ledger = new_ledger(7, size)
    taken = []
    while (shard := ledger.take(A, 0.0)) is not None:
        taken.append(shard)
        ledger.audit()
    assert taken == ledger.all
    for shard in reversed(taken):
        assert not ledger.complete
        assert give(ledger, A, shard) is None
        ledger.audit()
    assert ledger.complete
    assert losses(ledger) == WORDS[:7]
    assert gradient_sum(ledger) == [tree_sum(WORDS[:7])]


def test_released_shards_come_first_again() -> None:
    ledger = new_ledger(4, 1)
    first, second = ledger.take(A, 0.0), ledger.take(A, 0.0)
    assert ledger.take(B, 0.0) == Shard(2, 1)
    assert ledger.release(A) == [first, second]
    assert ledger.release(A) == []
    assert [ledger.take(B, 0.0), ledger.take(B, 0.0)] == [first, second]
    ledger.audit()


def test_a_shard_that_two_have_in_flight_is_not_queued_when_one_is_gone() -> None:
    ledger = new_ledger(1, 1)
    shard = ledger.take(A, 0.0)
    assert shard is not None
    ledger.take_also(shard, B, 0.0)
    ledger.release(A)
    assert not ledger.queue
    ledger.release(B)
    assert list(ledger.queue) == [shard]


def test_a_second_answer_of_one_worker_does_not_count() -> None:
    ledger = new_ledger(1, 1, verify=[Shard(0, 1)])
    shard = ledger.take(A, 0.0)
    assert shard is not None
    give(ledger, A, shard)
    give(ledger, A, shard)
    assert not ledger.complete
    assert ledger.take(A, 0.0) is None, "a second result is somebody else's"
    assert ledger.take(B, 0.0) == shard
    assert give(ledger, B, shard) is None
    assert ledger.complete


def test_results_that_differ_in_a_bit() -> None:
    ledger = new_ledger(1, 1, verify=[Shard(0, 1)])
    shard = Shard(0, 1)
    for peer in (A, B):
        ledger.take(peer, 0.0)
    give(ledger, A, shard)
    assert give(ledger, B, shard, value=np.nextafter(0.1, 1.0)) == A
    assert not ledger.complete
    assert ledger.contested(shard)
    assert ledger.take(C, 0.0) is None, "a judge is asked, unless there is none"
    ledger.let_vote()
    assert ledger.take(C, 0.0) == shard
    give(ledger, C, shard)
    assert ledger.complete
    assert outvoted(ledger, shard) == [B]
    assert gradient_sum(ledger) == [0.1]


def test_zero_and_minus_zero_differ() -> None:
    ledger = new_ledger(1, 1, verify=[Shard(0, 1)])
    give(ledger, A, Shard(0, 1), value=0.0)
    assert give(ledger, B, Shard(0, 1), value=-0.0) == A


def test_waiving_the_second_result() -> None:
    ledger = new_ledger(2, 1, verify=[Shard(0, 1), Shard(1, 1)])
    for shard in ledger.all:
        ledger.take(A, 0.0)
        give(ledger, A, shard)
    assert not ledger.complete
    assert ledger.waive_verification()
    assert ledger.complete
    assert not ledger.queue
    ledger.audit()


def test_a_shard_of_another_size_is_unknown() -> None:
    ledger = new_ledger(4, 2)
    with pytest.raises(KeyError):
        give(ledger, A, Shard(0, 1))
    assert not ledger.asked(Shard(0, 1), A)


def test_the_audit_notices() -> None:
    ledger = new_ledger(2, 1)
    ledger.queue.put(Shard(0, 1), 0)
    with pytest.raises(AssertionError):
        ledger.audit()


@tried(60, 300, st.data())
def test_whatever_happens_the_sum_is_the_batchs(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 8))
    size = data.draw(st.sampled_from([1, 2, 4, 8]))
    ledger = new_ledger(count, size)
    if data.draw(st.booleans()):
        ledger = new_ledger(count, size, verify=ledger.all[::2])
    in_flight: dict[bytes, list[Shard]] = {A: [], B: [], C: []}
    for _ in range(data.draw(st.integers(0, 30))):
        peer = data.draw(st.sampled_from([A, B, C]))
        what = data.draw(st.sampled_from(["take", "answer", "again", "release"]))
        if what == "take" and (shard := ledger.take(peer, 0.0)):
            in_flight[peer].append(shard)
        elif what == "answer" and in_flight[peer]:
            give(ledger, peer, in_flight[peer].pop())
        elif what == "again" and in_flight[peer]:
            give(ledger, peer, in_flight[peer][0])
        elif what == "release":
            ledger.release(peer)
            in_flight[peer].clear()
        ledger.audit()
    for peer in (A, B):  # whatever was left open, two workers can finish
        ledger.release(peer)
    ledger.release(C)
    for peer in (A, B):
        while (shard := ledger.take(peer, 0.0)) is not None:
            give(ledger, peer, shard)
            ledger.audit()
    assert ledger.complete
    assert losses(ledger) == WORDS[:count]
    assert gradient_sum(ledger) == [tree_sum(WORDS[:count])]
