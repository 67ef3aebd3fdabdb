"""Programs on disk: the same ones, recorded once; and nothing is lost when a file is."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgpt import model
from microgpt.engine import program_cache
from microgpt.engine.forward import largest_logits
from microgpt.engine.fuse import fuse
from microgpt.engine.program import Program, compile_tape
from microgpt.engine.program_cache import recorded, sealed
from microgpt.engine.tape_engine import TapeEngine
from microgpt.engine.tracer import record
from microgpt.model import GPTConfig, gpt, parameter_shapes
from microgpt.numerics import jit

CONFIG = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=4)


class Records(list[Any]):
    """Counts recordings; they are what takes long."""

    def __call__(self, config: GPTConfig, **options: Any) -> Any:
        self.append(config)
        return record(config, **options)


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    """Programs of any size are kept in ``tmp_path``."""
    records = Records()
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    monkeypatch.setattr(program_cache, "LEAST", 0)
    monkeypatch.setattr(program_cache, "record", records)
    return records


def contents(program: Program) -> dict[str, Any]:
    arrays = {**vars(program), **vars(program.weights)}
    del arrays["weights"]
    return {
        name: (x.dtype.str, x.shape, x.tobytes(), x.flags.writeable, x.flags.c_contiguous)
        if isinstance(x, np.ndarray)
        else x
        for name, x in arrays.items()
    }


def programs(directory: Path) -> list[Path]:
    return sorted(directory.glob("program-*"))


@pytest.mark.parametrize("results", [model.position_losses, largest_logits])
def test_a_kept_program_is_the_recorded_one(
    records: Records, tmp_path: Path, results: Callable[..., Any]
) -> None:
    expected = contents(compile_tape(fuse(record(CONFIG, results=results))))
    assert contents(recorded(CONFIG, results)) == expected
    assert contents(recorded(CONFIG, results)) == expected
    assert records == [CONFIG]
    assert len(programs(tmp_path)) == 1


def test_an_engine_with_a_kept_program_has_the_same_bits(records: Records) -> None:
    params = np.random.default_rng(1).normal(size=248)
    documents = [[4, 0, 1, 4], [4, 2, 4], [4, 3, 2, 1, 0, 4]]
    expected = TapeEngine(CONFIG, gpt, parameter_shapes(CONFIG)).gradients(params, documents)
    assert records == [], "a model of one's own is not kept"
    for _ in range(2):
        result = TapeEngine(CONFIG).gradients(params, documents)
        assert result.losses == expected.losses
        assert result.gradient.tobytes() == expected.gradient.tobytes()
    assert records == [CONFIG]


def test_what_decides_a_program_is_in_its_name(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(CONFIG)
    recorded(GPTConfig(vocab_size=5, n_embd=4, n_head=1, block_size=4))
    recorded(CONFIG, largest_logits)
    changed = tmp_path / "model.py"
    changed.write_bytes(Path(model.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(model, "__file__", str(changed))
    recorded(CONFIG)
    assert len(records) == len(programs(tmp_path)) == 4


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:20],
        lambda data: data[:40] + bytes([data[40] ^ 1]) + data[41:],
        lambda data: data[:-1] + bytes([data[-1] ^ 128]),
        lambda data: bytes([data[0] ^ 1]) + data[1:],
        lambda data: sealed(b"\xc1"),
        lambda data: sealed(b"\x90"),
        lambda data: sealed(b"\x80"),
        lambda data: sealed(data[32:-1]),
        lambda data: sealed(data[32:].replace(b"<i4", b"|O8")),
        lambda data: sealed(data[32:].replace(b"num_slots", b"num_slats")),
    ],
)
def test_a_damaged_file_is_recorded_anew(
    records: Records, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    expected = contents(recorded(CONFIG))
    (path,) = programs(tmp_path)
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert contents(recorded(CONFIG)) == expected
    assert len(records) == 2
    assert path.read_bytes() == whole


def test_processes_that_start_at_once_record_once(records: Records) -> None:
    """Threads here: each opens the lock by itself, as a process does."""
    expected, found = contents(recorded(CONFIG)), []
    other = GPTConfig(vocab_size=5, n_embd=4, n_head=2, block_size=3)
    begin = threading.Barrier(4)

    def start() -> None:
        begin.wait()
        found.append(contents(recorded(other)))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert records == [CONFIG, other]
    assert len(found) == 4
    assert all(each == found[0] != expected for each in found)


def test_the_oldest_programs_go(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_cache, "MOST", 2)
    for age, width in ((30, 1), (20, 2), (10, 3)):
        before = set(programs(tmp_path))
        recorded(GPTConfig(vocab_size=5, n_embd=width, n_head=1, block_size=2))
        (new,) = set(programs(tmp_path)) - before
        os.utime(new, (1e9 - age, 1e9 - age))
        assert len(programs(tmp_path)) <= 2
    recorded(GPTConfig(vocab_size=5, n_embd=3, n_head=1, block_size=2))
    assert len(records) == 3
    recorded(GPTConfig(vocab_size=5, n_embd=1, n_head=1, block_size=2))
    assert len(records) == 4


def test_small_programs_are_not_kept(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(jit, "cache_directory", lambda: tmp_path)
    recorded(CONFIG)
    assert programs(tmp_path) == []


def test_without_a_place_to_write_programs_are_recorded(
    records: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    expected = contents(recorded(CONFIG))
    assert programs(tmp_path) == []
    monkeypatch.setattr(jit, "cache_directory", lambda: None)
    assert contents(recorded(CONFIG)) == expected
    assert len(records) == 2
