"""What time is spent on: by the run (working, or waiting for workers), and by single shards."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

REMEMBERED_TIMES = 64
GROUP = 16  # numbers of which one median is taken


def median(numbers: list[float]) -> float:
    """As ``statistics.median``, in a third of its time: there is a group every few answers."""
    ordered, half = sorted(numbers), len(numbers) // 2
    return ordered[half] if len(numbers) % 2 else (ordered[half - 1] + ordered[half]) / 2


class Typical:
    """``value``: the median of the last group of numbers. 0.0 before there is any."""

    __slots__ = ("_group", "_size", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._group: list[float] = []
        self._size = 1

    def add(self, number: float) -> None:
        """One more. The first groups are small, so that a value comes soon."""
        group = self._group
        group.append(number)
        if len(group) >= self._size:
            self.value = median(group)
            group.clear()
            self._size = min(2 * self._size, GROUP)


class ShardTimes:
    """How long documents took lately, seconds each: in the engine, and from order to answer.

    ``overhead``: seconds that a shard took beside its documents.
    """

    def __init__(self) -> None:
        self.engine = Typical()
        self.overhead = Typical()
        self.round_trips: deque[float] = deque(maxlen=REMEMBERED_TIMES)


@dataclass
class WorkTimes:
    """Where the time of a run goes, in seconds.

    ``until_ready``: before the first worker was ready for work; ``worked``: with a worker ready;
    ``alone``: after the first, without any; ``paused``: while no work was to be given out.
    """

    until_ready: float = 0.0
    worked: float = 0.0
    alone: float = 0.0
    paused: float = 0.0

    def add(self, seconds: float, ready: bool, *, paused: bool = False) -> None:
        """So much time has passed, with a worker ready or not, or in a pause."""
        if paused:
            self.paused += seconds
        elif ready:
            self.worked += seconds
        elif self.worked:
            self.alone += seconds
        else:
            self.until_ready += seconds
