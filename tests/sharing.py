"""What the processes of one test run share: a folder, and a saved run; and all runs: compiled code.

pytest-xdist gives every process a folder in that of the run. What lies in the run's own folder is
everybody's; it is made by whoever needs it first, while the others wait at a lock. Two test runs at
once have two folders. Compiled code lies in the clone, in a folder named after a digest of the
sources, and processes take turns at making it (microgpt/numerics/jit.py); make clean removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMPILED = Path(__file__).resolve().parent.parent / ".compiled"
KEPT_SOURCES = 3  # compiled code of so many versions of the sources


def is_one_of_many() -> bool:
    """Whether this is a process of pytest-xdist."""
    return "PYTEST_XDIST_WORKER" in os.environ


def folder_of_the_run(own: Path) -> Path:
    """The folder of the whole test run, given that of this process."""
    return own.parent if is_one_of_many() else own


def share_compiled_code() -> None:
    """Let the engine in this process, and all that it starts, keep compiled code in ``COMPILED``.

    To be called before the engine is imported, which looks for the folder once.
    """
    try:
        COMPILED.mkdir(exist_ok=True)
    except OSError:
        return  # a clone that cannot be written to: the user's cache serves
    os.environ["MICROGPT_COMPILED_DIR"] = str(COMPILED)
    if not is_one_of_many():
        newest = sorted(COMPILED.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
        for folder in newest[KEPT_SOURCES:]:
            shutil.rmtree(folder, ignore_errors=True)


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
