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
    """``seconds``: of each phase within the step ``step``."""

    step: int
    seconds: dict[str, float]


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

    ``phases``: their names, which all stand in the file. ``clock`` gives seconds.
    """

    def __init__(
        self, phases: Sequence[str], clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._phases, self._clock = tuple(phases), clock
        self._seconds = dict.fromkeys(self._phases, 0.0)
        self._steps: deque[tuple[int, tuple[float, ...]]] = deque(maxlen=MOST_STEPS)
        self._step: int | None = None
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
        if self._step is not None:
            self._steps.append((self._step, tuple(self._seconds.values())))
        self._step = step
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
        StepTimes(number, dict(zip(phases, seconds, strict=True)))
        for number, seconds in plain["steps"]
    ]
