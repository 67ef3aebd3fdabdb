"""Export and import: the same bits back, files that other programs read, hostile ones refused."""

from __future__ import annotations

import json
import math
import os
import random
import resource
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgpt import sampling
from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.export import FORMATS, recognise
from microgpt.checkpoint.export.card import model_card
from microgpt.checkpoint.format import VERSION, Checkpoint, CheckpointError, Problem, Validation
from microgpt.parameters import from_bytes, to_bytes
from tests.hostile_files import STRANGE, mangle, with_strange_value
from tests.marks import soak
from tests.processes import ROOT
from tests.tiny import make_distributed, make_tiny

SCRIPT = str(ROOT / "scripts/checkpoint.py")
needs_safetensors = pytest.mark.skipif(
    find_spec("safetensors") is None, reason="safetensors is not installed"
)
EVERY = [pytest.param("safetensors", marks=needs_safetensors), "npz", "json"]


def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments],
        capture_output=True, text=True, check=False, timeout=60, **options,
    )  # fmt: skip


def odd_checkpoint() -> Checkpoint:
    """Two layers, an alphabet from everywhere, numbers at the ends of their range."""
    made = make_tiny(("ab\u00e9", "\u0436\U0001f415", '"\\\x1b'), n_layer=2)
    weights = from_bytes(made.weights)
    weights[0], weights[1], weights[2], weights[3] = -0.0, 5e-324, 1.7e308, math.pi
    version, words, _ = made.rng_state
    data: dict[str, str | int] = {
        "name": 'a "quoted" n\u00e4me',
        "sha256": "0" * 64,
        "documents": 3,
        "bytes": 2**62,
    }
    return replace(
        made,
        weights=to_bytes(weights),
        data=data,
        rng_state=(version, words, 0.1 + 0.2),
        losses=(0.1 + 0.2, 1e-300),
        training=replace(made.training, validation_fraction=0.1 + 0.2),
        validation=Validation(4, 1 / 3),
        run="r\u00fcn",
    )


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("make", [soak(make_tiny), odd_checkpoint, soak(make_distributed)])
def test_a_round_trip_gives_the_same_file(
    tmp_path: Path, name: str, make: Callable[[], Checkpoint]
) -> None:
    before, exported, after = tmp_path / "a.msgpack", str(tmp_path / "b"), tmp_path / "c.msgpack"
    checkpoint_format.save(before, make())
    done = run("export", str(before), "--format", name, "-o", exported)
    assert (done.returncode, done.stderr) == (0, "")
    assert recognise(exported) == name
    done = run("import", exported, "-o", str(after))
    assert (done.returncode, done.stderr) == (0, "")
    assert make().state_sha256 in done.stdout
    assert after.read_bytes() == before.read_bytes()


# Other programs


def numpy_logits(weights: dict[str, Any], config: dict[str, Any], tokens: list[int]) -> Any:
    """The network as config.json and the model card describe it, with NumPy's matrix products."""

    def norm(x: Any) -> Any:
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + config["rms_norm_eps"])

    length, heads = len(tokens), config["n_head"]
    x = norm(weights["wte"][tokens] + weights["wpe"][:length])
    for layer in range(config["n_layer"]):
        w = {name: weights[f"layer{layer}.{name}"] for name in
             ("attn_wq", "attn_wk", "attn_wv", "attn_wo", "mlp_fc1", "mlp_fc2")}  # fmt: skip
        y = norm(x)
        q, k, v = (
            (y @ w[n].T).reshape(length, heads, -1) for n in ("attn_wq", "attn_wk", "attn_wv")
        )
        scores = np.einsum("ihd,jhd->hij", q, k) / np.sqrt(q.shape[-1])
        scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
        chances = np.exp(scores - scores.max(-1, keepdims=True))
        chances /= chances.sum(-1, keepdims=True)
        mixed = np.einsum("hij,jhd->ihd", chances, v).reshape(length, -1)
        x = x + mixed @ w["attn_wo"].T
        x = x + np.maximum(norm(x) @ w["mlp_fc1"].T, 0) @ w["mlp_fc2"].T
    return x @ weights["lm_head"].T


