"""``microgpt anatomy``: what it prints, as text and as JSON, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.anatomy import plain
from microgpt.anatomy import dissect
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import load
from microgpt.checkpoint.newest import step_path
from microgpt.parameters import from_bytes, to_bytes
from microgpt.sampling import generate
from tests.processes import ROOT
from tests.tiny import make_tiny, save_tiny


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts/anatomy.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


def test_json_has_every_number_in_full(newest: Path) -> None:
    done = run(newest, "bob", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load(newest)
    model, tokenizer = loaded.training.model, loaded.tokenizer
    found = dissect(loaded.state_dict(), model, tokenizer, "bob")
    told = json.loads(done.stdout)
    assert told == json.loads(json.dumps(plain(loaded, "bob", found)))
    assert told["loss"] == found.loss
    assert told["vocabulary"] == [*tokenizer.chars, None]
    assert [p["probabilities"] for p in told["positions"]] == [
        list(p.probabilities) for p in found.positions
    ]
    assert (told["step"], told["document"], told["cut"]) == (5, "bob", False)


def test_people_see_a_row_for_each_position_and_matrix(newest: Path) -> None:
    done = run(newest.parent, "bob")  # a run's directory names its newest
    assert (done.returncode, done.stderr) == (0, "")
    loaded = load(newest)
    found = dissect(loaded.state_dict(), loaded.training.model, loaded.tokenizer, "bob")
    lines = done.stdout.splitlines()
    assert lines[0] == f"step 5, bob: a loss of {found.loss:.4f} nats per token over 4 positions"
    rows = [line.split() for line in lines[3:7]]
    assert [row[:3] for row in rows] == [
        [read, follows, f"{position.loss:.4f}"]
        for (read, follows), position in zip(
            ["^b", "bo", "ob", ("b", "(end)")], found.positions, strict=True
        )
    ]
    assert found.gradients is not None
    matrices = {line.split()[0]: line.split()[1] for line in lines[-len(found.gradients) :]}
    assert matrices == {tensor.name: f"{tensor.norm:.5f}" for tensor in found.gradients}
    assert max(map(len, lines)) <= 100


def test_heads_are_shown_one_by_one(newest: Path) -> None:
    rows = [line.split(" |")[0] for line in run(newest, "a", "--per-head").stdout.splitlines()]
    assert [row.split()[-1] for row in rows if row.endswith((" 0.0", " 0.1"))] == ["0.0", "0.1"] * 2


def test_the_end_of_a_long_document_is_cut_off(newest: Path) -> None:
    first = run(newest, "annabella").stdout.splitlines()[0]
    assert first.endswith(
        "over 4 positions; the document is longer than the context, and its end cut off"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (["bob7"], 1, "error: the model knows no '7'; it knows 'abcdefghijklmnoprstuvwyz'"),
        (["bob", "alice"], 2, "anatomy.py: error: unrecognized arguments: alice"),
        (["--step", "x"], 2, "anatomy.py: error: argument --step: invalid int value: 'x'"),
    ],
)
def test_what_is_wrong_is_one_line(
    newest: Path, arguments: list[str], code: int, line: str
) -> None:
    done = run(newest, *arguments)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, line)
    assert done.stdout == ""


def test_without_a_document_it_takes_the_first_that_the_model_invents(newest: Path) -> None:
    loaded = load(newest)
    params, model = loaded.state_dict(), loaded.training.model
    [first] = generate(params, model, loaded.tokenizer, loaded.rng(), num_samples=1)
    assert run(newest, "--json").stdout == run(newest, first, "--json").stdout


def test_a_step_names_one_of_the_checkpoints_of_a_run(tmp_path: Path) -> None:
    made = make_tiny()
    checkpoint_format.save(tmp_path / "checkpoint.msgpack", made)
    (tmp_path / "checkpoints").mkdir()
    earlier = replace(made, step=3, losses=made.losses[:3], next_document=12)
    for loaded in (earlier, replace(made, step=7, losses=(3.0,) * 7, next_document=28)):
        checkpoint_format.save(step_path(tmp_path, loaded.step), loaded)
    told = [json.loads(run(tmp_path, "bob", "--json", f"--step={step}").stdout) for step in (3, 5)]
    assert [found["step"] for found in told] == [3, 5]
    for step in (4, 7):  # the last one is of before the run was resumed from an older one
        done = run(tmp_path, "bob", "--step", str(step))
        assert done.stderr == f"error: {tmp_path} has no checkpoint of step {step}\n"
    done = run(tmp_path / "checkpoint.msgpack", "bob", "--step", "5")
    assert done.stderr.startswith("error: --step is for run directories: ")


def test_a_file_that_is_no_checkpoint_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("no")
    done = run(tmp_path / "bad", "bob")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_a_model_whose_numbers_overflow_is_one_line(tmp_path: Path) -> None:
    made = make_tiny()
    huge = to_bytes([1e300 * weight for weight in from_bytes(made.weights)])
    checkpoint_format.save(tmp_path / "huge.msgpack", replace(made, weights=huge))
    done = run(tmp_path / "huge.msgpack", "bob")
    assert done.stderr == "error: the model's numbers overflow: its weights are of no use\n"
    assert done.returncode == 1
