"""How a run stands: its phase, how fast it is, how far it has come. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

from coordinator.core.events import Closing, Event, Finished, Started
from lab.page.series import Row
from lab.report.ending import WORDS

OVER = 5.0  # seconds that a rate looks back
APART = 0.1  # seconds between the rows that are remembered
OVER_STEPS = 64  # of bytes per step and of the compression ratio
PHASES = (
    "waiting", "running", "paused", "finished", "stopped", "failed", "killed", "unknown",
)  # fmt: skip
OVER_PHASES = frozenset(["finished", "stopped", "failed", "killed", "unknown"])


class Standing:
    """Follows steps and events; ``state`` is what a page is told."""

    def __init__(self) -> None:
        self.steps = 0  # that the run is to have
        self.step = 0
        self.parameters = 0
        self.compressed = False
        self.checkpoint: tuple[int, str] | None = None
        self.problem = ""  # with the record
        self.samples_remark = ""  # why there are no samples
        self.ended = ""  # killed or unknown: as the folder looks, and not the events
        self.time: float | None = None  # of the newest event
        self._phase, self._reason = "waiting", ""
        self._paused = False
        self._learning_rate: float | None = None
        self._left: float | None = None  # seconds, as long as work was given out
        self._past: deque[tuple[float, int, int]] = deque()  # time, steps, documents: of late
        self._last: deque[tuple[Row, int]] = deque(maxlen=OVER_STEPS)  # and how many shards

    def take(self, time: float, step: int, event: Event, kind: str) -> None:
        """An event, of whatever kind."""
        self.time = time
        self.step = step
        if isinstance(event, Started):
            self._phase, self._reason, self.ended, self._paused = "waiting", "", "", False
            self.steps = event.steps
            self._past.clear()
        elif isinstance(event, Closing):
            self._reason = event.reason
        elif isinstance(event, Finished):
            self._phase, self._reason = WORDS[event.outcome], event.reason
        elif kind in ("paused", "resumed"):
            self._paused = kind == "paused"

    def add(self, row: Row, shards: int, learning_rate: float | None) -> None:
        """A step is done."""
        self.step = max(self.step, row.step)
        self._learning_rate = learning_rate
        self._last.append((row, shards))
        if row.time is None:
            return
        if not self._past or row.time - self._past[-1][0] >= APART:
            self._past.append((row.time, row.step, row.documents))
        while len(self._past) > 2 and row.time - self._past[0][0] > OVER:
            self._past.popleft()

    def phase(self, ready: int) -> str:
        """What the run is doing, with so many workers that can be given work."""
        if self._phase in WORDS.values():
            return self._phase
        if self.ended:
            return self.ended
        if self._paused:
            return "paused"
        return "running" if ready else "waiting"

    def state(self, now: float, ready: int) -> dict[str, Any]:
        """The message. ``now`` is the time in seconds since 1970."""
        phase = self.phase(ready)
        documents, steps = self._rates(now, phase in OVER_PHASES)
        left = max(self.steps - self.step, 0)
        if phase != "paused":
            self._left = left / steps if steps and phase == "running" else None
        sent, received, ratio = self._bytes()
        return {
            "phase": phase,
            "reason": self._reason,
            "step": self.step,
            "steps": self.steps,
            "documents_per_second": documents,
            "steps_per_second": steps,
            "seconds_left": self._left,
            "checkpoint": self.checkpoint[0] if self.checkpoint else None,
            "state_sha256": self.checkpoint[1] if self.checkpoint else None,
            "time": self.time,
            "bytes_sent_per_step": sent,
            "bytes_received_per_step": received,
            "compression_ratio": ratio,
            "learning_rate": self._learning_rate,
            "problem": self.problem,
            "samples_remark": self.samples_remark,
        }

    def _rates(self, now: float, over: bool) -> tuple[float | None, float | None]:
        """Documents and steps per second: of the last seconds, and of all work in the end."""
        last = self._last[-1][0] if self._last else None
        if last is None:
            return None, None
        if over or len(self._past) < 2:
            took = last.seconds
            return (last.documents / took, last.step / took) if took > 0 else (None, None)
        (began, first_step, first_document), (ended, step, document) = self._past[0], self._past[-1]
        usual = (ended - began) / max(step - first_step, 1)  # of a step
        late = now - ended > max(1.0, 2 * usual)
        passed = max((now if late else ended) - began, 1e-9)
        return (document - first_document) / passed, (step - first_step) / passed

    def _bytes(self) -> tuple[float | None, float | None, float | None]:
        """Bytes per step to and from the workers, and how much smaller results have become."""
        if len(self._last) < 2:
            return None, None, None
        first, last = self._last[0][0], self._last[-1][0]
        steps = last.step - first.step
        received = last.received - first.received
        shards = sum(number for _, number in self._last) - self._last[0][1]
        ratio = None
        if self.compressed and self.parameters and received > 0:
            ratio = 8 * self.parameters * shards / received
        return (last.sent - first.sent) / steps, received / steps, ratio
