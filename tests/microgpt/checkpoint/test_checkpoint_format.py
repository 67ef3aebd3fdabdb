"""``docs/checkpoint-format.md`` tells the truth: its reader runs, its bytes are those of a file."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

import microgpt
from microgpt.checkpoint import container
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import BEGINNING
from microgpt.checkpoint.export import FORMATS
from microgpt.checkpoint.format import Checkpoint, CheckpointError, Problem, Validation
from microgpt.checkpoint.replicas import Distributed
from microgpt.data.corpus import Corpus
from microgpt.distribution import Distribution
from microgpt.engine.scalar import ScalarEngine
from microgpt.parameters import from_bytes
from microgpt.strategies import serial
from microgpt.strategies.sync import Sync
from microgpt.training import from_checkpoint, to_checkpoint
from tests.processes import ROOT
from tests.tiny import make_distributed, make_tiny

PAGE = (ROOT / "docs/checkpoint-format.md").read_text(encoding="utf-8")


@pytest.fixture(params=[1, 3], ids=["small", "large"])
def made(request: pytest.FixtureRequest) -> Checkpoint:
    made = make_tiny(n_layer=request.param)
    return replace(
        made,
        training=replace(made.training, validation_fraction=0.1),
        losses=(2.5,) * (request.param * 100),
        validation=Validation(4, 2.75),
    )


def read_with_the_page(path: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    (reader,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(list(filter(None, reader.splitlines()))) <= 10
    assert set(re.findall(r"^import (.*)$", reader, re.MULTILINE)) == {
        "hashlib, msgpack, struct, sys"
    }
    return subprocess.run(
        [sys.executable, "-I", "-c", reader, str(path)],
        capture_output=True, text=True, check=False, timeout=60, cwd=folder,
    )  # fmt: skip


def test_the_reader_of_the_page_reads_a_checkpoint(made: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "c.msgpack"
    checkpoint_format.save(path, made)
    done = read_with_the_page(path, tmp_path)
    assert done.stderr == ""
    first, *rows = done.stdout.splitlines()
    assert first == f"after step 5 with {made.training.model.to_dict()}"
    expected = []
    for name, matrix in made.state_dict().items():
        count = len(matrix) * len(matrix[0])
        expected.append(f"{name} {count} numbers, the first is {matrix[0][0]}")
    assert rows == expected
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    assert "AssertionError: damaged" in read_with_the_page(path, tmp_path).stderr


def test_the_shell_is_as_described(made: Checkpoint) -> None:
    data = checkpoint_format.encode(made)
    body = msgpack.unpackb(data)["body"]
    head = b"\xc5" + len(body).to_bytes(2, "big")
    if len(body) >= 1 << 16:
        head = b"\xc6" + len(body).to_bytes(4, "big")
    by_hand = (
        b"\x84"
        + b"\xa6format" + b"\xb3microgpt-checkpoint"
        + b"\xa7version" + b"\x05"
        + b"\xa6sha256" + b"\xd9\x40" + hashlib.sha256(body).hexdigest().encode()
        + b"\xa4body" + head + body
    )  # fmt: skip
    assert data == by_hand
    assert f"first {1 + len(BEGINNING)} bytes" in PAGE


def named_in(described: str) -> set[str]:
    """The names in the first column of a table."""
    first_column = re.findall(r"^\|(.*?)\|", described, re.MULTILINE)
    return set(re.findall(r"`(\w+)`", " ".join(first_column)))


def test_the_replicas_are_as_described() -> None:
    body = msgpack.unpackb(
        msgpack.unpackb(checkpoint_format.encode(make_distributed()))["body"], strict_map_key=False
    )
    described = PAGE.partition("### One of the `replicas`")[2].partition("\n##")[0]
    replica, _, task = described.partition("Each task")
    (one, *_), distributed = body["distributed"]["replicas"], body["distributed"]
    assert set(one) == named_in(replica)
    assert set(one["since"][0]) == named_in(task)
    assert [version for version, _ in distributed["past_weights"]] == [3, 4]


def test_the_body_is_as_described(made: Checkpoint) -> None:
    body = msgpack.unpackb(msgpack.unpackb(checkpoint_format.encode(made))["body"])
    described = PAGE.partition("## The body")[2].partition("###")[0]
    assert set(body) == named_in(described)
    for part in ("training", "validation", "rng", "distributed"):
        described = PAGE.partition(f"### `{part}`")[2].partition("\n##")[0]
        assert set(body[part]) == named_in(described)
    described = PAGE.partition("### `distribution`")[2].partition("\n##")[0]
    assert set(body["training"]["distribution"]) == named_in(described)
    assert len(body["rng"]["words"]) == 2500
    for part in ("weights", "adam_m", "adam_v"):
        assert {name: len(data) for name, data in body[part].items()} == {
            name: 8 * rows * columns for name, (rows, columns) in made.shapes.items()
        }
    for name in made.shapes:
        assert re.sub(r"^layer\d+", "", name) in PAGE
    words = body["rng"]["words"]
    assert int.from_bytes(words[:4], "little") == made.rng_state[1][0]
    assert from_bytes(body["weights"]["wte"])[0] == made.state_dict()["wte"][0][0]


@dataclass(frozen=True)
class Old:
    """A checkpoint after step 3 of 6 and an export of it, written when its format was the newest.

    ``after_3`` and ``after_6``: digests of the state in the file and of the end of its training,
    written down with that format.
    """

    version: int
    after_3: str
    after_6: str
    held_out: float
    validation: Validation | None
    samples: tuple[str, ...]

    @property
    def path(self) -> Path:
        return ROOT / f"tests/data/format-{self.version}.msgpack"


OLD_DOCUMENTS = ("anna", "bob", "carla", "dora", "emil", "fay", "gus")
OLD = [
    Old(
        1,
        "67e671b069f43ce3f33a2b33e6f0a99e55f8ff134784e2dbe00b809a5b67273d",
        "1fcc62843c77261f182fc8bccb85f7be3441c6e70d2c7df177620bb860772ba7",
        0.0,
        None,
        ("g", "sedn", "brs", "mco", "cmm"),
    ),
    Old(
        2,
        "63803d797804c93ded524e589fdb121a8d9a9956a4e90c0d161ea5c9c7ae9941",
        "65d1cb8cd42cb0edd0a88643444414e7009d207afe956e8fc83a082112051821",
        0.3,
        Validation(3, 2.826183025958397),
        ("g", "sedn", "brs", "lco", "cmm"),
    ),
    Old(
        3,
        "63803d797804c93ded524e589fdb121a8d9a9956a4e90c0d161ea5c9c7ae9941",
        "65d1cb8cd42cb0edd0a88643444414e7009d207afe956e8fc83a082112051821",
        0.3,
        Validation(3, 2.826183025958397),
        ("g", "sedn", "brs", "lco", "cmm"),
    ),
    Old(
        4,
        "63803d797804c93ded524e589fdb121a8d9a9956a4e90c0d161ea5c9c7ae9941",
        "65d1cb8cd42cb0edd0a88643444414e7009d207afe956e8fc83a082112051821",
        0.3,
        Validation(3, 2.826183025958397),
        ("g", "sedn", "brs", "lco", "cmm"),
    ),
]
each_old = pytest.mark.parametrize("old", OLD, ids=lambda old: f"format-{old.version}")


@each_old
def test_a_file_of_an_old_format_is_read_and_saved_as_format_5(old: Old, tmp_path: Path) -> None:
    loaded = checkpoint_format.load(old.path)
    assert msgpack.unpackb(old.path.read_bytes())["version"] == old.version
    assert (loaded.step, loaded.next_document) == (3, 9)
    assert (loaded.state_sha256, loaded.validation) == (old.after_3, old.validation)
    assert loaded.training.validation_fraction == old.held_out
    assert (loaded.training.strategy, loaded.training.strategy_options) == ("sync", {})
    assert tuple(microgpt.sample(loaded, 5, temperature=1.0)) == old.samples
    checkpoint_format.save(tmp_path / "c", loaded)
    assert msgpack.unpackb((tmp_path / "c").read_bytes())["version"] == 5
    assert (loaded.training.distribution, loaded.distributed) == (Distribution(), Distributed())
    exported = FORMATS["json"].read(str(old.path.with_suffix(".json")))
    assert checkpoint_format.load(tmp_path / "c") == loaded == exported


@each_old
def test_a_training_goes_on_from_an_old_file_with_the_same_bits(old: Old) -> None:
    loaded = checkpoint_format.load(old.path)
    config, state = loaded.training, from_checkpoint(loaded)
    corpus = Corpus(OLD_DOCUMENTS, config.seed, config.validation_fraction)
    engine = ScalarEngine(config.model)
    (*_, last) = serial.run(Sync(), config, corpus, state, engine)
    after = to_checkpoint(config, last, corpus.tokenizer, loaded.data, loaded.run)
    assert after.state_sha256 == old.after_6


@each_old
def test_the_reader_of_the_page_reads_old_formats(old: Old, tmp_path: Path) -> None:
    assert read_with_the_page(old.path, tmp_path).stdout.startswith("after step 3 with ")


@pytest.mark.parametrize("wrong", [{"step": [1]}, {"training": {"batch_size": "7"}}, {}])
def test_an_old_body_without_whole_numbers_is_refused(wrong: dict[str, Any]) -> None:
    body = msgpack.unpackb(msgpack.unpackb(OLD[1].path.read_bytes())["body"])
    training = {**body["training"], **wrong.get("training", {})}
    changed = {**body, **wrong, "training": training}
    if not wrong:
        del changed["step"]
    with pytest.raises(CheckpointError, match=r"is not a whole number|has no 'step'"):
        checkpoint_format.from_body(changed, "FILE", 2)


def test_strategy_and_next_document_are_kept(made: Checkpoint) -> None:
    training = replace(
        made.training,
        strategy="/somewhere/mine.py:Mine",
        strategy_options={"bound": 3, "decay": 0.5, "loud": True, "name": "x"},
    )
    other = replace(made, training=training, next_document=77)
    again = checkpoint_format.decode(checkpoint_format.encode(other), "FILE")
    assert again == other
    assert from_checkpoint(again).next_document == 77
    assert other.state_sha256 != made.state_sha256
    assert replace(other, next_document=20).state_sha256 == made.state_sha256


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("strategy", 7),
        ("strategy", ""),
        ("strategy", "x" * 5_001),
        ("strategy_options", [["a", 1]]),
        ("strategy_options", {"a": [1]}),
        ("strategy_options", {"a b": 1}),
        ("strategy_options", {"a": float("inf")}),
        ("strategy_options", {f"a{n}": n for n in range(101)}),
        ("next_document", -1),
        ("next_document", True),
        ("next_document", 2**63),
    ],
)
def test_no_strategy_and_no_next_document(made: Checkpoint, entry: str, value: Any) -> None:
    body = checkpoint_format.to_body(made)
    (body if entry in body else body["training"])[entry] = value
    with pytest.raises(CheckpointError) as caught:
        checkpoint_format.from_body(body, "FILE")
    assert entry.replace("_", " ") in str(caught.value).replace("_", " ")
    assert len(str(caught.value)) < 400


def test_files_of_older_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later program, in which ``step`` has another name since version 7."""
    old = checkpoint_format.encode(make_tiny())

    def rename(body: Any) -> Any:
        return {**body, "step": body.pop("steps_done")}

    def unchanged(body: Any) -> Any:
        return {"steps_done": body["step"], **body}

    for module in (checkpoint_format, container):
        monkeypatch.setattr(module, "VERSION", 7)
    monkeypatch.setattr(checkpoint_format, "MIGRATIONS", {5: unchanged, 6: rename})
    assert checkpoint_format.decode(old, "FILE") == make_tiny()
    monkeypatch.setattr(checkpoint_format, "MIGRATIONS", {5: rename, 6: rename})
    with pytest.raises(checkpoint_format.CheckpointError, match="it has no 'steps_done'"):
        checkpoint_format.decode(old, "FILE")


