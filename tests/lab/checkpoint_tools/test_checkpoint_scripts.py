"""``scripts/checkpoint.py`` as a user runs it, on good files, bad ones and hostile ones."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import CheckpointError, Problem, Validation
from microgpt.model import GPTConfig
from microgpt.parameters import from_bytes, to_bytes
from tests.hostile_files import BOMBS, mutations
from tests.marks import soak
from tests.processes import ROOT
from tests.tiny import make_distributed, make_tiny, save_tiny

SCRIPT = str(ROOT / "scripts/checkpoint.py")


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def run_dir(tiny: Path, tmp_path: Path) -> Path:
    """Checkpoints of steps 3 and 5, as a run keeps them, and a truncated one."""
    loaded = checkpoint_format.load(tiny)
    steps = tmp_path / "run" / "checkpoints"
    steps.mkdir(parents=True)
    before = to_bytes([x + 0.25 for x in from_bytes(loaded.weights)])
    checkpoint_format.save(
        steps / "step-00000003.msgpack",
        replace(loaded, step=3, weights=before, losses=loaded.losses[:3]),
    )
    shutil.copy(tiny, steps / "step-00000005.msgpack")
    shutil.copy(tiny, tmp_path / "run" / "checkpoint.msgpack")
    (steps / "step-00000004.msgpack").write_bytes(tiny.read_bytes()[:1000])
    (steps / ".step-00000006.msgpack.abc").write_bytes(b"half")
    return tmp_path / "run"


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


# What is wrong with a file


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda d: None, Problem.MISSING),
        (lambda d: b"", Problem.FOREIGN),
        (lambda d: b"\x89PNG\r\n\x1a\n" + bytes(100), Problem.FOREIGN),
        (lambda d: msgpack.packb({"version": 1, "format": "microgpt-checkpoint"}), Problem.FOREIGN),
        (lambda d: msgpack.packb({"format": "microgpt-checkpoints"}), Problem.FOREIGN),
        (lambda d: d[:1], Problem.TRUNCATED),
        (lambda d: d[:20], Problem.TRUNCATED),
        (lambda d: d[:100], Problem.TRUNCATED),
        (lambda d: d[:-1], Problem.TRUNCATED),
        (lambda d: d + b"\0", Problem.DAMAGED),
        (lambda d: d[:500] + bytes([d[500] ^ 1]) + d[501:], Problem.DAMAGED),
        (lambda d: msgpack.packb({**msgpack.unpackb(d), "version": 0}), Problem.DAMAGED),
        (
            lambda d: msgpack.packb(
                {**msgpack.unpackb(d), "version": checkpoint_format.VERSION + 1}
            ),
            Problem.NEWER,
        ),
        (
            lambda d: msgpack.packb({"format": checkpoint_format.FORMAT, "version": 9}),
            Problem.NEWER,
        ),
    ],
)
def test_every_problem_has_its_name(
    tiny: Path, tmp_path: Path, change: Callable[[bytes], bytes | None], problem: Problem
) -> None:
    path = tmp_path / "file"
    content = change(tiny.read_bytes())
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint_format.load(path)
    assert caught.value.problem is problem
    assert str(caught.value).startswith(str(path))


def test_another_model_than_expected(tiny: Path) -> None:
    model = checkpoint_format.load(tiny).training.model
    assert checkpoint_format.load(tiny, model).training.model == model
    with pytest.raises(CheckpointError, match="of another model: n_layer 1, not 2") as caught:
        checkpoint_format.load(tiny, GPTConfig(**{**model.to_dict(), "n_layer": 2}))
    assert caught.value.problem is Problem.OTHER_MODEL


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), Path("/dev/null")):
        with pytest.raises(CheckpointError, match="is not a file") as caught:
            checkpoint_format.load(path)
        assert caught.value.problem is Problem.FOREIGN
    with pytest.raises(CheckpointError, match="cannot be read"):
        checkpoint_format.load("a\0b")
    assert "cannot be read: File name too long" in only_error(run("show", "x" * 5000))


def test_a_large_foreign_file_is_not_read(tmp_path: Path) -> None:
    large = tmp_path / "large"
    with open(large, "wb") as file:
        file.truncate(900 << 20)  # takes no room on the disk
    assert measured(f"checkpoint.main(['show', {str(large)!r}])")["megabytes"] < 100


# Commands


def test_list(run_dir: Path) -> None:
    done = run("list", str(run_dir))
    assert (done.returncode, done.stderr) == (0, "")
    header, *rows = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]
    assert header == ["file", "step", "loss", "params", "state"]
    assert [row[1] for row in rows] == ["truncated", "3", "5", "5"]
    newest = checkpoint_format.load(run_dir / "checkpoint.msgpack")
    assert rows[2][2:] == [
        f"{newest.losses[-1]:.4f}",
        str(newest.num_params),
        newest.state_sha256[:12],
    ]
    records = json.loads(run("list", str(run_dir), "--json").stdout)
    assert [r.get("step") for r in records] == [None, 3, 5, 5]
    assert [r["good"] for r in records] == [False, True, True, True]
    assert records[0]["problem"] == "truncated"
    assert records[3]["state_sha256"] == newest.state_sha256
    inside = run("list", str(run_dir / "checkpoints"), "--json")
    assert len(json.loads(inside.stdout)) == 3


def test_what_the_strategy_promises_is_shown(run_dir: Path) -> None:
    path = run_dir / "checkpoint.msgpack"
    saved = checkpoint_format.load(path)
    for strategy, promise in (("sync", "exact"), ("async", "replayable"), ("mine.py:Mine", None)):
        training = replace(saved.training, strategy=strategy)
        checkpoint_format.save(path, replace(saved, training=training))
        assert json.loads(run("show", str(path), "--json").stdout)["promise"] == promise
        shown = re.findall(r"^promise +(\w+)$", run("show", str(path)).stdout, re.M)
        assert shown == ([promise] if promise else [])


def test_the_loss_of_held_out_documents_is_shown(run_dir: Path) -> None:
    path = run_dir / "checkpoint.msgpack"
    checkpoint_format.save(
        path, replace(checkpoint_format.load(path), validation=Validation(4, 2.71828))
    )
    header, *rows = run("list", str(run_dir)).stdout.splitlines()
    assert re.split(r"\s{2,}", header) == [
        "file", "step", "loss", "validation", "params", "state"
    ]  # fmt: skip
    cells = [re.split(r"\s{2,}", row)[3:4] for row in rows]
    assert cells == [[], ["-"], ["2.7183 (step 4)"], ["-"]]
    assert re.search(
        r"^validation\n  step  4\n  loss  2.71828$", run("show", str(path)).stdout, re.M
    )
    assert json.loads(run("show", str(path), "--json").stdout)["validation"]["loss"] == 2.71828
    without = str(run_dir / "checkpoints/step-00000003.msgpack")
    assert not re.search("^validation ", run("show", without).stdout, re.M)
    assert json.loads(run("show", without, "--json").stdout)["validation"] is None


def test_list_of_what_has_none(tmp_path: Path, tiny: Path) -> None:
    assert "holds no checkpoints" in only_error(run("list", str(tmp_path)))
    assert "does not exist" in only_error(run("list", str(tmp_path / "no")))
    assert "is no directory" in only_error(run("list", str(tiny)))


def test_verify(run_dir: Path, tiny: Path) -> None:
    good = run("verify", str(tiny))
    assert (good.returncode, good.stdout) == (0, f"{tiny}: good, step 5\n")
    mixed = run("verify", str(tiny), str(run_dir), str(run_dir / "none"))
    assert mixed.returncode == 1
    assert mixed.stdout.count(": good, step") == 4
    truncated, missing = mixed.stderr.splitlines()
    assert truncated.startswith("error: ")
    assert "step-00000004.msgpack is truncated: it ends after 1000 bytes" in truncated
    assert "does not exist" in missing
    records = json.loads(run("verify", "--json", str(tiny), str(run_dir / "none")).stdout)
    assert [record["good"] for record in records] == [True, False]


def test_diff(run_dir: Path) -> None:
    files = [str(run_dir / f"checkpoints/step-0000000{step}.msgpack") for step in (3, 5)]
    done = run("diff", *files, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["steps"] == [3, 5]
    assert report["equal"]["adam"]
    assert not report["equal"]["weights"]
    before, after = map(checkpoint_format.load, files)
    a, b = from_bytes(before.weights), from_bytes(after.weights)
    distances = [abs(y - x) for x, y in zip(a, b, strict=True)]
    assert report["all"]["max"] == max(distances)
    assert report["all"]["mean"] == pytest.approx(sum(distances) / len(distances))
    rms = math.sqrt(sum(d * d for d in distances) / len(distances))
    assert report["all"]["rms"] == pytest.approx(rms)
    assert report["all"]["relative"] == pytest.approx(
        rms / math.sqrt(sum(x * x for x in a) / len(a))
    )
    assert report["all"]["moved"] == before.num_params
    assert list(report["matrices"]) == list(before.shapes)
    lines = run("diff", *files).stdout.splitlines()
    assert lines[0] == "step 3 to step 5 of tiny"
    assert [line.split()[0] for line in lines[3:]] == [*before.shapes, "all"]


def test_diff_of_run_directories(run_dir: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    older.mkdir()
    shutil.copy(run_dir / "checkpoints/step-00000003.msgpack", older / "checkpoint.msgpack")
    done = run("diff", str(older), str(run_dir))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("step 3 to step 5 of tiny\n")
    other = tmp_path / "other"
    other.mkdir()
    checkpoint_format.save(other / "checkpoint.msgpack", make_tiny(("ab", "ba")))
    assert "is of another model" in only_error(run("diff", str(run_dir), str(other)))


def test_diff_of_the_same_and_of_one_number(run_dir: Path, tmp_path: Path) -> None:
    path = run_dir / "checkpoint.msgpack"
    same = json.loads(run("diff", str(path), str(path), "--json").stdout)
    assert all(same["equal"].values())
    assert same["all"] == {"size": same["all"]["size"], "moved": 0, "max": 0.0, "mean": 0.0,
                           "rms": 0.0, "relative": 0.0}  # fmt: skip
    loaded = checkpoint_format.load(path)
    numbers = from_bytes(loaded.weights)
    numbers[0] += 3.0
    other = tmp_path / "other.msgpack"
    checkpoint_format.save(other, replace(loaded, weights=to_bytes(numbers)))
    report = json.loads(run("diff", str(path), str(other), "--json").stdout)
    moved = {name for name, row in report["matrices"].items() if row["moved"]}
    assert moved == {"wte"}
    assert report["matrices"]["wte"]["moved"] == 1
    assert report["matrices"]["wte"]["max"] == pytest.approx(3.0)


def test_what_strategies_and_replicas_keep_is_shown_and_compared(tmp_path: Path) -> None:
    made, path, other = make_distributed(), tmp_path / "a", tmp_path / "b"
    checkpoint_format.save(path, made)
    shown = json.loads(run("show", str(path), "--json").stdout)
    size = made.num_params
    assert shown["slots"] == {"outer.momentum": size, "hex": 0}
    assert shown["replicas"] == {
        "number": 3, "tasks": 6, "to_do_again": 3,
        "each_keeps": {"residual": size, "inner.m": size},
    }  # fmt: skip
    assert shown["training"]["distribution"]["compress"] == "topk:0.5"
    lines = run("show", str(path)).stdout.splitlines()
    assert [line.split() for line in lines if "to_do_again" in line] == [["to_do_again", "3"]]
    moved = replace(made.distributed, slots={**made.distributed.slots, "hex": bytes(8)})
    checkpoint_format.save(other, replace(made, distributed=moved))
    equal = json.loads(run("diff", str(path), str(other), "--json").stdout)["equal"]
    assert (equal["slots"], equal["replicas"], equal["weights"]) == (False, True, True)
    assert not equal["state"]
    moved = replace(made.distributed, past_weights={3: made.weights, 4: made.weights})
    checkpoint_format.save(other, replace(made, distributed=moved))
    equal = json.loads(run("diff", str(path), str(other), "--json").stdout)["equal"]
    assert (equal["slots"], equal["replicas"]) == (True, False)


def test_diff_of_extreme_numbers(tiny: Path, tmp_path: Path) -> None:
    loaded = checkpoint_format.load(tiny)
    paths = []
    for name, number in (("a", 1.7e308), ("b", -1.7e308), ("c", 0.0), ("d", 5e-324)):
        path = tmp_path / name
        weights = to_bytes([number] * loaded.num_params)
        checkpoint_format.save(path, replace(loaded, weights=weights))
        paths.append(str(path))
    for a in paths:
        for b in paths[:2]:
            done = run("diff", a, b, "--json")
            assert (done.returncode, done.stderr) == (0, "")
            json.loads(done.stdout, parse_constant=pytest.fail)


def test_diff_of_other_models(tiny: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.msgpack"
    checkpoint_format.save(other, make_tiny(("ab", "ba")))
    assert "is of another model: vocab_size 3, not 25" in only_error(
        run("diff", str(tiny), str(other))
    )


@pytest.mark.parametrize("arguments", [[], soak(["show"]), ["nonsense"], soak(["diff", "a"])])
def test_wrong_command_lines(arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", ["show", *map(soak, ("list", "verify", "diff"))])
def test_a_reader_that_leaves_early_or_cannot_keep_it(run_dir: Path, command: str) -> None:
    path = run_dir / "checkpoint.msgpack"
    what = {"list": [run_dir], "diff": [path, path]}.get(command, [path])
    line = f"{sys.executable} {SCRIPT} {command} {' '.join(map(str, what))}"
    done = subprocess.run(
        ["/bin/sh", "-c", f"{line} | true"], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    full = subprocess.run(
        ["/bin/sh", "-c", f"{line} > /dev/full"], capture_output=True, text=True, check=False
    )
    assert full.stderr == "error: the output cannot be written: No space left on device\n"
    assert full.returncode == 1


# Hostile files

MEASURED = """
import contextlib, io, json, resource, sys, time
sys.path.insert(0, {scripts!r})
import checkpoint, sample
from pathlib import Path
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
    before, slowest, codes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 0.0, []
    {body}
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({{"megabytes": (after - before) / 1024, "slowest": slowest, "codes": codes,
                  "errors": errors.getvalue().splitlines()}}))
