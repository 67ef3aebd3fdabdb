"""How long shards take, when one takes too long, and what is said about that."""

from __future__ import annotations

import math
import statistics
from collections import deque

from coordinator.core.action_buffer import ActionBuffer
from coordinator.core.membership import Worker
from coordinator.core.round_ledger import RoundId
from microgpt.optim.reduction import Shard

SLOW_FACTOR = 4.0  # a shard is a straggler after this many times the usual time of one
SLOW_LEAST = 0.1  # seconds below which nobody is called a straggler
FIRST_PATIENCE = 1.0  # seconds, as long as no time of a shard is known
#: Seconds, times its slowest answer and times our patience after which a worker that still owes a
#: shard is not waited for, where all others have given their opinion.
STALLED_SECONDS, STALLED_FACTOR = 30.0, 4.0
TELL_SECONDS = 10.0  # between two lines about one slow worker
FORGOTTEN = 600.0  # seconds after which a slow worker is news again
REMEMBERED_TIMES = 64


class Times:
    """How long documents took, seconds each: in the engine, and from order to answer."""

    def __init__(self) -> None:
        self.engine: deque[float] = deque(maxlen=REMEMBERED_TIMES)
        self.round_trips: deque[float] = deque(maxlen=REMEMBERED_TIMES)


class Stragglers:
    """Judges workers by ``times``: those of training (True), and of evaluation (False)."""

    def __init__(self, out: ActionBuffer) -> None:
        self.times = {True: Times(), False: Times()}
        self._out = out
        self._told: dict[str, tuple[float, int]] = {}  # by slow worker: when, and how often since

    def patience(self, round: RoundId, shard: Shard) -> float:
        """Seconds after which a shard is taking too long."""
        times = self.times[round.training].round_trips
        if not times:
            return FIRST_PATIENCE
        return max(SLOW_LEAST, SLOW_FACTOR * statistics.median(times) * shard.count)

    def stalled(self, worker: Worker, now: float) -> bool:
        """Whether a worker owes something for so long that nobody waits for it any more."""
        passed = now - worker.since
        if passed <= max(STALLED_SECONDS, STALLED_FACTOR * worker.longest):
            return False  # most of the time
        patience = max(
            (self.patience(*in_flight) for in_flight in worker.in_flight), default=math.inf
        )
        return passed > STALLED_FACTOR * patience

    def tell(self, helper: str, slow: str, now: float) -> None:
        """Of a shard that is computed by a second worker.

        The first time at once, then how often it was in the time since the last line.
        """
        told_at, untold = self._told.get(slow, (-math.inf, 0))
        if now - told_at < TELL_SECONDS:
            self._told[slow] = told_at, untold + 1
            return
        others = f" (and {untold} others in the meantime)" if untold else ""
        text = f"{helper} also computes a shard that {slow} is slow with{others}"
        self._out.note("backup", text, worker=helper, slow=slow, untold=untold)
        recent = {name: told for name, told in self._told.items() if now - told[0] < FORGOTTEN}
        self._told = {**recent, slow: (now, 0)}
