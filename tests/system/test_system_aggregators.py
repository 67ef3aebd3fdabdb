"""Trees of real processes: the bits of a star, whoever dies, and less for the coordinator to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from pathlib import Path

import pytest

from coordinator.core.events import Joined
from microgpt.checkpoint import format as checkpoint_format
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import TINY, Lab, session_members

pytestmark = pytest.mark.timeout(300)
STEPS, LONG = 6, 30
BATCH = 12
SLOW = 0.03  # seconds for each document


class Tree:
    """A coordinator with aggregators, and workers below them by turns."""

    def __init__(
        self, lab: Lab, steps: int, aggregators: int, workers: int, batch_size: int = BATCH
    ) -> None:
        size = ("--steps", str(steps), "--batch-size", str(batch_size))
        self.coordinator = lab.coordinator(*TINY, *size, "--data", str(lab.data))
        self.run = lab.run_dir()
        self.address = self.run.endpoint()
        self.aggregators = [
            lab.aggregator(self.address, "--name", f"aggregator-{number}")
            for number in range(aggregators)
        ]
        self.addresses = [aggregator.listens_at() for aggregator in self.aggregators]
        self.workers = [
            lab.worker(self.addresses[number % aggregators], "--name", f"worker-{number}")
            for number in range(workers)
        ]

    def ends_alike(self, expected: checkpoint_format.Checkpoint) -> None:
        """All is done, with these bits, and every process has ended well."""
        assert self.coordinator.wait() == 0, self.coordinator.err
        saved = checkpoint_format.load(self.run.newest)
        assert saved.losses == expected.losses
        assert saved.state_sha256 == expected.state_sha256


@pytest.mark.soak
def test_a_tree_ends_with_the_bits_of_a_star_and_everybody_goes_home(
    lab: Lab, reference: Reference
) -> None:
    tree = Tree(lab, STEPS, aggregators=2, workers=4)
    tree.ends_alike(reference(STEPS, BATCH))
    members = [(event.name, event.engine) for event in tree.run.events(Joined)]
    assert sorted(members) == [("aggregator-0", "aggregator"), ("aggregator-1", "aggregator")]
    for aggregator in tree.aggregators:
        assert aggregator.wait() == 0, aggregator.err
        assert "Traceback" not in aggregator.out + aggregator.err
        assert " is ready for work" in aggregator.out
    said = "".join(aggregator.out for aggregator in tree.aggregators)
    for number, worker in enumerate(tree.workers):
        if f"worker-{number} has joined" in said:  # else it has come when all was done
            assert worker.wait() == 0, worker.err


@pytest.mark.soak
def test_aggregators_may_stand_below_each_other(lab: Lab, reference: Reference) -> None:
    tree = Tree(lab, STEPS, aggregators=1, workers=0)
    lower = lab.aggregator(tree.addresses[0], "--name", "lower")
    lab.worker(lower.listens_at(), "--name", "lowest")
    tree.ends_alike(reference(STEPS, BATCH))
    assert lower.wait() == 0, lower.err


def middle(lab: Lab, aggregators: int = 2) -> Tree:
    """A tree in the middle of a run that takes a while."""
    lab.slow_down(SLOW)
    tree = Tree(lab, LONG, aggregators, 4, batch_size=8)
    tree.run.happens("ready", aggregators)
    tree.run.reaches(3)
    return tree


@pytest.mark.soak
def test_a_killed_aggregator_leaves_no_trace_and_its_workers_find_the_next_one(
    lab: Lab, reference: Reference
) -> None:
    tree = middle(lab)
    tree.aggregators[0].send(signal.SIGKILL)
    tree.run.happens("lost")
    again = lab.aggregator(tree.address, "--bind", tree.addresses[0], "--name", "again")
    tree.run.happens("ready", 3)
    tree.ends_alike(reference(LONG, 8))
    assert "worker-0 has joined" in again.out
    assert "worker-2 has joined" in again.out


@pytest.mark.parametrize("how", [*map(soak, (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM))])
def test_a_worker_below_that_goes_leaves_no_trace(
    lab: Lab, reference: Reference, how: signal.Signals
) -> None:
    tree = middle(lab)
    tree.workers[1].send(how)
    tree.ends_alike(reference(LONG, 8))
    assert not {"lost", "silent", "expelled"} & set(tree.run.kinds()), "the aggregator has stayed"


@pytest.mark.soak
def test_without_workers_an_aggregator_gives_back_what_it_has(
    lab: Lab, reference: Reference
) -> None:
    tree = middle(lab)
    for worker in tree.workers[::2]:
        worker.send(signal.SIGKILL)
    tree.aggregators[0].says("worker-2 is gone")
    tree.ends_alike(reference(LONG, 8))


@pytest.mark.soak
def test_a_coordinator_that_is_killed_finds_the_tree_again(lab: Lab, reference: Reference) -> None:
    tree = middle(lab)
    tree.coordinator.send(signal.SIGKILL)
    tree.coordinator.popen.wait()
    flags = ("--bind", tree.address, "--resume", "runs/it", "--checkpoint-every", "1")
    tree.coordinator = lab.coordinator(*flags, run="")
    tree.ends_alike(reference(LONG, 8))
    for process in tree.aggregators:
        assert process.wait() == 0, process.err


def test_train_starts_a_tree_and_an_aggregator_that_is_killed_anew(
    lab: Lab, reference: Reference
) -> None:
    size = ("--steps", str(LONG), "--batch-size", "8", "--data", str(lab.data))
    tree = ("--aggregators", "2", "--workers", "4", "--engine", "scalar")
    lab.slow_down(SLOW)
    train = lab.train(*TINY, *size, *tree)
    run = lab.run_dir()
    run.happens("ready", 2)
    run.reaches(2)
    (victim,) = [pid for pid in session_members(train.pid) if b"aggregator-1" in command_of(pid)]
    os.kill(victim, signal.SIGKILL)
    run.happens("lost")
    run.happens("joined", 3)
    assert train.wait() == 0, train.err
    assert "aggregator-1 was killed (SIGKILL); starting it again" in train.err
    saved = checkpoint_format.load(run.newest)
    assert saved.state_sha256 == reference(LONG, 8).state_sha256
    assert {event.name for event in run.events(Joined)} == {"aggregator-1", "aggregator-2"}
    assert not session_members(train.pid)


def command_of(pid: int) -> bytes:
    """The words of a process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--aggregators", "3", "--workers", "2"), "--aggregators 3 are too many for 2 workers"),
        (("--aggregators", "999"), "'999' is not a whole number from 0 to 256"),
    ],
)
def test_a_tree_that_cannot_be_is_one_line(lab: Lab, flags: tuple[str, ...], said: str) -> None:
    train = lab.train(*TINY, *flags)
    assert train.wait() in (1, 2)
    assert said in train.err
    assert len(train.err.splitlines()) == 1


