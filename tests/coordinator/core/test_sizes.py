"""How long messages and checkpoints with replicas become: what is expected is what is measured."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from coordinator.core import work_order
from coordinator.core.sizes import LARGEST, Sizes, sizes_of, unmanageable
from coordinator.core.work_order import snapshot_every, wants_snapshot
from microgpt.checkpoint.container import MAX_BYTES
from microgpt.checkpoint.format import encode as encode_checkpoint
from microgpt.config import TrainingConfig
from microgpt.data.corpus import Corpus
from microgpt.distribution import MAX_REPLICAS, Distribution
from microgpt.model import GPTConfig, parameter_shapes
from microgpt.parameters import Shapes, num_params
from microgpt.protocol.messages import MAX_MESSAGE_BYTES
from microgpt.strategies.base import Strategy
from microgpt.strategies.diloco import DiLoCo
from microgpt.strategies.sync import Sync
from tests.coordinator.core.cluster import NAMES_BYTES, Cluster, bytes_of
from tests.processes import NAMES

SNAPSHOT_EVERY = 8


@pytest.fixture(autouse=True)
def snapshots_come_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that short runs have some."""
    monkeypatch.setattr(work_order, "SNAPSHOT_EVERY", SNAPSHOT_EVERY)


CORPUS = Corpus(NAMES, 42)


def sizes(
    distribution: Distribution,
    strategy: Strategy,
    model: GPTConfig | None = None,
    batch_size: int = 8,
) -> Sizes:
    model = model or GPTConfig(CORPUS.tokenizer.vocab_size, n_embd=2, n_head=1, block_size=2)
    config = TrainingConfig(model, batch_size=batch_size, distribution=distribution)
    return sizes_of(config, strategy, CORPUS.longest)


def test_without_replicas_there_is_nothing_to_keep() -> None:
    vector = 8 * num_params(parameter_shapes(GPTConfig(CORPUS.tokenizer.vocab_size, 1, 2, 1, 2)))
    assert sizes(Distribution(), Sync()) == Sizes(vector, 0, vector, 3 * vector, 0, 0)
    shared = sizes(Distribution(replicas=4), Sync())
    assert shared == Sizes(vector, 0, vector, 3 * vector, 2, 2 * (4 + 4 * 3))


def test_what_replicas_keep_counts() -> None:
    plain = sizes(Distribution(), Sync()).answer
    fed = sizes(Distribution(4, compress="topk:1.0"), Sync())
    assert (fed.state, fed.answer) == (plain, plain // 8 * 10 + plain)
    local = sizes(Distribution(4), DiLoCo(steps=2))
    assert (local.state, local.answer, local.documents) == (2 * plain, 3 * plain, 4)
    assert local.taking_over == 2 * plain + 9 * (plain + local.task)


@pytest.mark.parametrize(
    ("distribution", "strategy"),
    [
        (Distribution(3, compress="topk:1.0"), Sync()),
        (Distribution(2), DiLoCo(steps=2)),
        (Distribution(2, compress="powersgd", outer_optimizer="adam"), DiLoCo(steps=2)),
    ],
)
def test_no_message_and_no_checkpoint_is_longer_than_expected(
    distribution: Distribution, strategy: Strategy
) -> None:
    """Over more tasks than there are from one snapshot to the next, with a change of workers."""
    cluster = Cluster(strategy, distribution, steps=SNAPSHOT_EVERY + 2)
    expected = cluster.sizes()
    cluster.joins(b"A")
    longest = 0
    while cluster.state.training.step < SNAPSHOT_EVERY + 1:
        checkpoint = len(encode_checkpoint(cluster.checkpoint()))
        assert checkpoint <= expected.checkpoint + 10_000, "the generator, names and settings"
        longest = max(longest, checkpoint)
        if cluster.state.training.step == SNAPSHOT_EVERY - 1 and b"B" not in cluster.sent:
            cluster.loses(b"A")
            cluster.joins(b"B")
            taken = bytes_of(cluster.sent[b"B"])
            assert taken <= expected.taking_over + 30 * NAMES_BYTES
            assert taken > expected.taking_over // 2
        cluster.works()
    assert max(cluster.answered) <= expected.answer + NAMES_BYTES
    assert max(cluster.answered) > expected.answer - 100
    assert longest > expected.checkpoint // 2


SMALL: Shapes = {"w": (64, 64)}
LARGE: Shapes = {"w": (1 << 11, 1 << 11)}  # 32 MiB


def test_snapshots_come_more_often_where_the_weights_are_large() -> None:
    assert (snapshot_every(SMALL), snapshot_every(LARGE)) == (SNAPSHOT_EVERY, 2)
    assert snapshot_every({"w": (1 << 12, 1 << 12)}) == 1
    assert [clock for clock in range(17) if wants_snapshot(clock, SMALL)] == [7, 15]
    assert [snapshot_every(SMALL, wanted) for wanted in (0, 1, 3, 999)] == [8, 1, 3, 8]
    assert [clock for clock in range(9) if wants_snapshot(clock, SMALL, 3)] == [2, 5, 8]
    assert [clock for clock in range(5) if wants_snapshot(clock, LARGE)] == [1, 3]


FITS = Sizes(MAX_MESSAGE_BYTES >> 1, 1000, MAX_MESSAGE_BYTES >> 1, MAX_BYTES, LARGEST, 1000)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ""),
        ({"documents": LARGEST + 1}, "65,537 documents for one replica at a time are too many"),
        ({"task": MAX_MESSAGE_BYTES}, "the documents of one replica exceed the 256 MiB"),
        ({"answer": MAX_MESSAGE_BYTES}, "answer and what it keeps exceed the 256 MiB of a message"),
        ({"taking_over": MAX_MESSAGE_BYTES}, "to go on with another one's replica exceeds 256 MiB"),
        ({"checkpoint": MAX_BYTES + 1}, "could have 1,024 MiB, and at most 1,024 can be read"),
        ({"checkpoint": MAX_BYTES + 1, "state": 0}, ""),
    ],
)
def test_what_cannot_be_sent_or_saved_is_refused(changes: dict[str, int], words: str) -> None:
    reason = unmanageable(FITS._replace(**changes))
    assert words in reason
    assert bool(words) == bool(reason)
    assert "\n" not in reason


def test_models_at_the_limit() -> None:
    """A model of 7 million weights can be trained by diloco; by four replicas, not by 4,096."""
    width = 760
    model = GPTConfig(27, 1, width, 4, 16)
    assert 6.9e6 < num_params(parameter_shapes(model)) < 7.1e6
    assert unmanageable(sizes(Distribution(2), DiLoCo(), model)) == ""
    assert "take fewer --replicas" in unmanageable(
        sizes(Distribution(32), DiLoCo(), model, batch_size=32)
    )
    larger = replace(model, n_embd=2 * width)
    assert "choose a smaller model" in unmanageable(sizes(Distribution(2), DiLoCo(), larger))


def test_the_default_model_with_as_many_replicas_as_there_may_be() -> None:
    many = sizes(Distribution(MAX_REPLICAS), DiLoCo(), GPTConfig(27), batch_size=MAX_REPLICAS)
    assert unmanageable(many) == ""


def test_it_is_said_before_the_run_begins() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "coordinator", "--data", "embedded", "--n-embd", "1520",
         "--replicas", "2", "--compress", "topk"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert "choose a smaller model" in done.stderr
    assert len(done.stderr.splitlines()) == 1
