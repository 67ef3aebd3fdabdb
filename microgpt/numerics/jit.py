"""Compiling kernels, once per machine: where compiled code is kept and who compiles it.

Compiled code goes to ``MICROGPT_COMPILED_DIR``, ``MICROGPT_CACHE_DIR`` or the user's cache
directory, in a folder named after the sources of every kernel. Where nothing can be written, code
is compiled for this process alone. Processes that start at once on a cold cache take turns: the
first compiles, the others load what it compiled. What kernels may be written in: ``language``.

This module must not import ``microgpt.engine``: the coordinator uses it for ``adam_compiled``.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from llvmlite import ir

from microgpt.numerics import machine_code
from microgpt.numerics.language import Module
from microgpt.numerics.machine_code import Loaded
from microgpt.numerics.values import DOUBLE, INT32, INT64, Array, Inner
from microgpt.support import stages
from microgpt.support.cache_directory import cache_folder

try:
    import fcntl
except ImportError:  # not a POSIX system: processes may compile the same code twice, no more
    fcntl = None  # type: ignore[assignment]

Function = TypeVar("Function", bound=Callable[..., Any])


def cache_directory() -> Path | None:
    """An existing directory for compiled code in which we may do all; None if there is none.

    Where another user has been at work it is one of our own beside.
    """
    return _place()[0]


@cache
def _place() -> tuple[Path | None, str]:
    """The directory, and a line for people if it is not the one that they expect."""
    chosen = os.environ.get("MICROGPT_COMPILED_DIR")
    folder = Path(chosen) if chosen else cache_folder()
    if folder is None:
        return None, "there is no home directory to keep compiled code in: it is compiled each time"
    shared = folder / f"kernels-{_sources_digest()}"
    problem = _problem(shared)
    if problem is None:
        return shared, ""
    own = shared.with_name(f"{shared.name}-user-{os.getuid()}")
    if _problem(own) is None:
        return own, f"{problem}: compiled code is kept in {own} instead"
    return None, f"{problem}: code is compiled each time"


@cache
def _tell() -> None:
    """Say once where compiled code is, if that is not where people expect it."""
    if line := _place()[1]:
        print(f"warning: {line}", file=sys.stderr, flush=True)


def _problem(directory: Path) -> str | None:
    """Why a directory, which is made if need be, cannot be used for compiled code; None if it can.

    Another user's files in it can be neither written nor locked.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
        for entry in (directory, *directory.iterdir()):
            wanted = os.R_OK | os.W_OK | (os.X_OK if entry.is_dir() else 0)
            if (entry.is_dir() or entry.suffix == ".lock") and not os.access(entry, wanted):
                return f"{entry} is of another user"
    except OSError as error:
        return f"cannot write to {directory} ({error.strerror})"
    return None


def _sources_digest() -> str:
    digest = hashlib.sha256(repr(platform.libc_ver()).encode())
    for path in kernel_sources():
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def kernel_sources() -> list[Path]:
    """The files of this package that kernels are made of: a change in one makes all of them anew.

    Those of the engine all count, because they agree on what kernels are given.
    """

    def counts(path: Path) -> bool:
        source = path.read_bytes()
        rooms = ("engine", "numerics")
        return path.parent.name in rooms or b"jit" in source

    return sorted(filter(counts, Path(__file__).resolve().parents[1].rglob("*.py")))


def inner(function: Function) -> Function:
    """Let a function be called by other kernels."""
    return cast(Function, Inner(function))


def entry(function: Function) -> Function:
    """Compile a function that Python calls, and keep its machine code in the cache directory."""
    return cast(Function, Entry(function))


