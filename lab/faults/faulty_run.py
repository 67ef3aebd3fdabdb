"""One run, quiet or with faults, and what became of it."""

from __future__ import annotations

import contextlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from coordinator.core.event_json import kind_of
from coordinator.core.event_text import describe
from coordinator.core.events import Difference, Expelled, Foreign
from lab.conditions import Fault
from lab.event_reader import read_events
from lab.faults.fleet import Fleet, FleetError, Plan
from lab.faults.injector import FaultInjector, InjectedFault
from lab.faults.machine import Network, SmallDisk
from lab.faults.watch import Watch, read_lines
from microgpt.checkpoint.format import CheckpointError, load

LOOK_SECONDS = 0.01
MERCY_SECONDS = 2.0  # without a step, after which no further fault comes
AFTERMATH = 2.5  # seconds after the end of a fault in which a pause is called its doing
STUCK_SECONDS = 60.0  # without a step while nothing suffers: the run hangs
FIRST_STEP_SECONDS = 300.0  # the same before the first step: kernels may have to be compiled


class Show(Protocol):
    """Tells people how it goes."""

    def step(self, step: int) -> None:
        """So many steps are done."""

    def fault(self, injected: InjectedFault) -> None:
        """Something has been broken."""


@dataclass(frozen=True)
class Survived:
    """What a kind of fault did: how often, and the pauses of training that followed, seconds."""

    kind: str
    pauses: tuple[float, ...]

    @property
    def median(self) -> float:
        """The usual pause."""
        return statistics.median(self.pauses)

    @property
    def worst(self) -> float:
        """The longest one."""
        return max(self.pauses)


@dataclass(frozen=True)
class Outcome:
    """How a run ended. ``seconds`` are from its first step done to its last."""

    state_sha256: str
    steps: int
    redone: int
    seconds: float
    survived: tuple[Survived, ...]
    events: Counter[str]
    restarts: dict[str, int]
    complaints: tuple[str, ...] = field(default=())

    @property
    def rate(self) -> float:
        """Steps per second."""
        return self.steps / self.seconds if self.seconds > 0 else 0.0


def conduct(
    plan: Plan,
    faults: Iterator[Fault],
    show: Show,
    *,
    network: Network | None = None,
    disk_size: int = 0,
    stop_after: int = 0,
) -> Outcome:
    """Train to the end while ``faults`` happen. Raises FleetError if the run cannot go on.

    ``disk_size`` puts a small disk of so many bytes under the checkpoints; ``stop_after`` ends the
    run in the middle after so many steps, to measure its pace.
    """
    with contextlib.ExitStack() as stack:
        disk = None
        if disk_size:
            disk = SmallDisk(plan.run_dir / "checkpoints", disk_size)
            stack.callback(disk.close)
        fleet = Fleet(plan, network)
        stack.callback(fleet.close)
        watch = Watch(plan.run_dir)
        stack.callback(watch.close)
        injector = FaultInjector(fleet, disk)
        fleet.start()
        first = _attend(fleet, watch, injector, faults, show, stop_after)
        injector.heal(everything=True)
        if not stop_after:
            fleet.finish()
    return _outcome(plan, fleet, watch, injector, first, stopped=bool(stop_after))


def _attend(
    fleet: Fleet,
    watch: Watch,
    injector: FaultInjector,
    faults: Iterator[Fault],
    show: Show,
    stop_after: int,
) -> float:
    """The run itself. Returns when its first step was done; faults begin from there.

    Their clock stands still while training does: faults may meet while it recovers, but on a slow
    machine it would never recover if they went on for all that time.
    """
    first = clock = 0.0
    looked = time.monotonic()
    coming = next(faults, None)
    while not fleet.look_after():
        if watch.look():
            first = first or watch.last
            show.step(watch.step)
            if stop_after and watch.done >= stop_after:
                return first
        elif not injector.suffering and time.monotonic() - watch.last > (
            STUCK_SECONDS if first else FIRST_STEP_SECONDS
        ):
            raise FleetError(f"training stands still after step {watch.step}")
        injector.heal()
        now = time.monotonic()
        if first and now - watch.last < MERCY_SECONDS:
            clock += now - looked  # of the faults
        looked = now
        while first and coming is not None and coming.at <= clock:
            injected = injector.inflict(coming)
            if injected is not None:
                show.fault(injected)
            coming = next(faults, None)
        time.sleep(LOOK_SECONDS)
    watch.look()
    show.step(watch.step)
    return first


def _outcome(
    plan: Plan, fleet: Fleet, watch: Watch, injector: FaultInjector, first: float, *, stopped: bool
) -> Outcome:
    pauses: dict[str, list[float]] = {}
    for injected in sorted(injector.done, key=lambda injected: injected.fault.kind):
        pause = watch.pause_after(injected.began, injected.healed + AFTERMATH)
        pauses.setdefault(injected.fault.kind, []).append(pause)
    digest = ""
    if not stopped:
        with contextlib.suppress(CheckpointError):
            digest = load(plan.run_dir / "checkpoint.msgpack").state_sha256
    return Outcome(
        digest,
        watch.step,
        watch.done - watch.step,
        watch.last - first,
        tuple(Survived(kind, tuple(times)) for kind, times in pauses.items()),
        Counter(kind_of(recorded.event) for recorded in read_events(plan.run_dir)),
        {member.name: len(member.starts) - 1 for member in fleet.members},
        () if stopped else tuple(complaints(plan)),
    )


def complaints(plan: Plan) -> Iterator[str]:
    """What is wrong with the record and the logs of a complete run."""
    steps = [line["step"] for line in read_lines(plan.run_dir / "metrics.jsonl")]
    if steps != list(range(1, len(steps) + 1)):
        yield "the record of steps has a gap or a repetition"
    for event in (recorded.event for recorded in read_events(plan.run_dir)):
        if isinstance(event, Difference | Expelled | Foreign):
            yield f"in the events: {describe(event)}"
    for log in sorted((plan.run_dir / "logs").iterdir()):
        for line in log.read_text(errors="replace").splitlines():
            if line.startswith("Traceback") or "Assertion failed" in line:
                yield f"in {log.name}: {line}"
    left = [path.name for path in leftovers(plan.run_dir)]
    if left:
        yield f"left behind: {', '.join(left)}"


def leftovers(run_dir: Path) -> list[Path]:
    """Temporary files that should be gone."""
    found = [path for path in run_dir.rglob(".*") if path.is_file()]
    return sorted(path for path in found if os.path.exists(path))
