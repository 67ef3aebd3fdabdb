"""What workers did with their time, from the pulses in a run's record."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from coordinator.core.events import Recorded, WorkerPulse
from lab.event_reader import read_events


class Shares(NamedTuple):
    """Of the workers' time, over all of them; the three are 1 together.

    ``computing``: in their engines, ``under_way``: with work that was on the wire, in queues or
    waited for a processor, ``idle``: without any work.
    """

    computing: float
    under_way: float
    idle: float


def shares(recorded: Iterable[Recorded]) -> Shares | None:
    """From the first pulse of each worker to its last one; None if none has two."""
    ends: dict[int, tuple[tuple[float, WorkerPulse], tuple[float, WorkerPulse]]] = {}
    for each in recorded:
        if isinstance(each.event, WorkerPulse):
            now = each.time, each.event
            ends[each.event.worker] = ends.get(each.event.worker, (now, now))[0], now
    seconds = sum(last - first for (first, _), (last, _) in ends.values())
    if not seconds > 0.0:
        return None
    computing = sum(b.computing - a.computing for (_, a), (_, b) in ends.values()) / seconds
    waited = sum(b.waited - a.waited for (_, a), (_, b) in ends.values()) / seconds
    computing, waited = min(computing, 1.0), min(max(waited, computing), 1.0)
    return Shares(computing, waited - computing, 1.0 - waited)


def read_shares(run_dir: Path) -> Shares | None:
    """Of a run that has ended."""
    return shares(read_events(run_dir))
