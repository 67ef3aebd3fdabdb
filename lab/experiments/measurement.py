"""What a run has shown, whether it was real or simulated: the numbers of ``result.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple, TypeAlias

from coordinator.core.events import Ready, Recorded, RoundClosed, RoundOpened, RoundOutcome, Started
from lab.report.reached import first_evaluated, first_trained

DONE, FAILED = "done", "failed"
#: Numbers of steps, in their order.
Series: TypeAlias = tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Measurement:
    """Columns of one length, a place for each step.

    ``losses``: of the step's documents, in nats per token. The others are sums up to the step:
    ``seconds`` since the first worker was ready, those of evaluations left out; ``bytes`` that the
    coordinator has sent and received, ``received`` of them; ``documents`` that counted.
    ``validations``: pairs of a step and the loss of the held-out documents. ``numbers``: likewise
    what the strategy has told of an evaluated step, by its names. ``lost``: how many
    steps were made that no checkpoint had when a coordinator died, and were made again. ``wall``:
    seconds that all this has taken.
    """

    outcome: str
    reason: str = ""
    wall: float = 0.0
    state_sha256: str = ""
    steps: tuple[int, ...] = ()
    losses: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()
    bytes: tuple[int, ...] = ()
    received: tuple[int, ...] = ()
    documents: tuple[int, ...] = ()
    validations: Series = field(default=())
    lost: int = 0
    numbers: Mapping[str, Series] = field(default_factory=dict)

    def __post_init__(self) -> None:
        columns = self.losses, self.seconds, self.bytes, self.received, self.documents
        if {len(column) for column in columns} != {len(self.steps)}:
            raise ValueError("the columns of a measurement have different lengths")

    def at(self, step: int) -> int:
        """The place of a step in the columns. Raises ValueError if it has none."""
        return self.steps.index(step)

    def reached(self, loss: float, training: bool = False) -> int | None:
        """The first step with no more than this loss: of held-out documents, or of training."""
        if training:
            return first_trained(self.steps, self.losses, loss)
        return first_evaluated(self.validations, loss)

    def to_json(self) -> str:
        """As a file has it."""
        return json.dumps(asdict(self), allow_nan=False)


def from_json(text: str) -> Measurement:
    """The inverse of ``Measurement.to_json``. Raises ValueError for anything else."""
    try:
        plain = json.loads(text)
        plain["validations"] = _series(plain["validations"])
        numbers = plain.get("numbers", {}).items()
        plain["numbers"] = {str(name): _series(series) for name, series in numbers}
        for name in ("steps", "bytes", "received", "documents"):
            plain[name] = tuple(plain[name])
        for name in ("losses", "seconds"):
            plain[name] = tuple(map(float, plain[name]))
        found = Measurement(**plain)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("this is no measurement") from error
    whole = (*found.steps, *found.bytes, *found.received, *found.documents, found.lost)
    if not all(type(number) is int for number in whole) or found.outcome not in (DONE, FAILED):
        raise ValueError("this is no measurement")
    if not all(map(math.isfinite, (*found.losses, *found.seconds))):
        raise ValueError("this is no measurement")
    return found


def _series(plain: Any) -> Series:
    return tuple((int(step), float(value)) for step, value in plain)


def measured(
    records: Sequence[Mapping[str, Any]],
    moved: Sequence[tuple[int, int]],
    events: Iterable[Recorded],
    **rest: Any,
) -> Measurement:
    """Of the lines of metrics, the bytes ``moved`` up to each of them (sent, received), and the
    events of rounds.
    """
    times, lost = step_times(events)
    kept = [place for place, record in enumerate(records) if record["step"] in times]
    told = [records[place] for place in kept]
    documents, total = [], 0
    for record in told:
        total += int(record["documents"])
        documents.append(total)
    return Measurement(
        steps=tuple(record["step"] for record in told),
        losses=tuple(record["loss"] for record in told),
        seconds=tuple(times[record["step"]] for record in told),
        bytes=tuple(sum(moved[place]) for place in kept),
        received=tuple(moved[place][1] for place in kept),
        documents=tuple(documents),
        validations=tuple(
            (record["step"], record["validation_loss"])
            for record in told
            if "validation_loss" in record
        ),
        lost=lost,
        numbers=_told(told),
        **rest,
    )


def _told(records: Sequence[Mapping[str, Any]]) -> dict[str, Series]:
    """What a strategy has told of evaluated steps; several numbers of one name are left out."""
    found: dict[str, list[tuple[int, float]]] = {}
    for record in (each for each in records if "validation_loss" in each):
        for name, value in record.get("strategy", {}).items():
            if isinstance(value, float) and math.isfinite(value):
                found.setdefault(name, []).append((record["step"], value))
    return {name: tuple(series) for name, series in found.items()}


class StepTimes(NamedTuple):
    """``times``: when each step was done for the last time, in seconds since there was a worker for
    the first round. ``lost``: how many steps were made in vain.
    """

    times: dict[int, float]
    lost: int


def step_times(events: Iterable[Recorded]) -> StepTimes:
    """When steps were done. While held-out documents are evaluated the clock stands still.

    Needs the events of rounds.
    """
    times: dict[int, float] = {}
    step, lost, left_out = 0, 0, 0.0
    opened = began = evaluating = ready = None  # type: float | None
    for recorded in events:
        event, now = recorded.event, recorded.time
        if isinstance(event, Started):
            lost += max(0, step - event.version)
            step, evaluating = event.version, None
        elif isinstance(event, Ready):
            ready = now if ready is None else ready
        elif isinstance(event, RoundOpened):
            opened = now if opened is None else opened
            evaluating = now if event.evaluation else evaluating
        elif isinstance(event, RoundClosed):
            if event.outcome is RoundOutcome.EVALUATED and evaluating is not None:
                left_out, evaluating = left_out + now - evaluating, None
            elif event.outcome is RoundOutcome.APPLIED:
                began = max(opened or now, ready or now) if began is None else began
                step += 1
                times[step] = max(0.0, now - began - left_out)
    return StepTimes(times, lost)
