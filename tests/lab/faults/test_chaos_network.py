"""Bad networks and disks under real processes: the run waits or works around, and ends alike."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.core.events import Silent
from lab.conditions import DOWN, UP
from lab.faults.machine import INSIDE, Network, SmallDisk, why_no_disk
from lab.faults.proxy import Proxy
from tests.conftest import Reference
from tests.processes import TINY, Lab, Process, RunDir, eventually
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)
STEPS, SMALL = 60, 2
#: Seconds for each document, so that a run takes longer than it takes to notice silence.
SLOW = 0.04
PATIENCE = ("--worker-timeout", "0.5")


class Ring:
    """A coordinator and two workers, each behind a proxy of its own."""

    def __init__(self, lab: Lab, patience: tuple[str, ...]) -> None:
        flags = (*size(lab), *patience)
        lab.slow_down(SLOW)
        self.coordinator = lab.coordinator(*flags)
        self.run = lab.run_dir()
        target = address_of(self.run.endpoint())
        self.proxies = [Proxy(target), Proxy(target)]
        self.workers = [
            lab.worker(proxy.address, "--name", name)
            for proxy, name in zip(self.proxies, ("one", "two"), strict=True)
        ]
        self.run.happens("joined", 2)
        self.run.reaches(3)

    def ends_alike(self, reference: Reference) -> None:
        assert self.coordinator.wait() == 0, self.coordinator.err
        ends_alike(self.run, reference(STEPS, SMALL))
        assert [worker.wait() for worker in self.workers] == [0, 0]


def size(lab: Lab) -> tuple[str, ...]:
    return (*TINY, "--steps", str(STEPS), "--batch-size", str(SMALL), "--data", str(lab.data))


def address_of(endpoint: str) -> tuple[str, int]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


@pytest.fixture
def ring(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Ring]:
    """Silence is noticed after half a second, or as late as usual for the parameter ()."""
    ring = Ring(lab, getattr(request, "param", PATIENCE))
    try:
        yield ring
    finally:
        for proxy in ring.proxies:
            proxy.close()


@pytest.mark.parametrize("ring", [()], indirect=True, ids=["usual patience"])
def test_cut_connections_are_noticed_at_once_and_made_anew(
    ring: Ring, reference: Reference
) -> None:
    for proxy in ring.proxies:  # nobody is left, so the run cannot end before they are back
        proxy.partition()
    for proxy in ring.proxies:
        proxy.cut()
    ring.run.happens("lost", 2)
    assert "silent" not in ring.run.kinds()
    for proxy in ring.proxies:
        proxy.calm()
    ring.run.happens("joined", 4)
    ring.ends_alike(reference)


@pytest.mark.soak
def test_a_partitioned_connection_is_worked_around(ring: Ring, reference: Reference) -> None:
    ring.proxies[0].partition()
    done = len(ring.run.metrics)
    ring.run.happens("silent")
    ring.run.reaches(min(STEPS, done + 2))
    ring.proxies[0].calm()
    ring.ends_alike(reference)
    silent = [event.name for event in ring.run.events(Silent)]
    assert "one" in silent, "the other one may be, too, on a busy machine"


@pytest.mark.parametrize(
    "up",
    [pytest.param(True, id="upwards"), pytest.param(False, id="downwards", marks=pytest.mark.soak)],
)
def test_partitioned_one_way(ring: Ring, reference: Reference, up: bool) -> None:
    for proxy in ring.proxies:
        proxy.partition(frozenset((UP if up else DOWN,)))
    # No answers come, or no work goes out: the steps stand still either way. Whether a heartbeat of
    # ours or of ZeroMQ is missed first is a matter of milliseconds.
    given_up = 2 if up else 1
    eventually(
        lambda: sum(kind in ("lost", "silent") for kind in ring.run.kinds()) >= given_up,
        "workers are given up",
    )
    for proxy in ring.proxies:
        proxy.calm()
    ring.ends_alike(reference)


def test_delayed_and_throttled(ring: Ring, reference: Reference) -> None:
    ring.proxies[0].delay(0.1)
    ring.proxies[1].throttle(100_000)
    ring.run.reaches(len(ring.run.metrics) + 3)
    ring.proxies[0].throttle(30_000)
    ring.proxies[1].delay(0.2)
    ring.run.reaches(len(ring.run.metrics) + 3)
    for proxy in ring.proxies:
        proxy.calm()
    ring.ends_alike(reference)


# --- a link between two namespaces ---------------------------------------------------------------


def test_the_link_goes_down_and_up(lab: Lab, network: Network, reference: Reference) -> None:
    def start(place: str, name: str, *arguments: str) -> Process:
        return lab.start(*network.enter(place), sys.executable, "-m", *arguments, name=name)

    lab.slow_down(SLOW)
    flags = ("--run-dir", "runs/it", *size(lab), *PATIENCE)
    bind = ("--bind", f"tcp://{INSIDE}:*", "--insecure")  # nobody else is in these namespaces
    coordinator = start(network.inside, "coordinator", "coordinator", *bind, *flags)
    run = lab.run_dir()
    connect = ("--connect", run.endpoint(), "--engine", "scalar")
    far = start(network.outside, "far", "worker", *connect, "--name", "far")
    run.reaches(3)
    network.link("down")
    run.happens("silent")
    run.happens("waiting", 2)
    done = len(run.metrics)
    near = start(network.inside, "near", "worker", *connect, "--name", "near")
    run.reaches(min(STEPS, done + 2))
    near.send(signal.SIGSTOP)  # so that the run needs the far one again
    if len(run.metrics) < STEPS:
        network.link("up")
        eventually(lambda: run.metrics[-1]["step"] == STEPS or run.kinds().count("joined") >= 3,
                   "the far worker is back")  # fmt: skip
    near.send(signal.SIGCONT)
    assert coordinator.wait() == 0, coordinator.err
    ends_alike(run, reference(STEPS, SMALL))
    assert (far.err, near.err) == ("", "")


# --- a disk that takes nothing -------------------------------------------------------------------


@pytest.fixture
def disk(lab: Lab) -> Iterator[SmallDisk]:
    if reason := why_no_disk(lab.place):
        pytest.skip(reason)
    disk = SmallDisk(lab.place / "runs/it/checkpoints", 4 << 20)
    try:
        yield disk
    finally:
        disk.close()


@pytest.mark.soak
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_training_goes_on_while_no_checkpoint_can_be_written(
    lab: Lab, disk: SmallDisk, reference: Reference, how: str
) -> None:
    lab.slow_down(SLOW)
    flags = (*size(lab), "--checkpoint-every", "4")
    coordinator = lab.coordinator(*flags)
    run = lab.run_dir()
    address = run.endpoint()
    worker = lab.worker(address)
    run.happens("checkpoint_saved", 2)
    if how == "full":
        disk.fill()
    else:
        disk.read_only(True)
    run.happens("checkpoint_failed")
    # In the middle of that the coordinator dies, too, and comes back with the newest good file.
    coordinator.send(signal.SIGKILL)
    coordinator.wait()
    done = len(run.metrics)
    assert done < STEPS, "the run was over too soon for this test to show anything"
    again = lab.coordinator("--resume", "auto", "--bind", address, *flags)
    again.says("resuming from")
    if how == "full":
        disk.drain()
    else:
        disk.read_only(False)
    assert again.wait() == 0, again.err
    assert worker.wait() == 0, worker.err
    ends_alike(run, reference(STEPS, SMALL))
    assert newest_step(run) == STEPS


def newest_step(run: RunDir) -> int:
    """The step in the name of the last file."""
    files: list[Path] = sorted((run.path / "checkpoints").glob("step-*.msgpack"))
    return int(files[-1].stem.partition("-")[2])