class Entry:
    """A compiled function with one set of argument types, compiled or loaded by its first call.

    Arguments are whole numbers, floats and contiguous arrays of float64, int32 or int64; the result
    is a number or None. Other threads run meanwhile. ``title`` says what it is for; ``loaded``
    whether its machine code was found on the disk.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.title, self.loaded = "a kernel", False
        self._kinds: tuple[type, ...] = ()
        self._types: tuple[str, ...] | None = None
        self._native: Callable[..., Any] = self._missing
        self._code: Loaded | None = None  # machine code lives as long as this

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function. Raises TypeError for arguments of other types than before."""
        if tuple(map(type, args)) == self._kinds:  # plain numbers, as they are passed
            return self._native(*args)
        types = tuple(map(_type_of, args))
        if self._types is None:
            self._native = self._prepared(types)
            self._types = types
            if np.ndarray not in map(type, args):
                self._kinds = tuple(map(type, args))
        if types != self._types:
            raise TypeError(f"{self.function.__name__} is compiled for {self._types}, not {types}")
        return self._native(*chain.from_iterable(map(_passed, args)))

    def _missing(self, *args: Any) -> Any:
        raise RuntimeError("not compiled")

    def _prepared(self, types: tuple[str, ...]) -> Callable[..., Any]:
        _tell()
        with turn("compiling"):
            path = self._path(types)
            code = _read(path)
            self.loaded = code is not None
            if code is None:
                stages.stage(f"compiling {self.title} (once on this machine)")
                code = _compiled(self.function, types)
                _write(path, code)
        self._code = Loaded(code[1:], self.function.__name__)
        words = [word for name in types for word in TYPES[name][0]]
        return ctypes.CFUNCTYPE(RESULTS[code[:1]], *words)(self._code.address)

    def _path(self, types: tuple[str, ...]) -> Path | None:
        directory = cache_directory()
        digest = hashlib.sha256(repr((types, machine_code.identity())).encode()).hexdigest()[:16]
        return directory and directory / f"{self._name()}-{digest}{SUFFIX}"

    def _name(self) -> str:
        return f"{self.function.__module__}.{self.function.__name__}"

    def must_compile(self) -> bool:
        """Whether the first call will compile, which takes seconds, rather than load."""
        directory = cache_directory()
        kept = directory is not None and any(directory.glob(f"{self._name()}-*{SUFFIX}"))
        return self._types is None and not kept


SUFFIX = ".code"
DIGEST = 32  # bytes

#: What arguments are to C, and to LLVM.
TYPES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "int": ((ctypes.c_int64,), INT64),
    "float": ((ctypes.c_double,), DOUBLE),
    "float64[]": ((ctypes.c_int64, ctypes.c_int64), DOUBLE.as_pointer()),
    "int32[]": ((ctypes.c_int64, ctypes.c_int64), INT32.as_pointer()),
    "int64[]": ((ctypes.c_int64, ctypes.c_int64), INT64.as_pointer()),
}
ARRAYS = {np.dtype(name.removesuffix("[]")): name for name in TYPES if name.endswith("[]")}
#: The first byte of kept code tells what is returned.
RESULTS: dict[bytes, Any] = {b"i": ctypes.c_int64, b"d": ctypes.c_double, b"v": None}


def _type_of(argument: Any) -> str:
    if isinstance(argument, np.ndarray):
        if not argument.flags.carray:
            raise TypeError("kernels take contiguous arrays that may be written to")
        return ARRAYS.get(argument.dtype) or f"{argument.dtype}[]"  # to spell it takes 5 us
    return type(argument).__name__


def _passed(argument: Any) -> tuple[Any, ...]:
    if isinstance(argument, np.ndarray):
        return address(argument), argument.size
    return (argument,)


def address(array: np.ndarray[Any, Any]) -> int:
    """Where the numbers of an array stand: as long as somebody keeps it."""
    return ctypes.addressof(ctypes.c_char.from_buffer(array.data)) if array.size else 0


def _compiled(function: Callable[..., Any], types: tuple[str, ...]) -> bytes:
    """A letter for the result's type and the machine code. Raises TypeError for other types."""
    unknown = [name for name in types if name not in TYPES]
    if unknown:
        raise TypeError(f"{function.__name__} cannot be given {', '.join(unknown)}")
    args: list[Any] = []
    for name in types:
        size, kind = ir.Constant(INT64, ir.Undefined), ir.Constant(TYPES[name][1], ir.Undefined)
        args.append(Array(kind, size) if name.endswith("[]") else kind)
    module = Module()
    result = module.translated(function, args).ftype.return_type
    letter = b"v" if isinstance(result, ir.VoidType) else b"d" if result == DOUBLE else b"i"
    return letter + machine_code.made(str(module.ir))


def _read(path: Path | None) -> bytes | None:
    """Kept machine code; None if there is none, or if it is damaged."""
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    body = data[DIGEST:]
    return body if body and hashlib.sha256(body).digest() == data[:DIGEST] else None


def _write(path: Path | None, body: bytes) -> None:
    """Keep machine code, if there is room for it. A digest tells whether it is whole."""
    if path is None:
        return
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        partial.write_bytes(hashlib.sha256(body).digest() + body)
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def turn(what: str) -> Iterator[None]:
    """Hold this machine's right to do something, such as compiling.

    Another process that wants the same waits here and then finds in the cache what it would make.
    """
    directory = cache_directory()
    if directory is None or fcntl is None:
        yield
        return
    with open(directory / f"{what}.lock", "a") as lock:
        # Released when the file is closed, also if we are killed.
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stages.waiting(f"waiting for another process that is {what}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
