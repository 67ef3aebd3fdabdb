"""What a ZeroMQ socket tells about its connections: opened, closed, refused.

``zmq.utils.monitor`` has the same, and loads asyncio for it, which every process would pay for.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

EVENT = struct.Struct("=Hi")


class News(NamedTuple):
    """One of ``zmq.EVENT_*``, and its number: a descriptor, or the reason of a failure."""

    event: int
    value: int


def news_of(frames: Sequence[bytes]) -> News:
    """What a message of a monitor socket says; its second frame, the address, is left out."""
    return News(*EVENT.unpack(frames[0]))
