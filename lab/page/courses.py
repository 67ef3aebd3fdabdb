"""How norms of tensors and numbers of a strategy went, for pages that are opened late. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.core.events import StrategyNumbers, TensorNorms

MOST = 120  # messages of a course; then every other one goes
MOST_LABELS = 200  # of a histogram
Message = dict[str, Any]


class Course:
    """Messages over a whole run, thinned evenly; the newest is always there."""

    def __init__(self) -> None:
        self._kept: list[Message] = []
        self._newest: Message | None = None
        self._stride, self._come = 1, 0

    def add(self, message: Message) -> None:
        """The next one."""
        if self._come % self._stride == 0:
            self._kept.append(message)
            if len(self._kept) > MOST:
                del self._kept[1::2]
                self._stride *= 2
        self._come += 1
        self._newest = message

    @property
    def newest(self) -> Message | None:
        """None if there is none yet."""
        return self._newest

    def all(self) -> list[Message]:
        """In their order."""
        late = self._newest is not None and self._kept[-1] is not self._newest
        return [*self._kept, self._newest] if late and self._newest is not None else [*self._kept]


class Courses:
    """Of one run."""

    def __init__(self) -> None:
        self.tensors, self.numbers = Course(), Course()
        self._counts: dict[str, dict[str, int]] = {}

    def take_norms(self, event: TensorNorms) -> Message:
        """The message that tells of it."""
        message = {
            "step": event.version, "names": [*event.tensors],
            "gradient": [*event.gradient] or None, "update": [*event.update],
        }  # fmt: skip
        self.tensors.add(message)
        return message

    def take_numbers(self, event: StrategyNumbers) -> Message:
        """The message that tells of it, whose histograms count what is new."""
        histograms = {name: dict(counts) for name, counts in event.histograms.items()}
        for name, counts in histograms.items():
            self._count(name, counts)
        message = {
            "step": event.version, "numbers": dict(event.numbers), "histograms": histograms,
        }  # fmt: skip
        self.numbers.add(message)
        return message

    def _count(self, name: str, counts: Mapping[str, int]) -> None:
        total = self._counts.setdefault(name, {})
        for label, count in counts.items():
            if label in total or len(total) < MOST_LABELS:
                total[label] = total.get(label, 0) + count

    def snapshot(self) -> dict[str, Any]:
        """The newest ones, with histograms since the start, and those before."""
        numbers = self.numbers.newest
        return {
            "tensors": self.tensors.newest,
            "numbers": numbers and {**numbers, "histograms": {**self._counts}},
            "earlier": {
                "tensors": self.tensors.all()[:-1],
                "numbers": [
                    {"step": message["step"], "numbers": message["numbers"]}
                    for message in self.numbers.all()[:-1]
                ],
            },
        }