def test_a_dry_run_shows_who_is_below_whom(lab: Lab) -> None:
    train = lab.train(*TINY, "--aggregators", "2", "--workers", "3", "--dry-run")
    assert train.wait() == 0
    lines = train.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "coordinator", "aggregator-1", "aggregator-2", "worker-1", "worker-2", "worker-3",
    ]  # fmt: skip
    above = [line.split("--connect ")[1].split()[0] for line in lines[3:]]
    assert above == ["AGGREGATOR-1", "AGGREGATOR-2", "AGGREGATOR-1"]


@pytest.mark.soak
def test_keys_are_wanted_on_both_sides(lab: Lab, reference: Reference) -> None:
    size = ("--steps", str(STEPS), "--batch-size", str(BATCH))
    flags = (*TINY, *size, "--data", str(lab.data), "--curve", "keys")
    coordinator = lab.coordinator(*flags)
    run = lab.run_dir()
    more = ("--curve", "keys", "--curve-below", "below")
    aggregator = lab.aggregator(run.endpoint(), *more)
    address = aggregator.listens_at()
    strange = lab.place / "strange"
    strange.mkdir()
    shutil.copy(lab.place / "below" / "coordinator.key", strange)
    stranger = lab.worker(address, "--curve", "strange")  # makes a pair that nobody has let in
    stranger.expected = True
    assert stranger.wait() == 1
    assert "does not know this worker" in stranger.err
    worker = lab.worker(address, "--curve", "below")
    assert coordinator.wait() == 0, coordinator.err
    saved = checkpoint_format.load(run.newest)
    assert saved.state_sha256 == reference(STEPS, BATCH).state_sha256
    assert worker.wait() == 0, worker.err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--bind", "tcp://0.0.0.0:0"), "give --curve-below DIR"),
        soak(("--bind", "nowhere"), "--bind nowhere is no address"),
        soak(("--connect", "tcp://x:99999"), "99999 is no port"),
        soak(("--name", "a\nb"), "--name must be at most 200 letters"),
    ],
)
def test_bad_flags_are_one_line(lab: Lab, flags: tuple[str, ...], said: str) -> None:
    process = lab.aggregator("tcp://127.0.0.1:1", *flags)
    assert process.wait() == 1
    assert said in process.err
    assert len(process.err.splitlines()) == 1


def test_work_for_replicas_is_one_line(lab: Lab) -> None:
    size = ("--steps", "2", "--strategy", "diloco", "--replicas", "2")
    lab.coordinator(*TINY, *size, "--data", str(lab.data)).expected = True
    aggregator = lab.aggregator(lab.run_dir().endpoint())
    aggregator.expected = True
    lab.worker(aggregator.listens_at()).expected = True
    assert aggregator.wait() == 1
    assert aggregator.err.startswith("error: this run gives work to replicas")
    assert len(aggregator.err.splitlines()) == 1
