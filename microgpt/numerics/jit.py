"""Compiling with numba, once per machine: where compiled code is kept and who compiles it.

Compiled code goes to ``NUMBA_CACHE_DIR``, ``MICROGPT_CACHE_DIR`` or the user's cache directory, in
a folder named after the sources of every kernel, because numba itself notices changes of one file
only. Where nothing can be written, code is compiled for this process alone. Processes that start
at once on a cold cache take turns: the first compiles, the others load what it compiled.

This module must not import ``microgpt.engine``: the coordinator uses it for ``adam_compiled``.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import event

from microgpt.support import stages
from microgpt.support.cache_directory import cache_folder

try:
    import fcntl
except ImportError:  # not a POSIX system: processes may compile the same code twice, no more
    fcntl = None  # type: ignore[assignment]

# numba changes its configuration at run time; its stubs cannot know.
_settings: Any = numba.config

Function = TypeVar("Function", bound=Callable[..., Any])

#: No fastmath and no contraction, ever: they change bits. "numpy": a division by zero gives an
#: infinity, which the engine notices, instead of a Python exception inside a kernel.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}


def cache_directory() -> Path | None:
    """An existing directory for compiled code in which we may do all; None if there is none.

    Where another user has been at work it is one of our own beside.
    """
    return _place()[0]


@cache
def _place() -> tuple[Path | None, str]:
    """The directory, and a line for people if it is not the one that they expect."""
    folder = Path(_settings.CACHE_DIR) if _settings.CACHE_DIR else cache_folder()
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

    Folders in it are of numba, locks of ours; another user's can be neither written nor locked.
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
        return path.parent.name == "engine" or b"numba" in source or b"jit" in source

    return sorted(filter(counts, Path(__file__).resolve().parents[1].rglob("*.py")))


#: The functions that are compiled here, as against numba's own.
_kernels: set[Callable[..., Any]] = set()


def inner(function: Function) -> Function:
    """Compile a function that only other compiled functions call."""
    _kernels.add(function)
    wrappers: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return cast(Function, numba.njit(**OPTIONS, **wrappers)(function))


def entry(function: Function) -> Function:
    """Compile a function that Python calls, and keep its machine code in the cache directory."""
    _kernels.add(function)
    return cast(Function, Entry(function))


class Entry:
    """A compiled function with one set of argument types, compiled or loaded by its first call.

    ``title`` says what it is for, and ``kernels`` how many functions are compiled for it, where
    somebody has counted them.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.compiled = self._decorated(cache_directory())
        self.title, self.kernels = "a kernel", 0
        self._ready = False

    def _decorated(self, directory: Path | None) -> Any:
        before = _settings.CACHE_DIR
        try:
            if directory is not None:
                _settings.CACHE_DIR = str(directory)  # read when numba decorates, and only then
            return numba.njit(cache=directory is not None, **OPTIONS)(self.function)
        finally:
            _settings.CACHE_DIR = before

    def __call__(self, *args: Any) -> Any:
        """Call the compiled function."""
        if self._ready:
            return self.compiled(*args)
        _tell()
        with turn("compiling"), self._counted():
            try:
                result = self.compiled(*args)
            except Exception:  # the cache is damaged or full; what is wrong for good comes again
                for path in self._cached():
                    path.unlink(missing_ok=True)
                self.compiled = self._decorated(None)
                result = self.compiled(*args)
        self._ready = True
        return result

    def _counted(self) -> AbstractContextManager[Any]:
        """Say how far we are, if we are to compile and somebody listens."""
        if not stages.listened_to() or not self.must_compile():
            return nullcontext()
        stages.stage(f"compiling {self.title} (once on this machine)")
        return event.install_listener("numba:compile", _Counter(self.kernels))

    def _cached(self) -> list[Path]:
        directory = cache_directory()
        pattern = f"*.{self.function.__name__}-*.nb[ci]"
        return [] if directory is None else list(directory.rglob(pattern))

    def must_compile(self) -> bool:
        """Whether the first call will compile, which takes long, rather than load."""
        return not self._ready and not self._cached()


class _Counter(event.Listener):
    """Tells of every kernel that numba begins to compile in this process.

    One counts as often as it is compiled, which is once for each set of types of its arguments.
    """

    def __init__(self, expected: int) -> None:
        self._begun, self._expected = 0, expected

    def on_start(self, event: Any) -> None:
        function = event.data["dispatcher"].py_func
        if function in _kernels:
            self._begun += 1
            of = f" of {self._expected}" if self._begun <= self._expected else ""
            name = function.__name__.replace("_", " ")
            stages.detail(f"compiling kernel {self._begun}{of} ({name})")

    def on_end(self, event: Any) -> None:
        """Nothing: what comes after the last one is shown under its name."""


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
