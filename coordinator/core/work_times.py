"""What time is spent on: by the run (working, or waiting for workers), and by single shards."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

REMEMBERED_TIMES = 64


class ShardTimes:
    """How long documents took lately, seconds each: in the engine, and from order to answer."""

    def __init__(self) -> None:
        self.engine: deque[float] = deque(maxlen=REMEMBERED_TIMES)
        self.round_trips: deque[float] = deque(maxlen=REMEMBERED_TIMES)


@dataclass
class WorkTimes:
    """Where the time of a run goes, in seconds.

    ``until_ready``: before the first worker was ready for work; ``worked``: with a worker ready;
    ``alone``: after the first, without any.
    """

    until_ready: float = 0.0
    worked: float = 0.0
    alone: float = 0.0

    def add(self, seconds: float, ready: bool) -> None:
        """So much time has passed, with a worker ready or not."""
        if ready:
            self.worked += seconds
        elif self.worked:
            self.alone += seconds
        else:
            self.until_ready += seconds
