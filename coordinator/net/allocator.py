"""The C library's memory: what a flood has taken is given back to the system.

libzmq allocates and frees in two threads. What it has freed stays with the process, where several
arenas and pieces still in use between the others keep it from shrinking by itself.
"""

from __future__ import annotations

import ctypes

M_ARENA_MAX = -8  # the GNU C library's number
ARENAS = 1

_LIBC = ctypes.CDLL(None)


def few_arenas() -> None:
    """Let threads that are started from now on share the memory of the others."""
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return free memory to the system. Takes milliseconds after a flood."""
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(ctypes.c_size_t(0))
