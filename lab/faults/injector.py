"""Carries faults out on a fleet, and heals them when their time is over."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from lab.conditions import DOWN, UP, Fault, FaultKind
from lab.faults.fleet import Fleet, Member
from lab.faults.machine import Network, SmallDisk
from lab.faults.schedule import KIND_OF

Heal: TypeAlias = Callable[[], None]

SLOWEST, FASTEST = 20_000, 2_000_000  # bytes per second of a throttled connection
LONGEST_DELAY = 0.4  # seconds


def targets_of(workers: int, network: bool, disk: bool, aggregators: int = 0) -> dict[str, int]:
    """How many of each kind of target such a fleet has; what hits workers hits aggregators, too."""
    proxies = workers - 1 if network else workers
    return {
        "worker": workers + aggregators,
        "coordinator": 1,
        "proxy": proxies + aggregators,
        "link": int(network),
        "disk": int(disk),
    }


def nothing() -> None:
    """The cure for what is over at once: somebody starts the victim again."""


@dataclass
class InjectedFault:
    """A fault that has been done: when (monotonic clock) it began and was healed."""

    fault: Fault
    victim: str
    began: float
    healed: float = 0.0


@dataclass
class FaultInjector:
    """Harms a fleet; ``disk`` is the one under its checkpoints, if that is ours.

    ``done`` are the faults so far, ``suffering`` who has not been healed yet: those are spared.
    """

    fleet: Fleet
    disk: SmallDisk | None = None
    done: list[InjectedFault] = field(default_factory=list)
    spared: int = 0

    def __post_init__(self) -> None:
        self.suffering: set[str] = set()
        self._cures: list[tuple[float, int, InjectedFault, Heal]] = []
        self._count = itertools.count()

    def inflict(self, fault: Fault) -> InjectedFault | None:
        """Do it. None if the victim is not there or suffers already."""
        target, number = KIND_OF[fault.kind].target, fault.victim
        victim = f"{target}-{number + 1}" if target == "proxy" else target
        if target == "worker":
            victim = self.fleet.below[number].name
        if victim in self.suffering:
            self.spared += 1
            return None
        injected = InjectedFault(fault, victim, time.monotonic())
        heal = self._strike(fault)
        if heal is None:
            self.spared += 1
            return None
        self.done.append(injected)
        self.suffering.add(victim)
        due = injected.began + fault.seconds
        heapq.heappush(self._cures, (due, next(self._count), injected, heal))
        return injected

    def heal(self, *, everything: bool = False) -> None:
        """Undo the faults whose time is over, or all of them."""
        while self._cures and (everything or self._cures[0][0] <= time.monotonic()):
            _, _, injected, heal = heapq.heappop(self._cures)
            heal()
            injected.healed = time.monotonic()
            self.suffering.discard(injected.victim)

    def _strike(self, fault: Fault) -> Heal | None:
        target = KIND_OF[fault.kind].target
        if target in ("worker", "coordinator"):
            fleet = self.fleet
            member = fleet.coordinator if target == "coordinator" else fleet.below[fault.victim]
            return self._strike_process(fault.kind, member)
        if target == "proxy":
            return self._strike_connection(fault)
        if target == "link":
            return self._pull_cable(self.fleet.network)
        return self._strike_disk(fault.kind, self.disk)

    def _strike_process(self, kind: FaultKind, member: Member) -> Heal | None:
        process = member.alive
        if process is None:
            return None
        if kind in (FaultKind.WORKER_KILLED, FaultKind.COORDINATOR_KILLED):
            process.kill()
        elif kind in (FaultKind.WORKER_TERMINATED, FaultKind.COORDINATOR_TERMINATED):
            process.terminate()
        else:
            process.send_signal(signal.SIGSTOP)
            return lambda: thaw(process)
        return nothing

    def _strike_connection(self, fault: Fault) -> Heal:
        proxy, amount = self.fleet.proxies[fault.victim], fault.amount
        if fault.kind == FaultKind.CONNECTION_CUT:
            proxy.cut()
            return nothing
        if fault.kind == FaultKind.CONNECTION_PARTITIONED:
            proxy.partition()
        elif fault.kind == FaultKind.CONNECTION_PARTITIONED_ONE_WAY:
            proxy.partition(frozenset((UP if amount < 0.5 else DOWN,)))
        elif fault.kind == FaultKind.CONNECTION_DELAYED:
            proxy.delay(LONGEST_DELAY * amount)
        else:
            proxy.throttle(SLOWEST * (FASTEST / SLOWEST) ** amount)
        return proxy.calm

    def _pull_cable(self, network: Network | None) -> Heal | None:
        if network is None:
            return None
        network.link("down")
        return lambda: network.link("up")

    def _strike_disk(self, kind: FaultKind, disk: SmallDisk | None) -> Heal | None:
        if disk is None:
            return None
        if kind == FaultKind.DISK_FULL:
            disk.fill()
            return disk.drain
        disk.read_only(True)
        return lambda: disk.read_only(False)


def thaw(process: subprocess.Popen[bytes]) -> None:
    """Let a stopped process go on; it may have been killed since."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
