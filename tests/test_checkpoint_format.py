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

from microgpt import checkpoint, envelope
from microgpt.checkpoint import Checkpoint, Problem
from microgpt.envelope import BEGINNING
from microgpt.parameters import from_bytes
from tests.processes import ROOT
from tests.tiny import make_tiny

PAGE = (ROOT / "docs/checkpoint-format.md").read_text(encoding="utf-8")


@pytest.fixture(params=[1, 3], ids=["small", "large"])
def made(request: pytest.FixtureRequest) -> Checkpoint:
    return replace(make_tiny(n_layer=request.param), losses=(2.5,) * (request.param * 100))


def test_the_reader_of_the_page_reads_a_checkpoint(made: Checkpoint, tmp_path: Path) -> None:
    (reader,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(list(filter(None, reader.splitlines()))) <= 10
    assert set(re.findall(r"^import (.*)$", reader, re.MULTILINE)) == {
        "hashlib, msgpack, struct, sys"
    }
    path = tmp_path / "c.msgpack"
    checkpoint.save(path, made)
    done = subprocess.run(
        [sys.executable, "-I", "-c", reader, str(path)],
        capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path,
    )  # fmt: skip
    assert done.stderr == ""
    first, *rows = done.stdout.splitlines()
    assert first == f"after step 5 with {made.training.model.to_dict()}"
    expected = []
    for name, matrix in made.state_dict().items():
        count = len(matrix) * len(matrix[0])
        expected.append(f"{name} {count} numbers, the first is {matrix[0][0]}")
    assert rows == expected
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    done = subprocess.run(
        [sys.executable, "-I", "-c", reader, str(path)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert "AssertionError: damaged" in done.stderr


def test_the_shell_is_as_described(made: Checkpoint) -> None:
    data = checkpoint.encode(made)
    body = msgpack.unpackb(data)["body"]
    head = b"\xc5" + len(body).to_bytes(2, "big")
    if len(body) >= 1 << 16:
        head = b"\xc6" + len(body).to_bytes(4, "big")
    by_hand = (
        b"\x84"
        + b"\xa6format" + b"\xb3microgpt-checkpoint"
        + b"\xa7version" + b"\x01"
        + b"\xa6sha256" + b"\xd9\x40" + hashlib.sha256(body).hexdigest().encode()
        + b"\xa4body" + head + body
    )  # fmt: skip
    assert data == by_hand
    assert f"first {1 + len(BEGINNING)} bytes" in PAGE


def test_the_body_is_as_described(made: Checkpoint) -> None:
    body = msgpack.unpackb(msgpack.unpackb(checkpoint.encode(made))["body"])
    described = PAGE.partition("## The body")[2].partition("###")[0]
    names = re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|(.*?)\|", described, re.MULTILINE)))
    assert set(body) == set(names)
    assert set(body["training"]) == {"model", "adam", "steps", "batch_size", "seed"}
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


def test_files_of_older_versions_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later program, in which ``step`` has another name since version 3."""
    old = checkpoint.encode(make_tiny())

    def rename(body: Any) -> Any:
        return {**body, "step": body.pop("steps_done")}

    def unchanged(body: Any) -> Any:
        return {"steps_done": body["step"], **body}

    for module in (checkpoint, envelope):
        monkeypatch.setattr(module, "VERSION", 3)
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: unchanged, 2: rename})
    assert checkpoint.decode(old, "FILE") == make_tiny()
    assert checkpoint.decode(checkpoint.encode(make_tiny()), "FILE") == make_tiny()
    monkeypatch.setattr(checkpoint, "MIGRATIONS", {1: rename, 2: rename})
    with pytest.raises(checkpoint.CheckpointError, match="it has no 'steps_done'"):
        checkpoint.decode(old, "FILE")


def test_every_problem_is_described() -> None:
    table = PAGE.partition("## Reading with care")[2]
    assert re.findall(r"^\| ([a-z ]+) \|", table, re.MULTILINE)[1:] == list(Problem)
