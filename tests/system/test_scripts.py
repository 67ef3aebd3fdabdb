"""``scripts/sample.py`` and ``scripts/checkpoint.py``, as a user runs them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

import microgpt
from microgpt import sampling
from microgpt.checkpoint import format as checkpoint_format
from microgpt.parameters import to_bytes
from microgpt.tokenizer import Tokenizer
from tests.processes import ROOT

SAMPLE = str(ROOT / "scripts/sample.py")
SHOW = str(ROOT / "scripts/checkpoint.py")


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def newest(saved_run: Path) -> Path:
    return saved_run / "checkpoint.msgpack"


def test_samples_continue_the_generator_of_the_training(newest: Path) -> None:
    done = run(SAMPLE, str(newest))
    assert (done.returncode, done.stderr) == (0, "")
    loaded = checkpoint_format.load(newest)
    expected = sampling.generate(
        loaded.state_dict(), loaded.training.model, loaded.tokenizer, loaded.rng()
    )
    assert done.stdout.splitlines() == [f"sample {n:2d}: {s}" for n, s in enumerate(expected, 1)]
    assert done.stdout.count("\n") == 20
    assert re.match(r"sample  1: \w+\n", done.stdout)
    # They are those that the training itself has shown.
    shown = next(newest.parent.parent.parent.glob("*-train.out")).read_text()
    assert done.stdout in shown


def test_a_seed_makes_other_samples_and_the_same_ones_each_time(newest: Path) -> None:
    one, again, other, free = (
        run(SAMPLE, str(newest), *seed).stdout
        for seed in (["--seed", "1"], ["--seed", "1"], ["--seed", "2"], [])
    )
    assert one == again
    assert len({one, other, free}) == 3


def test_prompt_temperature_and_number(newest: Path) -> None:
    given = ("--prompt", "an", "--temperature", "0.1", "--num-samples", "5")
    done = run(SAMPLE, str(newest), *given)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    assert all(re.fullmatch(rf"sample  {n}: an.{{0,2}}", line) for n, line in enumerate(lines, 1))
    assert run(SAMPLE, str(newest), "--num-samples", "0").stdout == ""
    hot = run(SAMPLE, str(newest), "--temperature", "5").stdout
    assert hot != run(SAMPLE, str(newest)).stdout


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["--prompt", "Q7"], 1, "the model knows no '7', 'Q'"),
        (["--prompt", "anna"], 1, "leaves room for at most 3"),
        (["--temperature", "-1"], 1, "must be 0 or a positive number"),
        (["--temperature", "nan"], 1, "must be 0 or a positive number"),
        (["--temperature", "inf"], 1, "must be 0 or a positive number"),
        (["--num-samples", "-1"], 1, "cannot be negative"),
        (["--num-samples", "two"], 2, "invalid int value"),
    ],
)
def test_bad_values(newest: Path, given: list[str], code: int, message: str) -> None:
    done = run(SAMPLE, str(newest), *given)
    assert done.returncode == code
    assert done.stdout == ""
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_temperature_that_overflows_is_one_clear_line(newest: Path) -> None:
    done = run(SAMPLE, str(newest), "--temperature", "1e-310")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")


@pytest.mark.parametrize("script", [[SAMPLE], [SHOW, "show"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a checkpoint"),
        (b'{"format": "microgpt-checkpoint"}', "not a checkpoint"),
        (msgpack.packb({"weights": [1.0]}), "not a checkpoint"),
        (msgpack.packb(7), "not a checkpoint"),
        (b"\x91" * 100_000, "not a checkpoint"),
        (b"\xdf\xff\xff\xff\xff", "not a checkpoint"),
        (
            msgpack.packb(
                {"format": checkpoint_format.FORMAT, "version": checkpoint_format.VERSION + 1}
            ),
            "update the program",
        ),
    ],
    ids=["missing", "empty", "png", "json", "map", "number", "nested", "bomb", "newer"],
)
def test_files_that_are_no_checkpoint(
    tmp_path: Path, script: list[str], content: bytes | None, message: str
) -> None:
    path = tmp_path / "file.msgpack"
    if content is not None:
        path.write_bytes(content)
    done = run(*script, str(path))
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {path} ")
    assert message in line


def test_a_directory_and_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    done = run(SAMPLE, str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "holds no checkpoints" in done.stderr


def test_a_run_directory_is_its_newest_checkpoint(newest: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    (run_dir / "checkpoints").mkdir(parents=True)
    samples = run(SAMPLE, str(newest)).stdout
    shown = run(SHOW, "show", str(newest)).stdout
    shutil.copy(newest, run_dir / "checkpoint.msgpack")
    assert run(SAMPLE, str(run_dir)).stdout == samples
    assert run(SHOW, "show", str(run_dir)).stdout == shown
    assert microgpt.sample(run_dir, 2) == microgpt.sample(newest, 2)
    # A damaged newest file is passed over, with a word; so does --resume.
    shutil.copy(newest, run_dir / "checkpoints" / "step-00000005.msgpack")
    (run_dir / "checkpoint.msgpack").write_bytes(b"\x84")
    done = run(SAMPLE, str(run_dir))
    assert (done.returncode, done.stdout) == (0, samples)
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: passed over: ")
    # The folder of the files alone, whatever their names.
    (run_dir / "checkpoints" / "step-00000005.msgpack").rename(tmp_path / "a.msgpack")
    loaded = checkpoint_format.load(newest)
    checkpoint_format.save(tmp_path / "b.msgpack", replace(loaded, step=loaded.step - 1))
    assert run(SAMPLE, str(tmp_path)).stdout == samples
    (tmp_path / "a.msgpack").unlink()
    (tmp_path / "b.msgpack").write_bytes(b"")
    done = run(SAMPLE, str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no good checkpoint in" in done.stderr


@pytest.mark.parametrize(
    "command",
    [
        (SAMPLE, "FILE"),
        (SHOW, "show", "FILE"),
        (SAMPLE, "FILE", "--json"),
        (SHOW, "verify", "FILE"),
    ],
)
def test_a_closed_output_is_one_line(newest: Path, command: list[str]) -> None:
    arguments = [str(newest) if each == "FILE" else each for each in command]
    done = closed(">&-", *arguments)
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: it is closed\n"
    done = closed("2>&-", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    missing = closed("2>&-", *(each if each != str(newest) else "none" for each in arguments))
    assert (missing.returncode, missing.stdout) == (1, "")


def test_a_closed_input_is_one_line(newest: Path) -> None:
    done = closed("<&-", SAMPLE, str(newest), "--interactive")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: standard input is closed")
    assert done.stderr.count("\n") == 1
    assert closed("<&-", SAMPLE, str(newest)).stdout == run(SAMPLE, str(newest)).stdout


def closed(how: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    line = f'exec "$0" "$@" {how}'
    return subprocess.run(
        ["/bin/sh", "-c", line, sys.executable, *arguments],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_truncated_files(newest: Path, tmp_path: Path) -> None:
    # One process for all fifty: a new Python each time would only take time.
    data = newest.read_bytes()
    for part in range(50):
        (tmp_path / f"{part}.msgpack").write_bytes(data[: len(data) * part // 50])
    assert each_is_refused(tmp_path) == 50


def test_flipped_bits(newest: Path, tmp_path: Path) -> None:
    data, rng = newest.read_bytes(), random.Random(5)
    places = {*range(0, 120), *(rng.randrange(len(data)) for _ in range(100))}
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / f"{place}.msgpack").write_bytes(flipped)
    assert each_is_refused(tmp_path) == len(places)


def each_is_refused(directory: Path) -> int:
    """How many files ``sample.py`` refuses with exit code 1 and one line each."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); import sample, pathlib\n"
        "for path in sorted(pathlib.Path(sys.argv[2]).iterdir()):\n"
        "    print(sample.main([str(path)]))\n"
    )
    done = run("-c", program, str(ROOT / "scripts"), str(directory))
    assert done.returncode == 0, done.stderr
    codes, lines = done.stdout.splitlines(), done.stderr.splitlines()
    assert set(codes) == {"1"}
    assert all(line.startswith("error: ") for line in lines)
    assert len(codes) == len(lines)
    return len(codes)


