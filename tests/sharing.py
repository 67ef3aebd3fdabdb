"""What the processes of one test run share: a folder, compiled code, and a saved run.

pytest-xdist gives every process a folder in that of the run. What lies in the run's own folder is
everybody's; it is made by whoever needs it first, while the others wait at a lock. Two test runs at
once have two folders, and so share nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def is_one_of_many() -> bool:
    """Whether this is a process of pytest-xdist."""
    return "PYTEST_XDIST_WORKER" in os.environ


def folder_of_the_run(own: Path) -> Path:
    """The folder of the whole test run, given that of this process."""
    return own.parent if is_one_of_many() else own


def share_compiled_code(config: pytest.Config) -> None:
    """Let the engine in this process keep its compiled code where all processes of the run do.

    To be called before numba is imported, which reads the variable then. A process alone keeps it
    in the user's cache, as the programs do.
    """
    if is_one_of_many() and config.option.basetemp:
        folder = folder_of_the_run(Path(config.option.basetemp)) / "compiled"
        os.environ["NUMBA_CACHE_DIR"] = str(folder)


@contextmanager
def once(folder: Path, name: str) -> Iterator[bool]:
    """Whether this process is to make something in the folder: no other of this run has done so.

    Of several processes one is let in at a time. Who fails leaves the attempt to the next.
    """
    done = folder / f"{name}-is-made"
    with open(folder / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()
