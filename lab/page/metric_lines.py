"""Lines of ``metrics.jsonl``, read at a speed that lets a page of 100,000 steps open at once. Pure.

All lines that have the form in which they are written are read by one pattern; if one of them has
another form, each is read by ``lab.report.reading.step_record``, which says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from math import isfinite
from typing import Any, NamedTuple

from lab.report.reading import RunError, step_record

MOST_SHARDS = 1 << 31  # of a step


class StepLine(NamedTuple):
    """A step. ``validation``: the loss of the held-out documents, if it was due."""

    step: int
    loss: float
    seconds: float
    documents: int
    sent: int
    received: int
    shards: int
    learning_rate: float | None
    validation: float | None


_COUNT = rb"(\d{1,18})"
_SECONDS = rb"(\d{1,9}\.\d{1,20}(?:e-\d\d)?|\de-\d\d)"
_NUMBER = rb"(-?\d{1,18}\.\d{1,20}(?:e[-+]\d\d)?|\de-\d\d)"
_USUAL = re.compile(
    rb'\{"step": (\d{1,9}), "loss": ' + _NUMBER + rb', "lr": ' + _NUMBER + rb', "documents": '
    + _COUNT + rb', "tokens": \d+, "seconds": ' + _SECONDS + rb', "workers": \d+, "shards": '
    + _COUNT + rb'(?:, "validation_loss": ' + _NUMBER + rb', "validation_seconds": [-+.\de]+)?'
    rb', "bytes_sent": ' + _COUNT + rb', "bytes_received": ' + _COUNT + rb"\}\n"
)  # fmt: skip


def step_lines(lines: bytes, where: str, complain: Callable[[str], None]) -> Iterator[StepLine]:
    """The steps of whole lines. ``complain`` hears of those that are none, beginning ``where``."""
    found = _USUAL.findall(lines)
    if len(found) == lines.count(b"\n"):
        for step, loss, rate, documents, seconds, shards, validation, sent, received in found:
            yield StepLine(
                int(step), float(loss), float(seconds), int(documents), int(sent), int(received),
                int(shards), float(rate), float(validation) if validation else None,
            )  # fmt: skip
        return
    for line in lines.splitlines():
        try:
            yield _plain(step_record(line, where))
        except RunError as error:
            complain(str(error))


def _plain(record: dict[str, Any]) -> StepLine:
    rate, shards = record.get("lr"), record.get("shards")
    return StepLine(
        record["step"],
        record["loss"],
        record.get("seconds", 0.0),
        record.get("documents", 0),
        record.get("bytes_sent", 0),
        record.get("bytes_received", 0),
        shards if type(shards) is int and 0 < shards < MOST_SHARDS else 0,
        rate if type(rate) is float and isfinite(rate) else None,
        record.get("validation_loss"),
    )