def test_show_tells_what_is_inside(newest: Path) -> None:
    done = run(SHOW, "show", str(newest), "--json")
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    loaded = checkpoint_format.load(newest)
    assert shown["step"] == 5
    assert shown["training"]["batch_size"] == 4
    assert shown["tokenizer"]["vocab_size"] == shown["training"]["model"]["vocab_size"]
    assert shown["data"]["documents"] == 24
    plain = run(SHOW, "show", str(newest))
    for key in ("step", "num_params", "params_sha256", "state_sha256"):
        assert re.search(rf"^{key} +{shown[key]}$", plain.stdout, re.MULTILINE)

    # The digests, computed anew from the bytes of the file and nothing else.
    outer = msgpack.unpackb(newest.read_bytes())
    assert hashlib.sha256(outer["body"]).hexdigest() == outer["sha256"]
    body = msgpack.unpackb(outer["body"])
    canonical = ["wte", "wpe", "lm_head"]
    canonical += [f"layer0.{m}" for m in ("attn_wq", "attn_wk", "attn_wv", "attn_wo")]
    canonical += ["layer0.mlp_fc1", "layer0.mlp_fc2"]
    w, m, v = (b"".join(body[k][n] for n in canonical) for k in ("weights", "adam_m", "adam_v"))
    assert shown["num_params"] * 8 == len(w)
    assert shown["params_sha256"] == hashlib.sha256(w).hexdigest()
    gauss = body["rng"]["gauss_next"]
    generator = body["rng"]["words"] + (b"" if gauss is None else gauss.hex().encode())
    whole = w + m + v + (5).to_bytes(8, "little") + generator
    assert shown["state_sha256"] == hashlib.sha256(whole).hexdigest()
    rows = [x for matrix in loaded.state_dict().values() for row in matrix for x in row]
    assert hashlib.sha256(to_bytes(rows)).hexdigest() == shown["params_sha256"]


BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize("script", [[SAMPLE], [SHOW, "show"]])
def test_nothing_but_msgpack_is_needed(newest: Path, tmp_path: Path, script: list[str]) -> None:
    # -S: no site-packages at all; a folder with msgpack alone, and the scripts in another place
    # without a virtual environment beside them.
    spec = importlib.util.find_spec("msgpack")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    shutil.copytree(spec.submodule_search_locations[0], tmp_path / "only" / "msgpack")
    for part in ("scripts", "lab", "microgpt"):
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / part, tmp_path / "project" / part, ignore=skip)
    moved = [script[0].replace(str(ROOT), str(tmp_path / "project")), *script[1:]]
    env = {"PYTHONPATH": str(tmp_path / "only"), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run("-S", *moved, str(newest), env=env, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == run(*script, str(newest)).stdout

    without = run("-S", *moved, str(newest), env={**env, "PYTHONPATH": ""}, cwd=tmp_path)
    assert without.returncode == 1
    assert without.stderr.startswith("error: this program needs msgpack")


def test_letters_that_the_terminal_lacks(tmp_path: Path, newest: Path) -> None:

    loaded = checkpoint_format.load(newest)
    chars = "".join(chr(0x3B1 + i) for i in range(len(loaded.tokenizer.chars)))
    greek = tmp_path / "greek.msgpack"
    checkpoint_format.save(greek, replace(loaded, tokenizer=Tokenizer(chars)))
    done = run(SAMPLE, str(greek), env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u03" in done.stdout


def test_a_reader_that_leaves_early(newest: Path) -> None:
    command = f"{sys.executable} {SAMPLE} {newest} --num-samples 2000 | head -n 1"
    done = subprocess.run(
        ["/bin/sh", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("sample  1: ")
    assert done.stderr == ""
