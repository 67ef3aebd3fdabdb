"""Checkpoints: complete, verified, never half there; and nothing hostile gets through."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import strategies as st

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import (
    VERSION,
    Checkpoint,
    CheckpointError,
    Validation,
    decode,
    encode,
    load,
    save,
)
from microgpt.config import TrainingConfig
from microgpt.model import GPTConfig
from microgpt.parameters import from_bytes, num_params, sha256, to_bytes
from microgpt.tokenizer import Tokenizer
from tests.marks import tried


def make(step: int = 3) -> Checkpoint:
    tokenizer = Tokenizer("ab\u00e9")
    model = GPTConfig(tokenizer.vocab_size, n_embd=4, n_head=2, block_size=4)
    config = TrainingConfig(model, steps=10, batch_size=2, seed=7, validation_fraction=0.25)
    rng = random.Random(7)
    blank = Checkpoint(config, tokenizer, {}, "", 0, b"", b"", b"", (3, (), None), next_document=0)
    count = num_params(blank.shapes)
    weights, m, v = (to_bytes([rng.gauss(0, 1) for _ in range(count)]) for _ in range(3))
    v = to_bytes([x * x for x in from_bytes(v)])
    version, words, gauss = rng.getstate()
    state = (version, words, gauss)
    data: dict[str, str | int] = {"name": "names", "sha256": "0" * 64, "documents": 5, "bytes": 30}
    losses, validation = (2.5, 2.25), Validation(2, 2.375)
    return Checkpoint(
        config, tokenizer, data, "run", step, weights, m, v, state, losses, validation,
        next_document=2 * step,
    )  # fmt: skip


SAVED = make()
BYTES = encode(SAVED)


def refused(data: bytes) -> str:
    with pytest.raises(CheckpointError) as caught:
        decode(data, "FILE")
    text = str(caught.value)
    assert text.startswith("FILE ")
    assert "\n" not in text
    return text


def test_round_trip() -> None:
    assert decode(BYTES, "FILE") == SAVED
    assert encode(SAVED) == BYTES, "equal checkpoints are equal files"


def test_the_generator_goes_on_where_it_stood() -> None:
    rng = random.Random(7)
    for _ in range(3 * SAVED.num_params):
        rng.gauss(0, 1)
    again = decode(BYTES, "FILE").rng()
    assert [again.gauss(0, 1) for _ in range(5)] == [rng.gauss(0, 1) for _ in range(5)]


@pytest.mark.parametrize(
    "part", ["weights", "adam_m", "adam_v", "step", "rng_state", "next_document"]
)
def test_the_state_digest_covers_each_part(part: str) -> None:
    flipped = bytearray(SAVED.weights)
    flipped[-1] ^= 1
    version, words, gauss = SAVED.rng_state
    new: dict[str, Any] = {
        "step": 4,
        "next_document": 7,
        "rng_state": (version, (words[0] ^ 1, *words[1:]), gauss),
    }
    other = replace(SAVED, **{part: new.get(part, bytes(flipped))})
    assert other.state_sha256 != SAVED.state_sha256
    assert (other.params_sha256 != SAVED.params_sha256) == (part == "weights")


def test_the_state_digest_leaves_out_what_decides_nothing() -> None:
    """A run with and one without an evaluation have equal futures, and so equal digests."""
    assert replace(SAVED, validation=None, losses=()).state_sha256 == SAVED.state_sha256


@pytest.mark.parametrize("validation", [None, Validation(0, 0.1 + 0.2), Validation(3, -0.0)])
def test_any_validation_is_kept(validation: Validation | None) -> None:
    loaded = decode(encode(replace(SAVED, validation=validation)), "FILE")
    assert repr(loaded.validation) == repr(validation)


def test_the_state_digest_covers_the_second_number_of_a_gauss_pair() -> None:
    version, words, _ = SAVED.rng_state
    one, two = (replace(SAVED, rng_state=(version, words, g)) for g in (None, 0.5))
    assert one.state_sha256 != two.state_sha256


def test_every_flipped_bit_is_noticed() -> None:
    rng = random.Random(1)
    for place in range(len(BYTES)):
        data = bytearray(BYTES)
        data[place] ^= 1 << rng.randrange(8)
        refused(bytes(data))


def test_every_truncation_is_noticed() -> None:
    for length in range(len(BYTES)):
        refused(BYTES[:length])
    assert "goes on after" in refused(BYTES + b"\0")


def repacked(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A file whose digest is right and whose body is not."""
    body = msgpack.unpackb(msgpack.unpackb(BYTES)["body"])
    change(body)
    packed = msgpack.packb(body)
    outer = {
        "format": checkpoint_format.FORMAT,
        "version": VERSION,
        "sha256": sha256(packed),
        "body": packed,
    }
    return bytes(msgpack.packb(outer))


