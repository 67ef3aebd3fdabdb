"""The tree of a round: its shards, who computed them and when, and how their sum was formed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coordinator.core.event_json import EventError
from coordinator.core.events import (
    EVENTS,
    Event,
    Finished,
    Gone,
    Recorded,
    RoundClosed,
    RoundOpened,
    RoundOutcome,
    Started,
)
from lab.page.event_lines import begins
from lab.page.record_search import LOOK, Epoch, NotRecordedError, Record, opened, round_of
from lab.report.spans import Span, Tracker
from microgpt.optim.reduction import Shard, sum_of_shards

MOST_READ = 1 << 25  # bytes in which a round is followed to its end
LATE = 1 << 18  # bytes after its end in which late answers are looked for
#: What ends shards of whatever round.
ENDS = tuple(begins(kind) for kind in EVENTS if issubclass(kind, Started | Finished | Gone))


@dataclass
class Found:
    """What the record has of a round."""

    opened: RoundOpened | None = None
    closed: RoundClosed | None = None
    spans: list[Span] = field(default_factory=list)


def round_tree(
    run_dir: Path, epochs: Sequence[Epoch], epoch: int, number: int, *, summed: bool
) -> dict[str, Any]:
    """A round as plain values; ``summed``: gradients of shards are added up in this run.

    Raises NotRecordedError.
    """
    with opened(run_dir, epochs) as record:
        bounds = record.bounds(epoch)
        if bounds is None:
            raise NotRecordedError(f"the record has no epoch {epoch}")
        found = Found()
        _fill(found, record, epoch, number, bounds)
    if found.opened is None:
        how = "--events rounds records the rounds of a run, and full their shards, too"
        raise NotRecordedError(f"round {number} of epoch {epoch} is not in the record; {how}")
    if not found.spans:
        how = "shards are recorded by --events full"
        raise NotRecordedError(f"the record has no shards of round {number}: {how}")
    return _plain(found, found.opened, epoch, summed)


def _fill(found: Found, record: Record, epoch: int, number: int, bounds: tuple[int, int]) -> None:
    """Find the lines of a round and take in what they tell."""
    low, high = bounds

    def reached(line: bytes) -> bool | None:
        told = round_of(line)
        return None if told is None else told >= number

    place = max(record.find(low, high, reached) - LOOK, low)
    tracker = Tracker(epoch)
    for thing in tracker.follow(_events(found, record, epoch, number, place)):
        if isinstance(thing, Span) and thing.shard.round == number:
            found.spans.append(thing)


def _events(
    found: Found, record: Record, epoch: int, number: int, place: int
) -> Iterator[Recorded]:
    """What is about the round, or ends shards of any."""
    token, reader = f'"round": {number},'.encode(), record.reader(epoch)
    last = place + MOST_READ
    for at, line in record.lines(place, MOST_READ):
        if at > last:
            return
        if token not in line and not line.startswith(ENDS):
            continue
        try:
            recorded = reader.read(line)
        except EventError:
            continue
        event: Event = recorded.event
        if isinstance(event, Started) and record.epoch_at(at) > epoch:
            return
        if isinstance(event, RoundOpened):
            found.opened = event
        elif isinstance(event, RoundClosed):
            found.closed = event
            last = at + LATE
        elif not isinstance(event, Started):
            yield recorded


def _plain(found: Found, begun: RoundOpened, epoch: int, summed: bool) -> dict[str, Any]:
    closed = found.closed
    spans = sorted(found.spans, key=lambda span: (span.shard.start, span.begin))
    shards = sorted({Shard(span.shard.start, span.shard.count) for span in spans})
    counted: list[int] = []
    if closed is not None:  # which counted is only told if not all did, or in another order
        counted = [*closed.counted] or [*range(min(closed.shards, len(shards)))]
    tree = None
    if closed is not None and summed and _is_sum(begun, closed) and len(shards) == closed.shards:
        in_turn = len(closed.counted) == closed.shards  # by a strategy that takes them as they come
        tree = _chain(counted) if in_turn else _tree(shards, counted)
    return {
        "epoch": epoch,
        "round": begun.round,
        "version": begun.version,
        "evaluation": begun.evaluation,
        "documents": begun.documents,
        "shards": [_shard(span) for span in spans],
        "tree": tree,
        "counted": counted,
        "outcome": closed.outcome if closed is not None else None,
    }


def _is_sum(begun: RoundOpened, closed: RoundClosed) -> bool:
    used = closed.outcome in (RoundOutcome.APPLIED, RoundOutcome.GATHERED)
    return used and not begun.evaluation and begun.local_steps == 0


def _tree(shards: Sequence[Shard], counted: Sequence[int]) -> Any:
    """How the sum of the shards that counted was formed: by the very function that forms it."""
    parts: list[tuple[Shard, Any]] = [
        (shards[place], place) for place in counted if place < len(shards)
    ]
    try:
        return sum_of_shards(parts, lambda left, right: [left, right])
    except ValueError:  # a record of something else
        return None


def _chain(counted: Sequence[int]) -> Any:
    """A sum that was formed one after the other."""
    tree: Any = counted[0]
    for place in counted[1:]:
        tree = [tree, place]
    return tree


def _shard(span: Span) -> dict[str, Any]:
    return {
        "start": span.shard.start,
        "count": span.shard.count,
        "worker": span.lane.number,
        "name": span.shard.name,
        "begin": span.begin,
        "computing": span.computing,
        "end": span.end,
        "outcome": span.outcome,
        "kind": span.kind,
    }
