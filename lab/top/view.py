"""What there is to see of a run, made of the page's messages. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from lab.top.strips import Strips

MEAN_OVER = 100  # steps of the running mean of the loss
MOST_MARKS = 8


class View:
    """Takes messages of ``lab.page.board``, the first of which is a snapshot."""

    def __init__(self) -> None:
        self.run: Mapping[str, Any] = {}
        self.state: Mapping[str, Any] = {}
        self.workers: list[dict[str, Any]] = []
        self.marks: deque[dict[str, Any]] = deque(maxlen=MOST_MARKS)
        self.losses: deque[float] = deque(maxlen=MEAN_OVER)
        self.validation: tuple[int, float] | None = None
        self.rounds_recorded = False
        self.problem = ""
        self.strips = Strips()

    def take(self, name: str, data: Any) -> None:
        """A message."""
        if name == "snapshot":
            self._begin(data)
        elif name == "state":
            self.state = data
        elif name == "workers":
            self.workers = data
        elif name == "marks":
            self.marks.extend(data)
        elif name == "steps":
            self.losses.extend(data["loss"])
        elif name == "validations" and data:
            self.validation = data[-1][0], data[-1][1]
        elif name == "spans":
            for span in data:
                self.strips.add(span)

    def _begin(self, data: Mapping[str, Any]) -> None:
        self.run, self.problem = data["run"], data["problem"]
        self.rounds_recorded = data["rounds_recorded"]
        self.marks.clear()
        self.losses.clear()
        self.validation, self.strips = None, Strips()
        for name in ("state", "workers", "marks", "steps", "validations", "spans"):
            self.take(name, data[name])

    @property
    def live(self) -> bool:
        """Whether the run goes on."""
        return self.state.get("phase") in ("waiting", "running", "paused")
