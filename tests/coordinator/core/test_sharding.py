"""How a batch is cut, and what is refused because no message could hold it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.core.sharding import (
    FEW_SHARDS,
    LARGEST,
    MOST_SHARDS,
    SHARDS_PER_WORKER,
    assume_seconds,
    choose_shard_size,
    largest_shard,
    unsendable,
)
from coordinator.net.router import MESSAGE_OVERHEAD
from microgpt.config import TrainingConfig
from microgpt.model import GPTConfig
from microgpt.optim.reduction import shards
from microgpt.protocol.messages import MAX_MESSAGE_BYTES, ShardResult, Task, encode
from microgpt.protocol.schema import LEAST_SECONDS, MAX_DOCUMENTS, MOST_SECONDS
from tests.coordinator.core.test_coordinator_state import A, B, Play
from tests.processes import TINY, Lab

DEFAULT = TrainingConfig(GPTConfig(27))
SHORT = [[26, *range(6), 26]] * 4

answered = st.one_of(st.just(0.0), st.floats(LEAST_SECONDS, MOST_SECONDS))


@settings(max_examples=2000, deadline=None)
@given(answered, st.integers(1, MAX_DOCUMENTS), st.integers(1, 1 << 40), st.integers(0, 1 << 13))
def test_no_time_that_a_peer_may_tell_breaks_the_choice(
    seconds: float, count: int, batch_size: int, workers: int
) -> None:
    size = choose_shard_size(batch_size, workers, seconds / count)
    assert 1 <= size <= LARGEST
    assert size & (size - 1) == 0
    if size < LARGEST:
        assert -(-batch_size // size) <= max(FEW_SHARDS, SHARDS_PER_WORKER * workers)


@pytest.mark.parametrize(
    ("batch_size", "workers", "seconds", "size"),
    [
        (32, 1, 1e-6, 32),
        (32, 2, 1e-6, 16),
        (32, 3, 1e-6, 8),
        (32, 2, 0.002, 4),
        (32, 2, 10.0, 1),
        (32, 2, 0.0, 16),
        (50_000, 2, 10.0, 1024),
        (50_000, 2, 1e-7, 16384),
        (1000, 1000, 10.0, 1),
        (5, 8, 0.0, 1),
    ],
)
def test_the_size_of_shards(batch_size: int, workers: int, seconds: float, size: int) -> None:
    assert choose_shard_size(batch_size, workers, seconds) == size


def test_the_first_step_is_cut_like_any_other() -> None:
    """The default model and short names: a document may take some milliseconds."""
    seconds = assume_seconds(DEFAULT, SHORT)
    assert 0.001 < seconds < 0.01
    assert choose_shard_size(32, 2, seconds) == 2
    assert len(shards(50_000, choose_shard_size(50_000, 2, seconds))) == 49


def test_the_largest_shards_fit_into_messages() -> None:
    for longest in (3, 16, 17, 400, 1 << 20):
        for block_size in (1, 16, 1000, 1 << 19):
            config = TrainingConfig(GPTConfig(1 << 17, block_size=block_size))
            size = largest_shard(config, longest)
            document = ((1 << 17) - 1,) * min(longest, block_size + 1)
            task = Task("r" * 16, "l" * 16, 1 << 62, 1 << 62, size, (document,) * 2, round=1 << 62)
            one = len(encode(replace(task, documents=(document,) * 3))) - len(encode(task))
            assert len(encode(task)) + (size - 2) * one <= MAX_MESSAGE_BYTES
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
    assert len(play.state.ledgers[0].all) == 49