def same_logits(made: Checkpoint, weights: dict[str, Any], config: dict[str, Any]) -> None:
    extend = sampling.plain(made.state_dict(), made.training.model)
    tokens = [config["bos_token_id"], 3, 1, 2]
    ours = [extend(token, position) for position, token in enumerate(tokens)]
    theirs = numpy_logits(weights, config, tokens)
    np.testing.assert_allclose(theirs, ours, rtol=1e-12, atol=1e-12)


@needs_safetensors
@pytest.mark.parametrize("n_layer", [1, 2])
def test_numpy_reproduces_the_logits_from_the_hub_folder(tmp_path: Path, n_layer: int) -> None:
    from safetensors.numpy import load_file

    made, folder = make_tiny(n_layer=n_layer), tmp_path / "model"
    FORMATS["safetensors"].write(str(folder), made)
    assert sorted(os.listdir(folder)) == [
        "README.md", "config.json", "model.safetensors", "training_state.safetensors"
    ]  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "model.safetensors")
    assert {name: array.shape for name, array in weights.items()} == dict(made.shapes)
    assert all(array.dtype == np.float64 for array in weights.values())
    same_logits(made, weights, config)
    assert config["alphabet"] == made.tokenizer.chars
    assert config["model_type"] == "microgpt"


def test_the_safetensors_file_without_its_library(tmp_path: Path) -> None:
    """Eight bytes of length, a JSON header, the numbers: as the format is documented."""
    pytest.importorskip("safetensors")
    made = make_tiny()
    FORMATS["safetensors"].write(str(tmp_path / "m"), made)
    data = (tmp_path / "m" / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, numbers = json.loads(data[8 : 8 + length]), data[8 + length :]
    header.pop("__metadata__")
    matrices = {
        name: np.frombuffer(numbers[slice(*entry["data_offsets"])], "<f8").reshape(entry["shape"])
        for name, entry in header.items()
    }
    assert {entry["dtype"] for entry in header.values()} == {"F64"}
    for name, rows in made.state_dict().items():
        assert matrices[name].tolist() == rows


@needs_safetensors
def test_the_model_card_has_the_head_that_hubs_read(tmp_path: Path) -> None:
    made = make_tiny()
    FORMATS["safetensors"].write(str(tmp_path / "m"), made)
    card = (tmp_path / "m" / "README.md").read_text()
    _, head, rest = card.split("---\n", 2)
    keys = [line.partition(":")[0] for line in head.splitlines() if not line.startswith("-")]
    assert keys == ["library_name", "pipeline_tag", "tags"]
    assert made.params_sha256 in rest
    assert "after 5 steps" in rest
    assert "validation" not in rest
    validated = model_card(replace(made, validation=Validation(4, 2.71828)))
    assert "nats per token |\n| validation loss | 2.7183 nats per token |\n| SHA" in validated
    assert max(map(len, rest.splitlines())) < 150


def test_numpy_loads_the_npz(tmp_path: Path) -> None:
    made, path = make_tiny(), tmp_path / "m.npz"
    FORMATS["npz"].write(str(path), made)
    with np.load(path, allow_pickle=False) as arrays:
        weights = {n: arrays[f"weights/{n}"] for n in made.shapes}
        settings = json.loads(str(arrays["settings"]))
    config = {**settings["training"]["model"], "rms_norm_eps": 1e-5, "bos_token_id": 24}
    same_logits(made, weights, config)
    assert settings["step"] == 5


def test_the_json_is_plain(tmp_path: Path) -> None:
    made, path = make_tiny(), tmp_path / "m.json"
    FORMATS["json"].write(str(path), made)
    whole = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert whole["weights"] == made.state_dict()
    assert whole["tokenizer"]["chars"] == made.tokenizer.chars


def test_changed_settings_need_no_digest(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    FORMATS["json"].write(str(path), make_tiny())
    whole = json.loads(path.read_text())
    whole["weights"]["wte"][0][0] = 7
    path.write_text(json.dumps(whole))
    with pytest.raises(CheckpointError, match="digest does not match"):
        FORMATS["json"].read(str(path))
    del whole["state_sha256"]
    path.write_text(json.dumps(whole))
    assert FORMATS["json"].read(str(path)).state_dict()["wte"][0][0] == 7.0


# Wrong input


def only_error(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


def test_what_cannot_be_exported_or_imported(tmp_path: Path) -> None:
    good, there = tmp_path / "good.msgpack", tmp_path / "there"
    checkpoint_format.save(good, make_tiny())
    there.write_text("{}")
    out = str(tmp_path / "out")
    export = ("export", str(good), "--format")
    assert "exists: give another -o" in only_error(run(*export, "json", "-o", str(there)))
    assert "without an extension" in only_error(
        run(*export, "safetensors", "-o", out + ".safetensors")
    )
    assert "cannot be written" in only_error(run(*export, "npz", "-o", "/dev/null/x"))
    assert "does not exist" in only_error(run("export", "no", "--format", "npz", "-o", out))
    assert "is no export" in only_error(run("import", str(there), "-o", out))
    assert "is not in one of the formats" in only_error(run("import", str(good), "-o", out))
    assert "does not exist" in only_error(run("import", "no", "-o", out))
    assert "does not exist" in only_error(run("import", str(tmp_path), "-o", out))
    assert "is not a file" in only_error(run("import", "/dev/zero", "-o", out))
    assert run(*export, "yaml", "-o", out).returncode == 2
    assert run(*export, "json", "-o", str(there), "--force").returncode == 0
    assert not os.path.exists(out)


@pytest.mark.parametrize(("name", "package"), [("safetensors", "safetensors"), ("npz", "numpy")])
def test_a_missing_package_is_named(tmp_path: Path, name: str, package: str) -> None:
    good = tmp_path / "good.msgpack"
    checkpoint_format.save(good, make_tiny())
    program = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"sys.path.insert(0, {str(ROOT / 'scripts')!r})\n"
        "import checkpoint; sys.exit(checkpoint.main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "export", str(good), "--format", name, "-o", "x"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert f"pip install {package}" in only_error(done)


@pytest.mark.parametrize("version", [0, VERSION + 1, None, "1"])
def test_other_versions_of_the_export(tmp_path: Path, version: Any) -> None:
    path = tmp_path / "m.json"
    FORMATS["json"].write(str(path), make_tiny())
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
    with pytest.raises(CheckpointError) as caught:
        FORMATS["json"].read(str(path))
    assert caught.value.problem is (Problem.NEWER if version == VERSION + 1 else Problem.DAMAGED)


def test_an_archive_that_announces_too_much(tmp_path: Path) -> None:
    path = tmp_path / "m.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.npy", bytes(200 << 20))
    tracemalloc.start()
    with pytest.raises(CheckpointError, match="it is compressed"):
        FORMATS["npz"].read(str(path))
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f8', 'fortran_order': False, 'shape': "
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", (header + b"(9999999999,)}").ljust(127) + b"\n")
    with pytest.raises(CheckpointError, match="is no export"):
        FORMATS["npz"].read(str(path))
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", EVERY)
def test_hostile_exports_by_the_hundred(tmp_path: Path, name: str) -> None:
    """Mangled bytes, strange settings: refused with one line, or read as a whole checkpoint."""
    rng, made, path = random.Random(4), make_tiny(), tmp_path / "m"
    FORMATS[name].write(str(path), made)
    files = [path / f for f in ("model.safetensors", "training_state.safetensors")]
    files = files if path.is_dir() else [path]
    contents = {file: file.read_bytes() for file in files}
    tracemalloc.start()
    refused = 0
    for _ in range(150):
        for file, content in contents.items():
            file.write_bytes(content)
        file = rng.choice(files)
        file.write_bytes(mangle(contents[file], rng))
        refused += is_refused(name, str(path))
    assert refused > 100
    assert tracemalloc.get_traced_memory()[1] < 50 << 20
    tracemalloc.stop()


def is_refused(name: str, path: str) -> bool:
    try:
        loaded = FORMATS[name].read(path)
    except CheckpointError as error:
        return str(error).startswith(path)
    assert checkpoint_format.decode(checkpoint_format.encode(loaded), "FILE") == loaded
    return False


DEEP = "[" * 200_000
HOSTILE_JSON: dict[str, Callable[[dict[str, Any]], str]] = {
    "deep": lambda w: json.dumps({**w, "run": 7}).replace('"run": 7', f'"run": {DEEP}'),
    "deep maps": lambda w: '{"a":' * 200_000,
    "a long number": lambda w: json.dumps(w).replace('"step": 5', f'"step": {"9" * 5000}'),
    "a large number": lambda w: json.dumps(w).replace('"step": 5', f'"step": {"9" * 400}'),
    "a number beyond binary64": lambda w: json.dumps(w).replace("3.125", "1e999"),
    "no number": lambda w: json.dumps(w).replace("3.125", "NaN"),
    "infinity": lambda w: json.dumps(w).replace("3.125", "-Infinity"),
    "a key twice": lambda w: json.dumps(w).replace('"step": 5', '"step": 5, "step": 6'),
    "half a pair": lambda w: json.dumps({**w, "run": "\ud800"}),
    "half a pair in the alphabet": lambda w: json.dumps(
        {**w, "tokenizer": {"chars": w["tokenizer"]["chars"][:-1] + "\ud800"}}
    ),
    "a mark that no file can hold": lambda w: json.dumps({**w, "data": {"bytes": 10**30}}),
    "more losses than a file can hold": lambda w: json.dumps({**w, "losses": [1.5] * 10_001}),
    "a text as a size": lambda w: json.dumps(
        {**w, "training": {**w["training"], "model": {"vocab_size": "x" * 10**6}}}
    ),
    "sizes that are not there": lambda w: json.dumps(
        {**w, "training": {**w["training"], "batch_size": 2**62}}
    ),
    "columns as rows": lambda w: json.dumps(
        {**w, "weights": {**w["weights"], "wpe": [[x for row in w["weights"]["wpe"] for x in row]]}}
    ),
    "nothing in millions of lists": lambda w: "{" + "[]," * (5 << 20),
}


@pytest.mark.parametrize("kind", HOSTILE_JSON)
def test_hostile_json_is_one_line_and_takes_no_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.json"
    FORMATS["json"].write(str(path), make_tiny())
    whole = json.loads(path.read_text())
    del whole["state_sha256"]  # not its digest alone is to notice
    path.write_text(HOSTILE_JSON[kind](whole))
    done = run("import", str(path), "-o", str(tmp_path / "out"), preexec_fn=small_memory)
    line = only_error(done)
    assert line.startswith(f"error: {path} ")
    assert len(line) < 600
    assert not (tmp_path / "out").exists()


def small_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (500 << 20, 500 << 20))


