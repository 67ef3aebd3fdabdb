"""The record of a run as rows of named numbers, in the order of the steps. Pure.

Metrics and events lie in two files that are written at different times, and some of those that want
the numbers take none of a step that lies behind: so rows are kept back for a while, until what
belongs to them has come.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple

from coordinator.core.events import Event, StrategyNumbers, TensorNorms

MOST_KEPT = 200_000  # rows that are kept back: more are told without waiting


class Row(NamedTuple):
    """What is known of a step. ``time``: when it was done, in seconds since 1970, or None.

    ``values`` by their names, in which a slash sets groups apart.
    """

    step: int
    time: float | None
    values: dict[str, float]


class Rows:
    """Puts together what comes in: ``settled`` tells the rows that are complete, each once."""

    def __init__(self) -> None:
        self._waiting: dict[int, Row] = {}
        self._settled = 0  # steps of the metrics that had come when it was asked last
        self._newest = 0
        self._told = 0  # the last step of a row that was told

    def add_step(self, plain: Mapping[str, Any], time: float | None) -> None:
        """A line of the metrics, as ``step_record`` reads it. Steps that are told do not count."""
        step = plain["step"]
        if step <= self._told:
            return
        values = self._row(step, time).values
        values["loss"] = plain["loss"]
        for name, key in (("validation_loss", "validation_loss"), ("learning_rate", "lr")):
            if type(value := plain.get(key)) is float and isfinite(value):
                values[name] = value
        seconds, documents = plain.get("seconds", 0.0), plain.get("documents", 0)
        values["seconds"] = seconds
        if seconds > 0.0 and isfinite(rate := documents / seconds):
            values["documents_per_second"] = rate
        for key in ("documents", "bytes_sent", "bytes_received"):
            values[key] = float(plain.get(key, 0))
        self._newest = max(self._newest, step)

    def add_event(self, time: float, event: Event) -> None:
        """An event; most have no numbers of interest."""
        if isinstance(event, TensorNorms):
            values = self._row(event.version, time).values
            for kind, norms in (("gradient", event.gradient), ("update", event.update)):
                for name, norm in zip(event.tensors, norms, strict=False):  # or there are none
                    values[f"{kind}_norm/{name}"] = norm
        elif isinstance(event, StrategyNumbers):
            values = self._row(event.version, time).values
            values |= {f"strategy/{name}": number for name, number in event.numbers.items()}
            for name, counts in event.histograms.items():
                values |= {f"strategy/{name}/{label}": float(n) for label, n in counts.items()}

    def settled(self) -> Iterator[Row]:
        """The rows of steps that were known already when this was asked before."""
        yield from self._tell(self._settled)
        self._settled = self._newest
        if len(self._waiting) > MOST_KEPT:
            yield from self.rest()

    def rest(self) -> Iterator[Row]:
        """All rows that are left."""
        yield from self._tell(max(self._waiting, default=0))

    def _tell(self, until: int) -> Iterator[Row]:
        for step in sorted(step for step in self._waiting if step <= until):
            self._told = step
            yield self._waiting.pop(step)

    def _row(self, step: int, time: float | None) -> Row:
        """The row of a step. What comes too late is told with the last step that was told."""
        step = max(step, self._told)
        row = self._waiting.get(step)
        if row is None or (row.time is None and time is not None):
            row = Row(step, time, row.values if row else {})
            self._waiting[step] = row
        return row
