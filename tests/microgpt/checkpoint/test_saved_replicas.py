"""What checkpoints hold of strategies and replicas: complete, bounded, nothing hostile in it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import strategies as st

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import seal
from microgpt.checkpoint.format import CheckpointError, decode, encode
from microgpt.checkpoint.replicas import (
    MAX_NAME,
    MAX_PARTS,
    MAX_PLACE,
    MAX_SINCE,
    Distributed,
    SavedReplica,
    SavedTask,
    from_plain,
    to_plain,
)
from microgpt.config import MAX_BATCH, MAX_STEPS
from microgpt.distribution import MAX_REPLICAS
from microgpt.parameters import to_bytes
from microgpt.training import from_checkpoint, to_checkpoint
from tests.hostile_files import mutations
from tests.marks import tried
from tests.tiny import make_distributed, make_tiny

SAVED = make_distributed()
SIZE = SAVED.num_params


def test_round_trip() -> None:
    again = decode(encode(SAVED), "FILE")
    assert again == SAVED
    assert encode(again) == encode(SAVED)


def test_from_a_checkpoint_to_a_state_and_back() -> None:
    state = from_checkpoint(SAVED)
    assert [log.replica for log in state.replicas] == [0, 1, 2]
    assert [log.clock for log in state.replicas] == [2, 2, 2]
    task = state.replicas[0].since[1]
    assert (task.assignment.version, task.first, task.count) == (4, 16, 2)
    assert task.params.tobytes() == SAVED.weights
    assert state.slots["outer.momentum"].tobytes() == SAVED.adam_m
    again = to_checkpoint(SAVED.training, state, SAVED.tokenizer, SAVED.data, SAVED.run)
    assert again == SAVED


@pytest.mark.parametrize(
    "distributed",
    [
        replace(SAVED.distributed, slots={**SAVED.distributed.slots, "hex": bytes(8)}),
        replace(SAVED.distributed, slots={}),
        replace(SAVED.distributed, slots={"outer.velocity": SAVED.adam_m, "hex": b""}),
    ],
)
def test_the_state_digest_covers_what_strategies_keep(distributed: Distributed) -> None:
    assert replace(SAVED, distributed=distributed).state_sha256 != SAVED.state_sha256


def test_the_state_digest_leaves_out_what_the_same_past_decides() -> None:
    """A run saved right after a snapshot, and one saved after more tasks, are the same run."""
    other = replace(SAVED.distributed, replicas=(), past_weights={})
    assert replace(SAVED, distributed=other).state_sha256 == SAVED.state_sha256


def test_as_many_replicas_as_there_may_be_are_read_again() -> None:
    tasks = tuple(SavedTask(version, version, 1, 1, 0.0) for version in range(8))
    vectors = dict.fromkeys(("inner.m", "inner.v", "residual", "weights", "compress.q"), b"")
    many = tuple(SavedReplica(r, 8, vectors, tasks) for r in range(MAX_REPLICAS))
    past = dict.fromkeys(range(8), SAVED.weights)
    large = replace(SAVED, distributed=Distributed({}, many, past))
    assert decode(encode(large), "FILE") == large


def changed(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    body = checkpoint_format.to_body(SAVED)
    change(body["distributed"])
    return body


def task(plain: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = plain["replicas"][0]["since"][0]
    return found


NAN = to_bytes([float("nan")] * SIZE)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.clear(),
        lambda d: d.pop("slots"),
        lambda d: d.update(more=1),
        lambda d: d.update(slots=[]),
        lambda d: d["slots"].update({7: b""}),
        lambda d: d["slots"].update({"x" * (MAX_NAME + 1): b""}),
        lambda d: d["slots"].update({"\x1b[2J": b""}),
        lambda d: d["slots"].update({"x": b"1234567"}),
        lambda d: d["slots"].update({"x": NAN}),
        lambda d: d["slots"].update({"x": [1.0]}),
        lambda d: d["slots"].update({f"x{n}": b"" for n in range(MAX_PARTS)}),
        lambda d: d.update(past_weights={}),
        lambda d: d["past_weights"].append([9]),
        lambda d: d["past_weights"].append([9, SAVED.weights, 1]),
        lambda d: d["past_weights"].append([3, SAVED.weights]),
        lambda d: d["past_weights"].append([True, SAVED.weights]),
        lambda d: d["past_weights"].append([MAX_STEPS + 1, SAVED.weights]),
        lambda d: d["past_weights"].append([9, SAVED.weights[8:]]),
        lambda d: d["past_weights"].append([9, NAN]),
        lambda d: d["past_weights"].pop(),
        lambda d: d.update(replicas={}),
        lambda d: d["replicas"].append(d["replicas"][0]),
        lambda d: d["replicas"].reverse(),
        lambda d: d["replicas"].append({}),
        lambda d: d.update(replicas=[{**d["replicas"][2], "replica": r} for r in range(5_000)]),
        lambda d: d["replicas"][0].update(replica=-1),
        lambda d: d["replicas"][2].update(replica=MAX_REPLICAS),
        lambda d: d["replicas"][0].update(replica=False),
        lambda d: d["replicas"][0].update(clock=-1),
        lambda d: d["replicas"][0].update(clock=1.0),
        lambda d: d["replicas"][0].update(clock=MAX_PLACE + 1),
        lambda d: d["replicas"][0].update(more=1),
        lambda d: d["replicas"][0]["vectors"].update(residual=NAN),
        lambda d: d["replicas"][0].update(vectors=None),
        lambda d: d["replicas"][0].update(since=None),
        lambda d: d["replicas"][0].update(since=[task(d)] * (MAX_SINCE + 1)),
        lambda d: task(d).pop("version"),
        lambda d: task(d).update(more=1),
        lambda d: task(d).update(version=5),
        lambda d: task(d).update(version=3.0),
        lambda d: task(d).update(first=-1),
        lambda d: task(d).update(first=MAX_PLACE + 1),
        lambda d: task(d).update(count=0),
        lambda d: task(d).update(count=MAX_BATCH + 1),
        lambda d: task(d).update(steps=-1),
        lambda d: task(d).update(steps=3),
        lambda d: task(d).update(steps=True),
        lambda d: task(d).update(updates=0),
        lambda d: task(d).update(updates=1.0),
        lambda d: task(d).pop("updates"),
        lambda d: task(d).update(elastic=1),
        lambda d: task(d).update(elastic=-0.5),
        lambda d: task(d).update(elastic=float("nan")),
    ],
)
def test_what_cannot_be_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint_format.from_body(changed(change), "FILE")
    text = str(caught.value)
    assert text.startswith("FILE does not hold a complete checkpoint: ")
    assert "\n" not in text
    assert len(text) < 400


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("replicas"),
        lambda d: d.update(replicas=-1),
        lambda d: d.update(replicas=True),
        lambda d: d.update(replicas=MAX_REPLICAS + 1),
        lambda d: d.update(replicas=9),  # for a batch of four
        lambda d: d.update(error_feedback=1),
        lambda d: d.update(compress=None),
        lambda d: d.update(compress="x" * 5_001),
        lambda d: d.update(compress="\x1b[2J"),
        lambda d: d.update(aggregate=""),
        lambda d: d.update(more=1),
    ],
)
def test_no_distribution(change: Callable[[dict[str, Any]], object]) -> None:
    body = checkpoint_format.to_body(SAVED)
    change(body["training"]["distribution"])
    with pytest.raises(CheckpointError, match="does not hold a complete checkpoint"):
        checkpoint_format.from_body(body, "FILE")


def test_an_older_version_has_no_replicas() -> None:
    """The digest does not cover the version: a damaged one must not pass for an older one."""
    for version in (1, 2, 3):
        with pytest.raises(CheckpointError, match="which its version does not know"):
            checkpoint_format.from_body(checkpoint_format.to_body(SAVED), "FILE", version)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**64 - 1) | st.floats() | st.text(max_size=3)
    | st.binary(max_size=9) | st.just(SAVED.weights) | st.just(NAN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip


@tried(100, 500, st.data())
def test_any_value_in_any_place(data: st.DataObject) -> None:
    """It is refused by a ValueError, or is what is written again."""
    whole = to_plain(SAVED.distributed)
    place: Any = whole
    while True:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(values)
    try:
        read = from_plain(whole, SIZE)
    except ValueError:
        return
    assert to_plain(read) == whole


@pytest.mark.parametrize("seed", range(4))
def test_mutated_files_are_refused_in_one_line_or_read_as_they_are(seed: int) -> None:
    for data in mutations(encode(SAVED), 100, seed):
        try:
            loaded = decode(data, "FILE")
        except CheckpointError as error:
            reason = str(error)
        else:
            reason = ""
            assert decode(encode(loaded), "FILE") == loaded
        assert "\n" not in reason


def test_a_few_bytes_do_not_become_gigabytes() -> None:
    """As many entries as there may be, in lists of lists, cost a known amount of memory."""
    import tracemalloc

    body = checkpoint_format.to_body(make_tiny())
    body["distributed"]["replicas"] = [[[]] * 99] * 5_000
    data = seal(msgpack.packb(body))
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError):
            decode(data, "FILE")
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_vectors_keep_their_bits() -> None:
    rng = random.Random(1)
    numbers = np.array([rng.gauss(0, 1) for _ in range(9)] + [-0.0, 5e-324, 1.7e308])
    state = replace(from_checkpoint(SAVED), slots={"x": numbers}, replicas=())
    saved = to_checkpoint(SAVED.training, state, SAVED.tokenizer, SAVED.data, SAVED.run)
    again = from_checkpoint(decode(encode(saved), "FILE"))
    assert again.slots["x"].tobytes() == numbers.tobytes()