NAN = to_bytes([float("nan")])


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b.pop("weights"),
        lambda b: b.pop("rng"),
        lambda b: b["weights"].pop("wte"),
        lambda b: b["weights"].update(more=b""),
        lambda b: b["weights"].update(wte=b["weights"]["wte"][8:]),
        lambda b: b["weights"].update(wte=NAN + b["weights"]["wte"][8:]),
        lambda b: b["weights"].update(wte="x" * len(b["weights"]["wte"])),
        lambda b: b["adam_v"].update(wpe=None),
        lambda b: b.update(step=-1),
        lambda b: b.update(step=2.0),
        lambda b: b.update(step=True),
        lambda b: b.update(step=2**63),
        lambda b: b.update(step=10**15 + 1),
        lambda b: b.update(run=None),
        lambda b: b.update(data=[]),
        lambda b: b.update(losses=[float("inf")]),
        lambda b: b.update(losses=["1"]),
        lambda b: b.pop("validation"),
        lambda b: b.update(validation=[2, 2.375]),
        lambda b: b.update(validation={}),
        lambda b: b["validation"].pop("loss"),
        lambda b: b["validation"].update(more=1),
        lambda b: b["validation"].update(step=-1),
        lambda b: b["validation"].update(step=4),
        lambda b: b["validation"].update(step=2.0),
        lambda b: b["validation"].update(step=True),
        lambda b: b["validation"].update(loss=float("nan")),
        lambda b: b["validation"].update(loss=float("inf")),
        lambda b: b["validation"].update(loss=2),
        lambda b: b["validation"].update(loss=None),
        lambda b: b["training"].pop("validation_fraction"),
        lambda b: b["training"].update(validation_fraction=1.0),
        lambda b: b["training"].update(validation_fraction=None),
        lambda b: b["training"].update(batch_size=0),
        lambda b: b["training"].update(batch_size=2**62),
        lambda b: b["training"].update(batch_size=(1 << 20) + 1),
        lambda b: b["training"].update(steps=2**62),
        lambda b: b["training"]["model"].update(block_size=1 << 62),
        lambda b: b["training"]["model"].update(n_head=1 << 62, n_embd=1 << 62),
        lambda b: b["training"].update(nonsense=1),
        lambda b: b["training"]["model"].update(n_head=3),
        lambda b: b["training"]["model"].update(n_embd=1 << 40),
        lambda b: b["training"]["model"].update(n_layer=1 << 40),
        lambda b: b["training"]["adam"].update(beta1="0.5"),
        lambda b: b["tokenizer"].update(chars="ba"),
        lambda b: b["tokenizer"].update(chars="abcd"),
        lambda b: b["tokenizer"].update(chars=5),
        lambda b: b["rng"].update(words=b"short"),
        lambda b: b["rng"].update(version=9),
        lambda b: b["rng"].update(gauss_next="1"),
        lambda b: b["rng"].update(words=b"\xff" * 2500),
        lambda b: b.update(rng=[]),
        lambda b: b.clear(),
    ],
)
def test_a_body_that_cannot_be(change: Callable[[dict[str, Any]], object]) -> None:
    assert "does not hold a complete checkpoint" in refused(repacked(change))


def test_a_body_that_is_no_map() -> None:
    for body in (b"", b"\x90", b"\xc1", b"\x01", b"\x91" * 5000):
        outer = {
            "format": checkpoint_format.FORMAT,
            "version": VERSION,
            "sha256": sha256(body),
            "body": body,
        }
        refused(msgpack.packb(outer))


@pytest.mark.parametrize("version", [VERSION + 1, 99, 10**9])
def test_a_newer_format_asks_for_a_newer_program(version: int) -> None:
    outer = {**msgpack.unpackb(BYTES), "version": version}
    assert f"has format {version}; this program reads up to {VERSION}" in refused(
        msgpack.packb(outer)
    )


@pytest.mark.parametrize("version", [0, -1, "1", None, 1.0, True])
def test_no_format_at_all(version: Any) -> None:
    refused(msgpack.packb({**msgpack.unpackb(BYTES), "version": version}))


@tried(60, 300, st.binary(max_size=100))
def test_random_bytes(data: bytes) -> None:
    refused(data)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 2**40) | st.floats() | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)  # fmt: skip


@tried(60, 300, st.data())
def test_a_body_with_any_value_in_any_place(data: st.DataObject) -> None:
    def change(body: dict[str, Any]) -> None:
        place: Any = body
        while True:
            key = data.draw(st.sampled_from(sorted(place)))
            if not isinstance(place[key], dict) or not place[key] or data.draw(st.booleans()):
                break
            place = place[key]
        place[key] = data.draw(values)

    try:
        loaded = decode(repacked(change), "FILE")
    except CheckpointError:
        return
    assert decode(encode(loaded), "FILE") == loaded
    loaded.state_dict()


# Files


def test_a_file_appears_whole_and_with_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.msgpack"
    save(path, SAVED)
    save(path, make(4))
    assert load(path).step == 4
    assert os.listdir(tmp_path) == ["checkpoint.msgpack"]
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failing_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "checkpoint.msgpack"
    save(path, SAVED)

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match="cannot be written: No space left on device"):
        save(path, make(4))
    monkeypatch.undo()
    assert load(path).step == 3
    assert os.listdir(tmp_path) == ["checkpoint.msgpack"]


def test_the_bytes_are_on_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def sync(descriptor: int) -> None:
        order.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync")
        real_sync(descriptor)

    def rename(source: Any, target: Any) -> None:
        order.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    save(tmp_path / "c", SAVED)
    assert order == ["sync", "rename", "sync directory"]


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path / "none")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        load(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be written"):
        save(tmp_path / "no" / "folder", SAVED)
    save(tmp_path / "c", SAVED)
    monkeypatch.setattr(checkpoint_format, "MAX_BYTES", len(BYTES) - 1)
    with pytest.raises(CheckpointError, match="larger than any checkpoint"):
        load(tmp_path / "c")
