"""The parts of a checkpoint file, put together as they come. Pure: no sockets, no clock.

Whoever sends them may be anybody: nothing is believed but what fits.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from microgpt.checkpoint.format import MAX_BYTES
from microgpt.protocol.messages import MAX_PART, CheckpointPart, FetchCheckpoint


class BrokenReplyError(Exception):
    """The other side does not keep to the protocol; the message says how."""


class LaterError(Exception):
    """There is nothing to be had now; beginning anew in a while may help. The message says why."""


@dataclass
class ChunkAssembler:
    """One file being fetched: that of step ``wanted``, or the newest if its step is not ``known``.

    ``step`` and ``total`` (bytes) are as the first part has them, None before.
    """

    wanted: int | None = None
    known: int | None = None
    step: int | None = None
    total: int | None = None
    _parts: list[bytes] = field(default_factory=list)
    _size: int = 0

    @property
    def complete(self) -> bool:
        """Whether all bytes are there."""
        return self._size == self.total

    @property
    def data(self) -> bytes:
        """What is there."""
        return b"".join(self._parts)

    def question(self, number: int) -> FetchCheckpoint:
        """What to ask for next. The step is fixed with the first part."""
        step = self.wanted if self.step is None else self.step
        return FetchCheckpoint("", "", number, step, self._size, self.known)

    def take(self, part: CheckpointPart) -> None:
        """Add the reply to ``question``. Raises LaterError or BrokenReplyError."""
        if self.step is None:
            self._begin(part)
        elif part.total != self.total:
            raise LaterError(f"the checkpoint of step {self.step} has been written anew")
        if (part.step, part.offset) != (self.step, self._size):
            raise BrokenReplyError("it sends what it was not asked for")
        if len(part.data) != min(MAX_PART, part.total - part.offset):
            raise BrokenReplyError("it sends parts of a wrong size")
        self._parts.append(part.data)
        self._size += len(part.data)

    def _begin(self, part: CheckpointPart) -> None:
        if not 0 < part.total <= MAX_BYTES:
            raise BrokenReplyError(f"no checkpoint has {part.total} bytes")
        if self.wanted not in (None, part.step):
            raise BrokenReplyError("it sends another step than it was asked for")
        self.step, self.total = part.step, part.total
