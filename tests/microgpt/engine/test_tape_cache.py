"""Compiled code: kept where the user may write, compiled by one process at a time, or not kept."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from microgpt.numerics import jit

PROGRAM = """
from microgpt.numerics.jit import entry

@entry
def halved(x):
    return x / 2

if __name__ == "__main__":
    must_compile = halved.must_compile()
    print(halved(3.0), int(halved.loaded), must_compile)
"""
COMPILED, LOADED = ["1.5", "0", "True"], ["1.5", "1", "False"]


def start(directory: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    script = directory / "halved.py"
    if not script.exists():  # another process may be reading it
        script.write_text(PROGRAM)
    return subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(processes: list[subprocess.Popen[str]]) -> list[list[str]]:
    outputs = [process.communicate(timeout=100) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), outputs
    return [out.split() for out, _ in outputs]


def test_a_change_of_any_kernel_makes_all_anew() -> None:
    """In the rooms of the engine, of arithmetic and of the optimizer."""
    names = {"/".join(path.parts[-2:]) for path in jit.kernel_sources()}
    assert names >= {
        "engine/kernels.py", "engine/kernels_shard.py", "engine/kernels_forward.py",
        "engine/kernels_backward.py", "engine/weight_gradients.py", "engine/forward.py",
        "numerics/jit.py", "numerics/libm.py", "numerics/simd.py", "numerics/language.py",
        "numerics/values.py", "numerics/machine_code.py", "optim/adam_compiled.py",
    }  # fmt: skip


def test_processes_on_a_cold_cache_compile_once(tmp_path: Path) -> None:
    environment = {"MICROGPT_COMPILED_DIR": str(tmp_path / "cache")}
    outputs = finish([start(tmp_path, environment) for _ in range(3)])
    assert sorted(hits for _, hits, _ in outputs) == ["0", "1", "1"]
    assert {result for result, _, _ in outputs} == {"1.5"}
    assert finish([start(tmp_path, environment)]) == [LOADED]


def test_without_a_place_to_write_it_runs(tmp_path: Path) -> None:
    """The place is a file: not even the superuser can make a directory in it."""
    (tmp_path / "file").write_text("")
    environment = {"MICROGPT_COMPILED_DIR": str(tmp_path / "file" / "cache")}
    assert finish([start(tmp_path, environment)]) == [COMPILED]
    assert (tmp_path / "file").read_text() == ""


def test_a_damaged_cache_is_replaced(tmp_path: Path) -> None:
    environment = {"MICROGPT_COMPILED_DIR": str(tmp_path / "cache")}
    assert finish([start(tmp_path, environment)]) == [COMPILED]
    (code,) = (tmp_path / "cache").rglob("*.code")
    whole = code.read_bytes()
    for damaged in (b"", whole[:-1], whole[:100] + b"?" + whole[101:]):
        code.write_bytes(damaged)
        assert finish([start(tmp_path, environment)]) == [["1.5", "0", "False"]]
        assert code.read_bytes() == whole
        assert finish([start(tmp_path, environment)]) == [LOADED]
