"""How a batch is cut, and what is refused because no message could hold it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import strategies as st

from coordinator.core.sharding import (
    ASSUMED_OVERHEAD,
    FEW_SHARDS,
    MOST_SHARDS,
    SHARDS_PER_WORKER,
    Cut,
    assume_seconds,
    choose_cut,
    largest_shard,
    seconds_of,
    unsendable,
)
from coordinator.core.sizes import LARGEST
from coordinator.net.router import MESSAGE_OVERHEAD
from microgpt.config import TrainingConfig
from microgpt.model import GPTConfig
from microgpt.optim.reduction import Shard, shards
from microgpt.protocol.messages import MAX_MESSAGE_BYTES, ShardResult, Task, encode
from microgpt.protocol.schema import LEAST_SECONDS, MAX_DOCUMENTS, MOST_SECONDS
from tests.coordinator.core.test_coordinator_state import A, B, Play
from tests.marks import tried
from tests.processes import TINY, Lab

DEFAULT = TrainingConfig(GPTConfig(27))
SHORT = [[26, *range(6), 26]] * 4

answered = st.one_of(st.just(0.0), st.floats(LEAST_SECONDS, MOST_SECONDS))


@tried(
    60,
    500,
    st.integers(1, 1 << 40),
    st.lists(st.tuples(answered, st.integers(1, MAX_DOCUMENTS)), max_size=12),
    answered,
    st.sampled_from([1, 64, LARGEST]),
)
def test_no_time_that_a_peer_may_tell_breaks_the_choice(
    count: int, told: list[tuple[float, int]], overhead: float, largest: int
) -> None:
    count = min(count, (MOST_SHARDS // 2) * largest)  # what is more is refused
    cut = choose_cut(count, [seconds / number for seconds, number in told], overhead, largest)
    places = [place for shard in cut for place in (shard.start, shard.start + shard.count)]
    assert places == [0, *(p for s in cut[1:] for p in (s.start, s.start)), count]
    for shard in cut:
        size = 1 << (shard.count - 1).bit_length()
        assert shard.start % size == 0, "a node of the tree"
        assert size <= largest
    most = max(FEW_SHARDS, SHARDS_PER_WORKER * len(told), -(-count // largest))
    assert len(cut) <= most


@pytest.mark.parametrize(
    ("count", "paces", "overhead", "sizes"),
    [
        (32, [1e-5], 3e-4, [32]),
        (32, [1e-5] * 2, 3e-4, [16, 16]),
        (1024, [1e-5] * 2, 3e-4, [512] * 2),
        (1000, [1e-5] * 2, 3e-4, [512, 488]),
        (1024, [1e-5] * 4, 3e-4, [256] * 4),
        (32, [0.7e-3] * 2, 2e-3, [16, 16]),
        (32, [1e-5] * 3, 3e-4, [16, 8, 8]),
        (32, [0.1] * 2, 1e-3, [8] * 4),
        (50_000, [1e-5] * 2, 3e-4, [16384, 16384, 8192, 8192, 848]),
        (50_000, [10.0] * 2, 3e-4, [1024] * 48 + [848]),
        (3, [10.0] * 8, 3e-4, [1, 1, 1]),
        (1, [0.0], 0.0, [1]),
    ],
)
def test_cuts_for_equal_workers(
    count: int, paces: list[float], overhead: float, sizes: list[int]
) -> None:
    assert [shard.count for shard in choose_cut(count, paces, overhead)] == sizes


def test_who_is_slower_gets_less() -> None:
    paces, overhead = [1e-3, 3e-3], 1e-4
    cut = choose_cut(64, paces, overhead)
    best = 64 / (1 / 1e-3 + 1 / 3e-3)
    assert seconds_of(cut, paces, overhead) < 1.1 * best
    assert seconds_of(shards(64, 32), paces, overhead) > 1.9 * best


def test_a_slow_link_makes_shards_larger() -> None:
    fast = choose_cut(32, [0.01] * 3, 1e-4)
    slow = choose_cut(32, [0.01] * 3, 1.0)
    assert [shard.count for shard in slow] == [16, 8, 8]
    assert len(fast) > len(slow)


def test_a_cut_is_kept_while_workers_are_steady() -> None:
    cut = Cut(32, (1e-5, 2e-5), choose_cut(32, [1e-5, 2e-5], 1e-4))
    assert cut.suits(32, [1.1e-5, 1.9e-5])
    assert not cut.suits(32, [1.1e-5, 2.6e-5])
    assert not cut.suits(32, [1e-5])
    assert not cut.suits(33, [1e-5, 2e-5])


def test_the_first_step_is_cut_like_any_other() -> None:
    """The default model and short names: a document may take some milliseconds."""
    seconds = assume_seconds(DEFAULT, SHORT)
    assert 0.001 < seconds < 0.01
    cut = choose_cut(32, [seconds] * 2, ASSUMED_OVERHEAD)
    assert [shard.count for shard in cut] == [16, 16]


def test_the_largest_shards_fit_into_messages() -> None:
    for longest in (3, 16, 17, 400, 1 << 20):
        for block_size in (1, 16, 1000, 1 << 19):
            config = TrainingConfig(GPTConfig(1 << 17, block_size=block_size))
            size = largest_shard(config, longest)
            tokens, lengths = bytes(4 * size * min(longest, block_size + 1)), bytes(4 * size)
            task = Task("r" * 16, "l" * 16, 1 << 62, 1 << 62, size, tokens, lengths, round=1 << 62)
            assert len(encode(task)) <= MAX_MESSAGE_BYTES
    losses = bytes(8 * LARGEST)
    answer = ShardResult(
        "r" * 16, "l" * 16, 1 << 62, 1 << 62, LARGEST, 1.0, losses, {}, round=1 << 62
    )
    assert len(encode(answer)) <= MESSAGE_OVERHEAD, "all but the gradient"


@pytest.mark.parametrize(
    ("model", "changes", "shard_size", "longest", "words"),
    [
        ({}, {"batch_size": 1 << 20}, 1 << 18, 20, "--shard-size 262144 is too large: at most"),
        ({}, {"batch_size": 50_000}, 1, 20, "--shard-size 1 cuts a batch of 50,000 documents"),
        (
            {"block_size": 1 << 21, "n_embd": 4},
            {},
            None,
            1 << 21,
            "a document of 2,097,152 tokens exceeds",
        ),
    ],
)
def test_what_no_message_can_hold_is_refused(
    model: dict[str, Any], changes: dict[str, Any], shard_size: int | None, longest: int, words: str
) -> None:
    config = TrainingConfig(GPTConfig(27, **model), **changes)
    assert words in unsendable(config, shard_size, longest)


@pytest.mark.parametrize(
    ("batch_size", "shard_size", "longest"),
    [(32, None, 20), (32, 1 << 18, 20), (1 << 20, None, 1 << 21), (MOST_SHARDS, 1, 20)],
)
def test_what_can_be_sent_is_not_refused(
    batch_size: int, shard_size: int | None, longest: int
) -> None:
    config = replace(DEFAULT, batch_size=batch_size)
    assert unsendable(config, shard_size, longest) == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--shard-size", "262144", "--batch-size", "300000"), "--shard-size 262144 is too large"),
        (("--shard-size", "1", "--batch-size", "50000"), "--shard-size 1 cuts a batch of 50,000"),
    ],
)
def test_the_coordinator_refuses_in_one_line_and_leaves_nothing(
    flags: tuple[str, ...], words: str, lab: Lab
) -> None:
    coordinator = lab.coordinator(*TINY, "--data", str(lab.data), *flags, run="")
    assert coordinator.wait() == 1
    (line,) = coordinator.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert not (lab.place / "runs").exists()


def test_a_large_batch_is_cut_into_few_shards_however_slow_a_member_says_it_is() -> None:
    play = Play(steps=2, batch_size=50_000, shard_size=None)
    play.joins(A, B)
    first = play.state.ledgers[0]
    assert len(first.all) <= FEW_SHARDS
    while play.state.ledgers[0] is first:
        for peer in (A, B):
            play.answers(peer, seconds=MOST_SECONDS)
    assert len(play.state.ledgers[0].all) <= FEW_SHARDS


@tried(
    60,
    500,
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
    st.integers(1, 9),
    st.floats(1e-6, 1.0),
    st.floats(0.0, 1.0),
)
def test_many_workers_with_one_pace_take_as_long_as_looked_at_one_by_one(
    counts: list[int], workers: int, pace: float, overhead: float
) -> None:
    starts = [sum(counts[:place]) for place in range(len(counts))]
    free = [0.0] * workers
    for count in counts:
        since = free.pop(free.index(min(free)))
        free.append(since + overhead + count * pace)
    cut = [Shard(start, count) for start, count in zip(starts, counts, strict=True)]
    assert seconds_of(cut, [pace] * workers, overhead) == max(free)


def test_a_batch_is_cut_for_ten_thousand_workers() -> None:
    assert choose_cut(320_000, [1e-5] * 10_000, 3e-4) == shards(320_000, 32)
