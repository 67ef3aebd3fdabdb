"""``docs/checkpoint-format.md`` tells the truth: its reader runs, its bytes are those of a file."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

import microgpt
from microgpt.checkpoint import container
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.container import BEGINNING
from microgpt.checkpoint.export import FORMATS
from microgpt.checkpoint.format import Checkpoint, Problem, Validation
from microgpt.engine.scalar import ScalarEngine
from microgpt.parameters import from_bytes
from microgpt.training import Corpus, advance, from_checkpoint, to_checkpoint
from tests.processes import ROOT
from tests.tiny import make_tiny

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
        + b"\xa7version" + b"\x02"
        + b"\xa6sha256" + b"\xd9\x40" + hashlib.sha256(body).hexdigest().encode()
        + b"\xa4body" + head + body
    )  # fmt: skip
    assert data == by_hand
    assert f"first {1 + len(BEGINNING)} bytes" in PAGE


def test_the_body_is_as_described(made: Checkpoint) -> None:
    body = msgpack.unpackb(msgpack.unpackb(checkpoint_format.encode(made))["body"])
    described = PAGE.partition("## The body")[2].partition("###")[0]
    names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|(.*?)\|", described, re.MULTILINE)))
    assert set(body) == set(names)
    for part in ("training", "validation", "rng"):
        described = PAGE.partition(f"### `{part}`")[2].partition("\n##")[0]
        assert set(body[part]) == set(re.findall(r"^\| `(\w+)` \|", described, re.MULTILINE))
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


OLD = ROOT / "tests/data/format-1.msgpack"
OLD_EXPORT = OLD.with_suffix(".json")
OLD_DOCUMENTS = ("anna", "bob", "carla", "dora", "emil", "fay", "gus")
#: Digests of the state in the file and of the end of its training, written down with format 1.
AFTER_3 = "67e671b069f43ce3f33a2b33e6f0a99e55f8ff134784e2dbe00b809a5b67273d"
AFTER_6 = "1fcc62843c77261f182fc8bccb85f7be3441c6e70d2c7df177620bb860772ba7"


def test_a_file_of_format_1_is_read_and_saved_as_format_2(tmp_path: Path) -> None:
    old = checkpoint_format.load(OLD)
    assert msgpack.unpackb(OLD.read_bytes())["version"] == 1
    assert (old.step, old.state_sha256, old.validation) == (3, AFTER_3, None)
    assert old.training.validation_fraction == 0.0
    assert microgpt.sample(old, 5, temperature=1.0) == ["g", "sedn", "brs", "mco", "cmm"]
    checkpoint_format.save(tmp_path / "c", old)
    assert msgpack.unpackb((tmp_path / "c").read_bytes())["version"] == 2
    assert checkpoint_format.load(tmp_path / "c") == old == FORMATS["json"].read(str(OLD_EXPORT))


def test_a_training_goes_on_from_a_file_of_format_1_with_the_same_bits() -> None:
    old = checkpoint_format.load(OLD)
    config, state = old.training, from_checkpoint(old)
    corpus = Corpus(OLD_DOCUMENTS, config.seed, config.validation_fraction)
    engine = ScalarEngine(config.model)
    while state.step < config.steps:
        result = engine.gradients(state.params, corpus.batch(state.step, config.batch_size))
        state = advance(config, state, result.gradient, result.losses)
    after = to_checkpoint(config, state, corpus.tokenizer, old.data, old.run)
    assert after.state_sha256 == AFTER_6


def test_the_reader_of_the_page_reads_format_1(tmp_path: Path) -> None:
    assert read_with_the_page(OLD, tmp_path).stdout.startswith("after step 3 with ")


def test_files_of_older_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later program, in which ``step`` has another name since version 4."""
    old = checkpoint_format.encode(make_tiny())

    def rename(body: Any) -> Any:
        return {**body, "step": body.pop("steps_done")}

    def unchanged(body: Any) -> Any:
        return {"steps_done": body["step"], **body}

    for module in (checkpoint_format, container):
        monkeypatch.setattr(module, "VERSION", 4)
    monkeypatch.setattr(checkpoint_format, "MIGRATIONS", {2: unchanged, 3: rename})
    assert checkpoint_format.decode(old, "FILE") == make_tiny()
    monkeypatch.setattr(checkpoint_format, "MIGRATIONS", {2: rename, 3: rename})
    with pytest.raises(checkpoint_format.CheckpointError, match="it has no 'steps_done'"):
        checkpoint_format.decode(old, "FILE")


def test_every_problem_is_described() -> None:
    table = PAGE.partition("## Reading with care")[2]
    assert re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)[1:] == list(Problem)
