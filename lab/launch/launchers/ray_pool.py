"""What is to become of the workers of a run on a Ray cluster. Pure: news and the time come in.

The driver (``ray_driver.py``) performs the actions, and hands over what Ray and the workers tell.
Ray itself starts an actor again whose process or node has died; that is heard of when a question
to it fails. Who dies again and again soon after its start is given up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from lab.launch.launchers.base import WorkerHandle, WorkerStatus, worker_name
from lab.launch.launchers.processes import signal_name
from lab.launch.launchers.ray_worker import NOTHING_SEEN, Report
from lab.launch.restarts import Restarts
from microgpt.support import signals
from microgpt.support.cli import INTERRUPTED

#: Whoever has no place after so long is told of; an actor takes some seconds to start.
ROOM_SECONDS = 10.0
#: Between questions to an actor that is being started again.
AGAIN_SECONDS = 0.5
MOST_WORDS = 300  # letters of what a worker has said last
POLITE = tuple(128 + number for number in signals.SIGNALS)
NO_ROOM, COMES_BACK, LEFT = (
    "waits for room on the cluster, or starts there",
    "is started again",
    "has left",
)


@dataclass(frozen=True)
class Start:
    """Create the actor of a worker."""

    number: int


@dataclass(frozen=True)
class SendHome:
    """Ask a worker to leave; it will report its end."""

    number: int


@dataclass(frozen=True)
class Replace:
    """Have Ray start the actor again."""

    number: int


@dataclass(frozen=True)
class Remove:
    """End the actor for good."""

    number: int


@dataclass(frozen=True)
class Ask:
    """Ask the actor for its next report."""

    number: int
    seen: int
    ready: bool


@dataclass(frozen=True)
class TellRoom:
    """Tell people that so many of the ``workers`` are ``waiting`` for room; none do any more."""

    waiting: int
    workers: int


Action: TypeAlias = Start | SendHome | Replace | Remove | Ask | TellRoom


@dataclass(frozen=True)
class Unavailable:
    """The actor has died, and Ray starts it again."""


@dataclass(frozen=True)
class Dead:
    """There is no actor any more, and none will come. ``why``: one line."""

    why: str


@dataclass
class Member:
    """What is known of one worker. ``ask_at``, ``replace_at``: when that is due, None for not.

    ``actor``: the one that has reported last; ``replaced``: one that Ray is to start again, which
    may answer once more before it ends.
    """

    number: int
    since: float
    status: WorkerStatus = WorkerStatus.WAITING
    where: str = ""
    reason: str = NO_ROOM
    restarts: Restarts = field(default_factory=Restarts)
    seen: int = NOTHING_SEEN
    ready: bool = False
    actor: str = ""
    replaced: str = ""
    words: str = ""
    leaves: bool = False
    asked: bool = False  # and has not answered yet
    ask_at: float | None = None
    replace_at: float | None = None

    @property
    def name(self) -> str:
        """What the coordinator calls it."""
        return worker_name(self.number)

    @property
    def handle(self) -> WorkerHandle:
        """What people are shown."""
        return WorkerHandle(self.name, self.where, self.status, self.restarts.restarts, self.reason)


class Pool:
    """The workers of a run. ``lines`` for people are collected, which the driver hands on."""

    def __init__(self) -> None:
        self.members: dict[int, Member] = {}
        self.lines: list[str] = []
        self._told_waiting = 0

    @property
    def handles(self) -> tuple[WorkerHandle, ...]:
        """All that there have been, by their numbers."""
        return tuple(self.members[number].handle for number in sorted(self.members))

    @property
    def exhausted(self) -> int | None:
        """The exit code of the run if no worker is left that was not told to end; else None."""
        ended = [m for m in self.members.values() if m.status is WorkerStatus.ENDED]
        if not self.members or len(ended) < len(self.members):
            return None
        reasons = [member.reason for member in ended if member.reason]
        if not reasons:
            return None  # they were told to end, and the coordinator will, too
        return INTERRUPTED if all(reason == LEFT for reason in reasons) else 1

    def scale(self, count: int, now: float) -> list[Action]:
        """Have so many: new ones get new numbers, the last ones are sent home."""
        there = [m for m in self._alive() if not m.leaves]
        actions: list[Action] = []
        for _ in range(count - len(there)):
            number = max(self.members, default=0) + 1
            self.members[number] = Member(number, since=now, ask_at=now)
            actions.append(Start(number))
        for member in there[count:]:
            actions += self._send_home(member)
        return actions

    def due(self, now: float) -> list[Action]:
        """What the time has come for."""
        actions: list[Action] = []
        for member in self._alive():
            if member.replace_at is not None and member.replace_at <= now:
                member.replace_at, member.ask_at = None, now + AGAIN_SECONDS
                actions.append(Replace(member.number))
            elif not member.asked and member.ask_at is not None and member.ask_at <= now:
                member.asked, member.ask_at = True, None
                actions.append(Ask(member.number, member.seen, member.ready))
        return [*actions, *self._room(now)]

    def restart_all(self, at: float) -> None:
        """End all that run and start them again at that time, which is no fault of theirs."""
        for member in self._alive():
            if member.status is WorkerStatus.RUNNING:
                self._lost(member, at)
                member.restarts.restarts += 1
                member.ask_at, member.replace_at = None, at

    def reported(self, number: int, report: Report, now: float) -> list[Action]:
        """A worker has answered a question."""
        member = self.members[number]
        member.asked = False
        if member.status is WorkerStatus.ENDED:
            return []
        if report.actor == member.replaced:
            member.ask_at = now + AGAIN_SECONDS
            return []
        self._take(member, report, now)
        if report.code is None:
            member.ask_at = now
            return []
        return self._ended(member, report.code, now)

    def unavailable(self, number: int, now: float) -> list[Action]:
        """The actor has died, or its node, and Ray starts it again."""
        member = self.members[number]
        member.asked = False
        if member.status is WorkerStatus.ENDED:
            return []
        if member.leaves:
            return self._end(member, LEFT)
        if member.status is WorkerStatus.RUNNING:
            where = member.where
            self._lost(member, now)
            if member.restarts.died(now) is None:
                return self._give_up(member, f"with its actor on {where}")
            text = f"{member.name} is gone, with its actor or all of {where}"
            self.lines.append(f"{text}; Ray starts it again")
        member.ask_at = now + AGAIN_SECONDS
        return []

    def dead(self, number: int, why: str) -> list[Action]:
        """Ray has given the actor up, or never got it started."""
        member = self.members[number]
        member.asked = False
        if member.status is WorkerStatus.ENDED:
            return []
        return self._end(member, LEFT if member.leaves else f"cannot start: {why}")

    # --- one worker ------------------------------------------------------------------------------

    def _alive(self) -> list[Member]:
        there = (self.members[number] for number in sorted(self.members))
        return [member for member in there if member.status is not WorkerStatus.ENDED]

    def _take(self, member: Member, report: Report, now: float) -> None:
        member.status, member.where, member.reason = WorkerStatus.RUNNING, report.host, ""
        member.seen, member.actor = report.seen, report.actor
        lines = report.output.decode(errors="replace").strip().splitlines()
        if lines:
            member.words = lines[-1].removeprefix("error: ")[:MOST_WORDS]
        if report.ready and not member.ready:
            member.ready = True
            member.restarts.works(now)

    def _lost(self, member: Member, now: float) -> None:
        """What is started again has printed nothing yet."""
        member.status, member.reason, member.where = WorkerStatus.WAITING, COMES_BACK, ""
        member.seen, member.ready, member.replaced = NOTHING_SEEN, False, member.actor
        member.since = now

    def _ended(self, member: Member, code: int, now: float) -> list[Action]:
        if code == 0:
            return self._end(member, "")  # told to; the coordinator will end, too
        if member.leaves or code in POLITE:
            return self._end(member, LEFT)
        if code > 0:
            return self._end(member, f"cannot work: {member.words}")
        how = signal_name(-code)
        self._lost(member, now)
        pause = member.restarts.died(now)
        if pause is None:
            return self._give_up(member, how)
        when = f" in {pause:g} s" if pause else ""
        self.lines.append(f"{member.name} was killed ({how}); Ray starts it again{when}")
        member.replace_at = now + pause
        return []

    def _give_up(self, member: Member, how: str) -> list[Action]:
        text = f"was killed {member.restarts.deaths} times soon after its start ({how})"
        return self._end(member, f"{text}; it is given up: {member.words}")

    def _send_home(self, member: Member) -> list[Action]:
        member.leaves = True
        if member.status is WorkerStatus.RUNNING:
            return [SendHome(member.number)]
        return self._end(member, LEFT)

    def _end(self, member: Member, why: str) -> list[Action]:
        member.status, member.reason = WorkerStatus.ENDED, why
        member.ask_at = member.replace_at = None
        if why:
            self.lines.append(f"{member.name} {why}")
        return [Remove(member.number)]

    def _room(self, now: float) -> list[Action]:
        alive = self._alive()
        waiting = [
            member
            for member in alive
            if member.status is WorkerStatus.WAITING and now - member.since >= ROOM_SECONDS
        ]
        if len(waiting) == self._told_waiting:
            return []
        self._told_waiting = len(waiting)
        return [TellRoom(len(waiting), len(alive))] if alive else []


def not_yet(count: int) -> tuple[WorkerHandle, ...]:
    """So many workers of which nothing is known yet."""
    return tuple(
        WorkerHandle(worker_name(number), "", WorkerStatus.WAITING, reason=NO_ROOM)
        for number in range(1, count + 1)
    )
