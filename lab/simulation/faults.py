"""What each kind of fault does to the world, and how it passes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coordinator.checkpointing.writer import NEWEST
from lab.conditions import DOWN, UP, Disk, Fault, FaultKind, Machine
from lab.simulation.disk import WRITE_SECONDS
from lab.simulation.plan import SLOT_FAULTS
from lab.simulation.processes import VirtualCoordinator, VirtualWorker
from lab.simulation.world import Slot, World


def happen(world: World, fault: Fault) -> None:
    """The moment of a fault."""
    world.clock.trace("FAULT", f"{fault.kind} (slot {fault.victim + 1}, {fault.seconds:.2f} s)")
    slot = world.slots[fault.victim]
    slot.harmed = slot.harmed or fault.kind in SLOT_FAULTS
    _FAULTS[fault.kind](world, slot, fault)


def heal(world: World) -> None:
    """Nothing goes wrong from now on; there is at least one worker, and with aggregators all."""
    world.clock.trace("FAULT", "no more faults")
    world.healed = True
    world.disk.condition = Disk(seconds=WRITE_SECONDS)
    world.disk.on_write = lambda: None
    honest = [slot for slot in world.slots if not slot.is_byzantine]
    for slot in honest:
        slot.machine = slot.meets.machine
        _delay_by(slot, 0.0)
        slot.host.corrupt.clear()
        _partition(world, slot, (UP, DOWN), False)
    if world.coordinator is not None:
        world.coordinator.fuse = None
    nobody = all(slot.worker is None for slot in honest)
    if nobody or world.rng.random() < 0.5 or world.aggregators:
        for slot in honest:
            slot.returns = True
            slot.start()
    world.clock.after(world.patience(), world.deadline)


def _kill_worker(world: World, slot: Slot, fault: Fault) -> None:
    if slot.worker is not None:
        slot.returns = fault.amount < 0.8
        slot.worker.kill()


def _vanish(world: World, slot: Slot, fault: Fault) -> None:
    if slot.worker is not None:
        slot.returns = fault.amount < 0.8
        slot.worker.vanish()


def _leave(world: World, slot: Slot, fault: Fault) -> None:
    if slot.worker is not None:
        slot.returns = fault.amount < 0.5
        slot.worker.deliver(slot.worker.stop)


def _join(world: World, slot: Slot, fault: Fault) -> None:
    slot.returns = True
    slot.start()


def _freeze_worker(world: World, slot: Slot, fault: Fault) -> None:
    _freeze(world, slot.worker, fault.seconds)


def _freeze_coordinator(world: World, slot: Slot, fault: Fault) -> None:
    world.jumps += 1
    _freeze(world, world.coordinator, fault.seconds)


def _freeze(
    world: World, process: VirtualWorker | VirtualCoordinator | None, seconds: float
) -> None:
    if process is None or process.frozen:
        return
    process.freeze()
    world.clock.after(seconds, process.thaw)
    for slot in world.slots:
        for connection in slot.connections[-1:]:
            if connection.coordinator in process.ends:
                world.network.watch(connection, DOWN)
            elif connection.worker is process:
                world.network.watch(connection, UP)


def _partition_one(world: World, slot: Slot, fault: Fault) -> None:
    ways = [(UP, DOWN), (UP,), (DOWN,)][int(fault.amount * 3)]
    _partition(world, slot, ways, True)
    world.clock.after(fault.seconds, _partition, world, slot, ways, False)


def _partition_all(world: World, slot: Slot, fault: Fault) -> None:
    for each in world.slots:
        each.harmed = True
        _partition_one(world, each, fault)


def _partition(world: World, slot: Slot, ways: tuple[str, ...], parted: bool) -> None:
    for way in ways:
        link = slot.host.link
        now = link.partitioned | {way} if parted else link.partitioned - {way}
        slot.host.link = replace(link, partitioned=now)
        for connection in slot.connections:
            if not parted:
                connection.heal(way)
            elif connection.way(way).open:
                world.network.watch(connection, way)
    # A connection that both ends have lost is of no interest any more.
    slot.connections[:] = [c for c in slot.connections if not c.over]


def _drop(world: World, slot: Slot, fault: Fault) -> None:
    for connection in slot.connections[-1:]:
        connection.lose(UP if fault.amount < 0.5 else DOWN)


def _delay(world: World, slot: Slot, fault: Fault) -> None:
    _delay_by(slot, fault.amount * 0.4)
    world.clock.after(fault.seconds, _delay_by, slot, 0.0)


def _delay_by(slot: Slot, seconds: float) -> None:
    """Everything takes so much longer than usual."""
    host, usual = slot.host, slot.host.usual
    jitter = usual.jitter + seconds / 2
    host.link = replace(host.link, delay=usual.delay + seconds, jitter=jitter)


def _corrupt(world: World, slot: Slot, fault: Fault) -> None:
    slot.garbles = True
    slot.host.corrupt.append(UP if fault.amount < 0.7 else DOWN)


def _slow(world: World, slot: Slot, fault: Fault) -> None:
    slot.machine = Machine(slowness=1.0 + 12.0 * fault.amount)
    world.clock.after(fault.seconds, setattr, slot, "machine", slot.meets.machine)


def _jump_worker(world: World, slot: Slot, fault: Fault) -> None:
    if slot.worker is not None:
        slot.worker.skew += (fault.amount - 0.3) * 20


def _jump(world: World, slot: Slot, fault: Fault) -> None:
    world.jumps += 1
    if world.coordinator is not None:
        world.coordinator.skew += (fault.amount - 0.3) * 100


def _kill_coordinator(world: World, slot: Slot, fault: Fault) -> None:
    if world.coordinator is None:
        return
    if fault.amount < 0.3 or world.coordinator.frozen:
        world.coordinator.kill()
    else:  # between two actions
        world.coordinator.fuse = int(fault.amount * 40)


def _kill_in_write(world: World, slot: Slot, fault: Fault) -> None:
    def strike() -> None:
        world.disk.on_write = lambda: None
        if world.coordinator is not None:
            world.coordinator.kill()

    world.disk.on_write = strike


def _stop_coordinator(world: World, slot: Slot, fault: Fault) -> None:
    if world.coordinator is not None:
        world.coordinator.deliver(world.coordinator.stop)


def _disk_full(world: World, slot: Slot, fault: Fault) -> None:
    _change_disk(world, full=True)
    world.clock.after(fault.seconds, lambda: _change_disk(world, full=False))


def _change_disk(world: World, **changes: Any) -> None:
    world.disk.condition = replace(world.disk.condition, **changes)


def _disk_slow(world: World, slot: Slot, fault: Fault) -> None:
    _change_disk(world, seconds=WRITE_SECONDS + 2.0 * fault.amount)
    world.clock.after(fault.seconds, lambda: _change_disk(world, seconds=WRITE_SECONDS))


def _damage(world: World, slot: Slot, fault: Fault) -> None:
    newest = max((int(name) for name in world.disk.files if name != NEWEST), default=0)
    name = NEWEST if fault.amount < 0.5 else str(newest)
    if world.disk.damage(name):
        world.clock.trace("FAULT", f"checkpoint file {name} is unreadable")


_FAULTS: dict[FaultKind, Callable[[World, Slot, Fault], None]] = {
    FaultKind.WORKER_KILLED: _kill_worker,
    FaultKind.WORKER_VANISHED: _vanish,
    FaultKind.WORKER_FROZEN: _freeze_worker,
    FaultKind.CONNECTION_PARTITIONED: _partition_one,
    FaultKind.CONNECTION_CUT: _drop,
    FaultKind.CONNECTION_DELAYED: _delay,
    FaultKind.CONNECTION_CORRUPT: _corrupt,
    FaultKind.WORKER_TERMINATED: _leave,
    FaultKind.WORKER_SLOW: _slow,
    FaultKind.WORKER_CLOCK_JUMPS: _jump_worker,
    FaultKind.COORDINATOR_KILLED: _kill_coordinator,
    FaultKind.COORDINATOR_KILLED_WRITING: _kill_in_write,
    FaultKind.COORDINATOR_FROZEN: _freeze_coordinator,
    FaultKind.COORDINATOR_TERMINATED: _stop_coordinator,
    FaultKind.ALL_PARTITIONED: _partition_all,
    FaultKind.COORDINATOR_CLOCK_JUMPS: _jump,
    FaultKind.DISK_FULL: _disk_full,
    FaultKind.DISK_SLOW: _disk_slow,
    FaultKind.WORKER_JOINS: _join,
    FaultKind.FILE_DAMAGED: _damage,
}
