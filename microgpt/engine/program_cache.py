"""Programs kept on disk: to record a large model takes seconds, to read its program does not.

They lie beside the compiled code, in a folder named after the sources of the engine, and are named
after all else that decides them. A digest finds damaged files, which are as good as none. No more
is asked of a file: whoever may write there may change the compiled code, too.
"""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from microgpt import model
from microgpt.checkpoint.container import CheckpointError
from microgpt.engine.fuse import fuse
from microgpt.engine.program import Program, compile_tape
from microgpt.engine.tracer import Tracer, record
from microgpt.engine.weight_tables import WeightTables
from microgpt.model import GPTConfig, parameter_shapes, position_losses
from microgpt.numerics import jit
from microgpt.parameters import num_params
from microgpt.support import stages
from microgpt.support.atomic import write_atomically

#: Parameters times positions below which recording is quick: such programs are not kept.
LEAST = 20_000
#: Programs that stay; the oldest beyond them go.
MOST = 50
PREFIX = "program-"
DIGEST = 32  # bytes


def recorded(config: GPTConfig, results: Callable[..., list[Tracer]] = position_losses) -> Program:
    """The program of the GPT. ``results``: see ``tracer.record``.

    Processes that start at once take turns: the first records, the others read.
    """
    directory = jit.cache_directory()
    if directory is None or num_params(parameter_shapes(config)) * config.block_size < LEAST:
        return _record(config, results)
    path = directory / f"{PREFIX}{_key(config, results)}"
    program = _read(path)
    if program is None:
        with jit.turn("recording"):
            program = _read(path)
            if program is None:
                stages.stage("recording what the model computes (once for this size)")
                program = _record(config, results)
                _write(path, program)
    return program


def _record(config: GPTConfig, results: Callable[..., list[Tracer]]) -> Program:
    return compile_tape(fuse(record(config, results=results)))


def _key(config: GPTConfig, results: Callable[..., list[Tracer]]) -> str:
    """Digest of what decides a program beside the engine's sources and the C library."""
    digest = hashlib.sha256(Path(model.__file__).read_bytes())
    digest.update(repr((config, results.__qualname__, sys.version, np.__version__)).encode())
    return digest.hexdigest()[:32]


def _read(path: Path) -> Program | None:
    """The program in a file; None if there is none."""
    try:
        data = path.read_bytes()
        body = data[DIGEST:]
        if sealed(body) != data:
            return None
        plain = {name: _unpacked(entry) for name, entry in msgpack.unpackb(body).items()}
        tables = {name: plain.pop(name) for name in WeightTables.__annotations__}
        return Program(weights=WeightTables(**tables), **plain)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, msgpack.UnpackException):
        return None


def _write(path: Path, program: Program) -> None:
    """Keep a program, if there is room for it, in place of the oldest."""
    plain = {**vars(program), **vars(program.weights)}
    del plain["weights"]
    body = msgpack.packb({name: _packed(entry) for name, entry in plain.items()})
    with contextlib.suppress(CheckpointError, OSError):
        write_atomically(path, sealed(body))
        kept = sorted(path.parent.glob(f"{PREFIX}*"), key=lambda each: each.stat().st_mtime)
        for old in kept[:-MOST]:
            old.unlink(missing_ok=True)


def sealed(body: bytes) -> bytes:
    """The bytes of a file: a digest and what it is of."""
    return hashlib.sha256(body).digest() + body


def _packed(entry: Any) -> Any:
    """An array as its type, shape and bytes; a number as itself."""
    if isinstance(entry, int):
        return entry
    return [entry.dtype.str, list(entry.shape), entry.tobytes()]


def _unpacked(entry: Any) -> Any:
    if isinstance(entry, int):
        return entry
    kind, shape, data = entry
    return np.frombuffer(data, kind).reshape(shape).copy()  # of a buffer that may be written to