@pytest.mark.parametrize(
    "name",
    ["json", soak("npz"), pytest.param("safetensors", marks=[pytest.mark.soak, needs_safetensors])],
)
def test_nothing_but_a_regular_file_is_written_over(tmp_path: Path, name: str) -> None:
    good, pipe = tmp_path / "good.msgpack", tmp_path / "pipe"
    checkpoint_format.save(good, make_tiny())
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    export = ("export", str(good), "--format", name, "--force", "-o")
    assert "-o is empty" in only_error(run(*export, "", cwd=tmp_path))
    for place in ("pipe", "link"):
        only_error(run(*export, place, cwd=tmp_path))
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    if name == "json":
        for place in (".", "..", "/", "pipe"):
            assert "is no regular file" in only_error(run(*export, place, cwd=tmp_path))
        FORMATS[name].write(str(tmp_path / "m"), make_tiny())
        for place in (".", "pipe"):
            done = run("import", "m", "--force", "-o", place, cwd=tmp_path)
            assert "is no regular file" in only_error(done)
        assert "-o is empty" in only_error(run("import", "m", "-o", "", cwd=tmp_path))


def test_strange_settings_by_the_hundred(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    FORMATS["json"].write(str(path), make_tiny())
    text, rng = path.read_text(), random.Random(5)
    plain = [x for x in STRANGE if is_json(x)]
    assert len(plain) > 15
    refused = 0
    for _ in range(250):
        whole = with_strange_value(json.loads(text), rng, plain)
        path.write_text(json.dumps(whole))
        refused += is_refused("json", str(path))
    assert refused > 120


def is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