"""


def measured(body: str) -> Any:
    """Runs ``body`` in a process of its own; its memory, beyond what Python itself takes."""
    program = MEASURED.format(scripts=str(ROOT / "scripts"), body=body)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


EACH = """
    for path in sorted(Path({place!r}).iterdir()):
        for arguments in {commands!r}:
            start, said = time.perf_counter(), errors.tell()
            main = checkpoint.main if arguments[0] in ('show', 'verify', 'diff') else sample.main
            codes.append(main([a.replace('FILE', str(path)) for a in arguments]))
            assert errors.getvalue()[said:].count(chr(10)) == codes[-1], (path, arguments)
            slowest = max(slowest, time.perf_counter() - start)
"""


@pytest.mark.parametrize("files", [600, soak(4000)])
def test_hostile_files_by_the_thousand(tiny: Path, tmp_path: Path, files: int) -> None:
    for number, data in enumerate(mutations(tiny.read_bytes(), files, seed=8)):
        (tmp_path / f"{number}.msgpack").write_bytes(data)
    done = run("verify", str(tmp_path))
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert len(errors) > files // 2
    assert all(line.startswith("error: ") for line in errors)
    assert len(errors) + done.stdout.count(": good, step") == files


@pytest.mark.parametrize("files", [100, soak(400)])
def test_whatever_is_done_with_hostile_files(tiny: Path, tmp_path: Path, files: int) -> None:
    for number, data in enumerate(mutations(tiny.read_bytes(), files, seed=9)):
        (tmp_path / f"{number}").write_bytes(data)
    commands = [
        ["show", "FILE", "--json"],
        ["diff", str(tiny), "FILE"],
        ["FILE", "--num-samples", "1", "--explain"],
    ]
    result = measured(EACH.format(place=str(tmp_path), commands=commands))
    assert len(result["codes"]) == 3 * files
    assert set(result["codes"]) == {0, 1}
    assert result["codes"].count(1) > 1.5 * files
    assert result["codes"].count(0) > files // 8, "some mutations should load"
    assert all(line.startswith("error: ") for line in result["errors"])
    assert result["megabytes"] < 100
    assert result["slowest"] < 5


def test_bombs(tiny: Path, tmp_path: Path) -> None:
    from microgpt.checkpoint.container import BEGINNING, seal

    place = tmp_path / "bombs"
    place.mkdir()
    body = tiny.read_bytes()
    for number, bomb in enumerate(BOMBS):
        (place / f"{number}-bare").write_bytes(bomb)
        (place / f"{number}-outer").write_bytes(b"\x84" + BEGINNING + bomb)
        (place / f"{number}-body").write_bytes(seal(bomb))
        (place / f"{number}-entry").write_bytes(seal(b"\x81\xa1x" + bomb))
        (place / f"{number}-after").write_bytes(body + bomb)
    for name, many in {"lists": [[]] * 300_000, "maps": [{}] * 300_000}.items():
        (place / name).write_bytes(seal(msgpack.packb({"losses": many})))
    nested: Any = {str(i): {str(j): {} for j in range(500)} for i in range(500)}
    (place / "tree").write_bytes(seal(msgpack.packb(nested)))
    commands = [["show", "FILE"], ["FILE"]]
    result = measured(EACH.format(place=str(place), commands=commands))
    assert set(result["codes"]) == {1}
    assert result["megabytes"] < 100
    assert result["slowest"] < 5
