"""What whoever has started a worker can change of its surroundings while it works.

A few bytes of memory that both share: the worker only reads them, before each job and several times
a second, which costs nothing. So a slow machine or a cut link needs no message, no thread and no
proxy, and is there again for a process that takes the place of one that was killed.
"""

from __future__ import annotations

import math
import mmap
import struct

MOST_SLOWNESS = 1000.0
_LAYOUT = struct.Struct("<dB")  # slowness; whether the link is cut
SIZE = _LAYOUT.size


class NoLevers:
    """The surroundings of a worker that nobody changes."""

    @property
    def slowness(self) -> float:
        """How many times as long as it takes a job is to take; at least 1."""
        return 1.0

    @property
    def cut(self) -> bool:
        """Whether the worker is to have no connection."""
        return False


class Levers(NoLevers):
    """Those in the memory of a descriptor. Raises OSError or ValueError if there is none."""

    def __init__(self, descriptor: int) -> None:
        self._memory = mmap.mmap(descriptor, SIZE, prot=mmap.PROT_READ)

    @property
    def slowness(self) -> float:
        """See ``NoLevers``."""
        slowness, _ = _LAYOUT.unpack_from(self._memory)
        return min(slowness, MOST_SLOWNESS) if math.isfinite(slowness) and slowness > 1.0 else 1.0

    @property
    def cut(self) -> bool:
        """See ``NoLevers``."""
        return bool(_LAYOUT.unpack_from(self._memory)[1])


def pack(slowness: float, cut: bool) -> bytes:
    """The bytes that ``Levers`` reads."""
    return _LAYOUT.pack(slowness, cut)


NO_LEVERS = NoLevers()
