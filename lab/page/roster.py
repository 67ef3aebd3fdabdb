"""The workers of a run, as its events tell of them. Pure: times are those of the events.

``worker_pulse`` has totals of each worker. Records of before there were such events, and those
without them, have the shards at most.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from coordinator.core.events import (
    Controlled,
    ControlVerb,
    Event,
    Expelled,
    Finished,
    Gone,
    Joined,
    Left,
    Lost,
    Ready,
    Silent,
    Started,
    WorkerPulse,
)
from lab.report.spans import Lane, Span

MOST_GONE = 32  # that are still told of
MOST_THERE = 256  # of a table
OVER = 5.0  # seconds that a rate looks back
APART = 0.4  # seconds between the totals that are remembered
GONE = {Left: "left", Lost: "lost", Silent: "silent", Expelled: "expelled"}


@dataclass
class Levers:
    """What has been done to a worker of this machine, by its name, and still holds."""

    frozen: bool = False
    cut: bool = False
    slowness: float = 1.0

    def take(self, event: Controlled) -> None:
        """Something has been done to it."""
        verb = event.verb
        if verb in (ControlVerb.FREEZE, ControlVerb.THAW, ControlVerb.KILL):
            self.frozen = verb is ControlVerb.FREEZE
        elif verb in (ControlVerb.CUT, ControlVerb.RESTORE):
            self.cut = verb is ControlVerb.CUT
        elif verb is ControlVerb.SLOW:
            self.slowness = event.factor


class Totals(NamedTuple):
    """Of one worker since it joined. ``busy``: seconds in which it had a shard at least."""

    time: float = 0.0
    documents: int = 0
    computing: float = 0.0
    busy: float = 0.0


@dataclass
class Member:
    """A worker of the current epoch."""

    lane: Lane
    name: str
    engine: str
    host: str
    state: str = "joining"
    totals: Totals | None = None
    past: deque[Totals] = field(default_factory=deque)
    pulse: WorkerPulse | None = None
    round_trip: float | None = None
    until: float = 0.0  # the end of what ``busy`` has counted of shards

    def add(self, span: Span) -> None:
        """It has had a shard. Of no interest where pulses tell more."""
        if self.pulse is not None:
            return
        time, documents, computing, busy = self.totals or Totals(span.begin)
        if span.computing is not None:
            computing += span.end - span.computing
        if span.outcome == "answered":
            documents += span.shard.count
        busy += max(0.0, span.end - max(span.begin, self.until))
        self.until = max(self.until, span.end)
        self._remember(Totals(max(time, span.end), documents, computing, busy))

    def beat(self, time: float, pulse: WorkerPulse) -> None:
        """It tells its totals."""
        if self.pulse is None:
            self.past.clear()  # of another source
        self.pulse = pulse
        if pulse.round_trip > 0.0:
            self.round_trip = pulse.round_trip
        self._remember(Totals(time, pulse.documents, pulse.computing, pulse.waited))

    def _remember(self, totals: Totals) -> None:
        self.totals = totals
        if not self.past or totals.time - self.past[-1].time >= APART:
            self.past.append(totals)
        while len(self.past) > 2 and totals.time - self.past[0].time > OVER:
            self.past.popleft()


class Roster:
    """Workers by their numbers, and for a while those that are gone."""

    def __init__(self) -> None:
        self._members: dict[int, Member] = {}
        self._gone: deque[Member] = deque(maxlen=MOST_GONE)
        self._epoch = 0
        self._levers: dict[str, Levers] = {}
        self.partial = False  # not all shards were seen, so that they cannot be counted

    def take(self, time: float, event: Event) -> None:
        """An event, of whatever kind."""
        if isinstance(event, Started):
            self._epoch += 1
            self._members.clear()
            self._gone.clear()
            self._levers.clear()  # what holds is told anew
        elif isinstance(event, Joined):
            lane = Lane(self._epoch, event.worker)
            self._members[event.worker] = Member(lane, event.name, event.engine, event.host)
        elif isinstance(event, Ready):
            if member := self._members.get(event.worker):
                member.state = "ready"
        elif isinstance(event, WorkerPulse):
            if member := self._members.get(event.worker):
                member.beat(time, event)
        elif isinstance(event, Finished):
            for member in self._members.values():
                member.state = "left"
        elif isinstance(event, Controlled) and event.name:
            if len(self._levers) < MOST_THERE or event.name in self._levers:
                self._levers.setdefault(event.name, Levers()).take(event)
        elif isinstance(event, Gone) and (member := self._members.pop(event.worker, None)):
            member.state = GONE.get(type(event), "lost")
            self._gone.append(member)

    def add(self, span: Span) -> None:
        """A worker has had a shard."""
        member = self._members.get(span.lane.number)
        if member is not None and span.lane.epoch == self._epoch:
            member.add(span)

    @property
    def ready(self) -> int:
        """How many can be given work."""
        return sum(member.state == "ready" for member in self._members.values())

    @property
    def there(self) -> list[Member]:
        """Those that have not gone, by their numbers."""
        return [member for _, member in sorted(self._members.items())]

    def table(self, now: float) -> list[dict[str, Any]]:
        """A row for each worker: those that are there by number, then those that are gone."""
        members = [*self.there[:MOST_THERE], *reversed(self._gone)]
        rows = [_row(member, now, self.counted(member)) for member in members]
        for row in rows:
            row |= asdict(self._levers.get(row["name"], Levers()))
        return rows

    def counted(self, member: Member) -> int | None:
        """How many documents a worker has answered, if that is known."""
        known = member.totals is not None and (member.pulse is not None or not self.partial)
        return member.totals.documents if known and member.totals else None


def _row(member: Member, now: float, documents: int | None) -> dict[str, Any]:
    pulse, totals, there = member.pulse, member.totals, member.state == "ready"
    row: dict[str, Any] = {
        "epoch": member.lane.epoch,
        "worker": member.lane.number,
        "name": member.name,
        "engine": member.engine,
        "host": member.host or None,
        "state": "computing" if there and pulse and pulse.in_flight else member.state,
        "documents_per_second": None,
        "documents": documents,
        "in_flight": pulse.in_flight if pulse and there else None,
        "silent_for": pulse.silent if pulse and there else None,
        "round_trip": member.round_trip,
        "bytes_sent": pulse.bytes_sent if pulse else None,
        "bytes_received": pulse.bytes_received if pulse else None,
        "computing": None,
        "wire": None,
        "waiting": None,
    }
    return row | (_rates(member, now) if there and totals else {})


def _rates(member: Member, now: float) -> dict[str, Any]:
    """Rates of the last seconds; ``now`` is in the time of the events."""
    then, last = member.past[0], member.past[-1]
    passed = max(now, last.time) - then.time
    if last.time <= then.time:
        return {}
    if now - last.time <= 2 * APART:
        passed = last.time - then.time  # the next totals are still to come
    computing = min((last.computing - then.computing) / passed, 1.0)
    busy = min(max((last.busy - then.busy) / passed, computing), 1.0)
    return {
        "documents_per_second": (last.documents - then.documents) / passed,
        "computing": computing,
        "wire": busy - computing,
        "waiting": 1.0 - busy,
    }
