"""The memory that a worker shares with the launcher, which sets in it how the worker fares.

See ``worker/levers.py``. It outlives the worker's process: the next one of the same name finds the
same slowness and the same cut link.
"""

from __future__ import annotations

import os

from worker.levers import SIZE, pack


class SharedLevers:
    """Those of one worker. ``descriptor`` is for its process. Close it after the run."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        self.slowness, self.cut = 1.0, False
        os.ftruncate(self.descriptor, SIZE)
        self._write()

    def set_slowness(self, factor: float) -> None:
        """From now on what it computes takes so many times as long."""
        self.slowness = factor
        self._write()

    def set_cut(self, cut: bool) -> None:
        """From now on it has no connection, or may have one again."""
        self.cut = cut
        self._write()

    def close(self) -> None:
        """Give the memory back."""
        os.close(self.descriptor)

    def _write(self) -> None:
        os.pwrite(self.descriptor, pack(self.slowness, self.cut), 0)
