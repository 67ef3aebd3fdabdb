"""Pulses of workers: what each has done so far, told now and then where rounds are recorded.

Answers are counted as they come, by addition alone. What has gone over a worker's connection is
asked of whoever owns it, when a pulse is due.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.events import WorkerPulse
from coordinator.core.inputs import Peer
from coordinator.core.membership import Worker
from coordinator.core.tally import Traffic

PULSE_SECONDS = 0.5  # from one pulse of a worker to the next
MOST_A_SECOND = 32  # of all workers: of more than 16 each has fewer


def no_traffic(peer: Peer) -> Traffic | None:
    """Nobody counts it."""
    return None


class Pulses:
    """Tells the pulses of workers, if rounds are recorded (``wanted``)."""

    def __init__(self, out: ActionBuffer, traffic: Callable[[Peer], Traffic | None]) -> None:
        self.wanted = out.rounds
        self._out, self._traffic = out, traffic
        self._due = 0.0

    def tick(self, workers: Collection[Worker], now: float) -> None:
        """Time has passed: tell of all these workers, if it is time to."""
        if self.wanted and now >= self._due:
            self._due = now + max(PULSE_SECONDS, len(workers) / MOST_A_SECOND)
            for worker in workers:
                self.tell(worker)

    def tell(self, worker: Worker) -> None:
        """How the worker does now, if that is wanted."""
        if not self.wanted:
            return
        tally, now = worker.tally, self._out.now
        if worker.in_flight:
            tally.wait(min(worker.in_flight.values()), now)
        tally.traffic = self._traffic(worker.peer) or tally.traffic
        silent = max(0.0, now - worker.heard)
        told = WorkerPulse(
            worker.number, worker.name, len(worker.in_flight), tally.documents, tally.answers,
            *tally.traffic, tally.computing, tally.waited, tally.round_trip or 0.0, silent,
        )  # fmt: skip
        tally.round_trip = None
        self._out.tell(told)
