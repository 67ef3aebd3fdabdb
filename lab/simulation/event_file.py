"""What a virtual coordinator writes down of its events; a killed one loses the last of them.

Follows ``coordinator.run.event_log``: lines reach the file a few times a second, and before a
checkpoint that depends on them.
"""

from __future__ import annotations

from collections.abc import Iterator

from coordinator.core.events import Event, EventBase, Recorded


class EventFile:
    """``events.jsonl`` of a run."""

    def __init__(self) -> None:
        self._written: list[Event] = []
        self._kept: list[Event] = []

    def add(self, event: EventBase) -> None:
        """Write it down soon."""
        self._kept.append(event)  # type: ignore[arg-type]  # there are no others

    def write(self) -> None:
        """What was added is in the file now."""
        self._written += self._kept
        self._kept = []

    def lose(self) -> None:
        """The process is killed."""
        self._kept = []

    def numbered(self) -> Iterator[tuple[int, Recorded]]:
        """What is in the file, with the numbers of the lines."""
        for line, event in enumerate(self._written, 1):
            yield line, Recorded(0.0, 0, event)
