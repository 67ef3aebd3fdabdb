"""Where the time of a step goes: which phase of its work a process was in, and for how long.

A process that is measured calls ``lap`` wherever one phase ends, so that its time is divided
without a gap. One that is not has ``NO_CLOCK``, whose methods do nothing.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

#: What the step of a process is divided into; see docs/performance.md.
COORDINATOR = ("waiting", "receive", "decode", "tree sum", "update", "encode", "send", "rest")
WORKER = ("idle", "receive", "decode", "engine", "encode", "send", "rest")
VERSION = 1  # of the file
MOST_STEPS = 100_000  # of which the times are kept: the last ones


class StepTimes(NamedTuple):
    """``seconds``: of each phase within the step ``step``.

    ``processor``: seconds for which the process had a processor meanwhile, with all its threads.
    """

    step: int
    seconds: dict[str, float]
    processor: float


class NoClock:
    """Takes no time, in either meaning."""

    def lap(self, phase: str) -> None:
        """Nothing."""

    def enter(self, step: int) -> None:
        """Nothing."""

    def write(self, path: Path) -> None:
        """Nothing: there is no file."""


class StepClock(NoClock):
    """Divides the time from its making on into phases and steps. For one thread.

    ``phases``: their names, which all stand in the file. ``clock`` gives seconds, and
    ``processor`` those for which the process had a processor.
    """

    def __init__(
        self,
        phases: Sequence[str],
        clock: Callable[[], float] = time.perf_counter,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        self._phases, self._clock, self._processor = tuple(phases), clock, processor
        self._seconds = dict.fromkeys(self._phases, 0.0)
        self._steps: deque[tuple[int, tuple[float, ...], float]] = deque(maxlen=MOST_STEPS)
        self._step: int | None = None
        self._used = 0.0  # of the processor, when the step began
        self._last = clock()

    def lap(self, phase: str) -> None:
        """The time since the last call was spent on ``phase``. Raises KeyError if it is none."""
        now = self._clock()
        self._seconds[phase] += now - self._last
        self._last = now

    def enter(self, step: int) -> None:
        """What is spent from now on belongs to ``step``, as before if it is the same.

        What was before the first step is dropped, and what is in the last one when the run ends.
        """
        if step == self._step:
            return
        used = self._processor()
        if self._step is not None:
            self._steps.append((self._step, tuple(self._seconds.values()), used - self._used))
        self._step, self._used = step, used
        self._seconds = dict.fromkeys(self._phases, 0.0)

    def write(self, path: Path) -> None:
        """Write the times of all steps as JSON; ``read`` reads them. Raises OSError.

        Folders that are missing on the way are made.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        plain = {"version": VERSION, "phases": self._phases, "steps": list(self._steps)}
        path.write_text(json.dumps(plain) + "\n")


NO_CLOCK = NoClock()


def read(path: Path) -> list[StepTimes]:
    """What ``StepClock.write`` has written, in its order.

    Raises OSError, and ValueError for a file of another kind or version.
    """
    plain = json.loads(path.read_text())
    if not isinstance(plain, dict) or plain.get("version") != VERSION:
        raise ValueError(f"{path} does not hold times of steps in version {VERSION}")
    phases = plain["phases"]
    return [
        StepTimes(number, dict(zip(phases, seconds, strict=True)), processor)
        for number, seconds, processor in plain["steps"]
    ]