def test_a_changed_learning_rate_is_kept_and_part_of_the_digest(made: Checkpoint) -> None:
    changed = replace(made, learning_rate=0.25)
    again = checkpoint_format.decode(checkpoint_format.encode(changed), "FILE")
    assert again == changed
    assert from_checkpoint(again).learning_rate == 0.25
    digests = {replace(made, learning_rate=x).state_sha256 for x in (None, 0.25, 0.5, 0.0)}
    assert len(digests) == 4
    whole = checkpoint_format.from_body({**checkpoint_format.to_body(made), "learning_rate": 1}, "")
    assert repr(whole.learning_rate) == "1.0"


@pytest.mark.parametrize("rate", [-0.1, "1", True, float("nan"), float("inf"), [0.1]])
def test_no_learning_rate(made: Checkpoint, rate: Any) -> None:
    body = {**checkpoint_format.to_body(made), "learning_rate": rate}
    with pytest.raises(CheckpointError, match="learning_rate"):
        checkpoint_format.from_body(body, "FILE")


def test_a_body_of_format_4_has_no_learning_rate(made: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="its version does not know"):
        checkpoint_format.from_body(checkpoint_format.to_body(made), "FILE", 4)


def test_every_problem_is_described() -> None:
    table = PAGE.partition("## Reading with care")[2]
    assert re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)[1:] == list(Problem)
