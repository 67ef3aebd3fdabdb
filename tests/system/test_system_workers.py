"""Whatever the workers do (come, go, die, sleep, differ), the run ends with the same bits."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from coordinator.core.events import Joined, Lost, Waiting
from microgpt.checkpoint import format as checkpoint_format
from microgpt.engine import ENGINES
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import TINY, Lab, Process, RunDir, eventually, session_members

pytestmark = pytest.mark.timeout(300)
STEPS = 6
#: Slow workers, and enough small steps that there is time for an accident in the middle.
LONG = 40
SMALL = 4
SLOW = 0.03  # seconds for each document


def flags(lab: Lab, steps: int, *more: str) -> list[str]:
    size = ("--steps", str(steps), "--batch-size", "12")
    return [*TINY, *size, "--data", str(lab.data), *more]


def ends_alike(run: RunDir, expected: checkpoint_format.Checkpoint) -> None:
    saved = checkpoint_format.load(run.newest)
    assert saved.step == expected.step
    assert saved.losses == expected.losses
    assert saved.state_sha256 == expected.state_sha256
    assert [record["step"] for record in run.metrics] == list(range(1, expected.step + 1))


@pytest.mark.parametrize("workers", [3, *map(soak, (1, 2, 5))])
def test_any_number_of_workers_gives_the_same_bits(
    lab: Lab, reference: Reference, workers: int
) -> None:
    train = lab.train(*flags(lab, STEPS, "--workers", str(workers), "--engine", "scalar"))
    assert train.wait() == 0, train.err
    run = lab.run_dir()
    ends_alike(run, reference(STEPS, 12))
    # Five workers on few cores: the last of them may come when all is done.
    assert run.kinds().count("joined") == workers or workers > 2
    assert "Traceback" not in train.out + train.err


@pytest.mark.soak
@pytest.mark.parametrize(
    ("batch_size", "shard_size"),
    [(7, 4), soak(5, 1), soak(1, 1), soak(32, 32)],
)
def test_shards_of_any_size_give_the_same_bits(
    lab: Lab, reference: Reference, batch_size: int, shard_size: int
) -> None:
    cut = ("--batch-size", str(batch_size), "--shard-size", str(shard_size))
    train = lab.train(*flags(lab, STEPS, "--workers", "2", "--engine", "scalar", *cut))
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), reference(STEPS, batch_size))


def two_workers(lab: Lab, *more: str) -> tuple[Process, RunDir, list[Process]]:
    """A run in the middle: two workers, each of which has a part in it."""
    size = ("--batch-size", str(SMALL), "--shard-size", "1")
    lab.slow_down(SLOW)
    coordinator = lab.coordinator(*flags(lab, LONG, *size, *more))
    run = lab.run_dir()
    address = run.endpoint()
    workers = [lab.worker(address, "--name", name) for name in ("one", "two")]
    run.happens("joined", 2)
    run.reaches(3)
    return coordinator, run, workers


@pytest.mark.soak
def test_a_killed_worker_and_one_that_joins_leave_no_trace_in_the_bits(
    lab: Lab, reference: Reference
) -> None:
    coordinator, run, workers = two_workers(lab)
    workers[0].send(signal.SIGKILL)
    run.happens("lost")
    lab.worker(run.endpoint(), "--name", "three")
    run.happens("joined", 3)
    assert coordinator.wait() == 0
    ends_alike(run, reference(LONG, SMALL))
    assert workers[1].wait() == 0, "a worker ends with the run, and well"
    assert run.events(Lost)[0].name == "one"


def test_a_stopped_worker_loses_its_shards_and_comes_back(lab: Lab, reference: Reference) -> None:
    coordinator, run, workers = two_workers(lab, "--worker-timeout", "0.5")
    workers[0].send(signal.SIGSTOP)
    # The connection's own heartbeats or ours: whichever notices first.
    eventually(lambda: {"silent", "lost"} & set(run.kinds()), "the stopped worker is given up")
    run.reaches(len(run.metrics) + 2)
    workers[0].send(signal.SIGCONT)
    run.happens("joined", 3)
    assert coordinator.wait() == 0
    ends_alike(run, reference(LONG, SMALL))
    assert workers[0].wait() == 0
    assert workers[1].wait() == 0


def test_a_worker_that_leaves_politely_is_not_called_lost(lab: Lab, reference: Reference) -> None:
    coordinator, run, workers = two_workers(lab)
    workers[0].send(signal.SIGINT)
    assert workers[0].wait(2.0) == 130
    assert "Traceback" not in workers[0].out + workers[0].err
    assert coordinator.wait() == 0
    ends_alike(run, reference(LONG, SMALL))
    assert run.kinds().count("left") == 1
    assert not {"lost", "silent", "expelled"} & set(run.kinds())
    assert "warning" not in coordinator.err


def test_with_no_worker_left_the_coordinator_waits_and_says_so(
    lab: Lab, reference: Reference
) -> None:
    coordinator, run, workers = two_workers(lab)
    for worker in workers:
        worker.send(signal.SIGTERM)
        assert worker.wait(2.0) == 143
    run.happens("waiting", 2)  # the first was before anybody had come
    assert run.events(Waiting)[-1].version == len(run.metrics)
    coordinator.says(f"waiting for workers at step {len(run.metrics) + 1}")
    lab.worker(run.endpoint())
    assert coordinator.wait() == 0
    ends_alike(run, reference(LONG, SMALL))


@pytest.mark.soak
def test_a_worker_may_be_there_before_the_coordinator(lab: Lab, reference: Reference) -> None:
    address = f"ipc://{lab.place}/socket"
    worker = lab.worker(address)
    worker.says("offers itself")
    coordinator = lab.coordinator(*flags(lab, STEPS), "--bind", address)
    assert coordinator.wait() == 0
    assert worker.wait() == 0
    ends_alike(lab.run_dir(), reference(STEPS, 12))


@pytest.mark.parametrize("engine", [ENGINES[0], *map(soak, ENGINES[1:])])
def test_engines_may_be_mixed(lab: Lab, reference: Reference, engine: str) -> None:
    lab.slow_down(SLOW)
    coordinator = lab.coordinator(
        *flags(lab, LONG, "--batch-size", str(SMALL), "--shard-size", "2")
    )
    run = lab.run_dir()
    address = run.endpoint()
    mixed = [lab.worker(address, "--engine", engine), lab.worker(address, "--engine", ENGINES[-1])]
    assert coordinator.wait(80) == 0, [worker.out + worker.err for worker in mixed]
    ends_alike(run, reference(LONG, SMALL))
    joined = {event.engine for event in run.events(Joined)}
    assert joined <= {engine, ENGINES[-1]}


def test_long_computations_are_not_taken_for_silence(lab: Lab) -> None:
    # One shard of 6 documents in a wider model takes the scalar engine far longer than the
    # 1 s after which a silent worker would lose it.
    width = ("--n-embd", "32", "--n-head", "4", "--block-size", "8")
    size = ("--batch-size", "6", "--shard-size", "8", "--worker-timeout", "1")
    coordinator = lab.coordinator(*width, *size, "--steps", "1", "--data", str(lab.data))
    run = lab.run_dir()
    worker = lab.worker(run.endpoint())
    assert coordinator.wait(90) == 0
    assert worker.wait() == 0
    (record,) = run.metrics
    assert record["seconds"] > 2 * 1.0, "the shard was too easy for this test to show anything"
    assert not {"silent", "lost", "expelled"} & set(run.kinds())
    assert run.kinds().count("joined") == 1


@pytest.mark.soak
def test_two_results_for_every_shard_give_the_same_bits(lab: Lab, reference: Reference) -> None:
    more = ("--workers", "2", "--engine", "scalar", "--verify-fraction", "1")
    train = lab.train(*flags(lab, STEPS, *more))
    assert train.wait() == 0
    ends_alike(lab.run_dir(), reference(STEPS, 12))
    assert "difference" not in lab.run_dir().kinds()


def test_a_killed_worker_is_replaced_by_train_py(lab: Lab, reference: Reference) -> None:
    size = ("--batch-size", str(SMALL), "--shard-size", "1")
    lab.slow_down(SLOW)
    train = lab.train(*flags(lab, LONG, "--workers", "2", "--engine", "scalar", *size))
    run = lab.run_dir()
    run.happens("joined", 2)
    run.reaches(2)
    victim = find_child(train, "worker-1")
    signal_process(victim, signal.SIGKILL)
    train.says("worker-1 was killed (SIGKILL); starting it again")
    assert train.wait() == 0, train.err
    ends_alike(run, reference(LONG, SMALL))
    assert run.kinds().count("lost") == 1


def find_child(process: Process, word: str) -> int:
    """The process in the session of ``process`` whose command line has this word."""
    for pid in session_members(process.pid):
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if word.encode() in file.read().split(b"\0"):
                return pid
    raise AssertionError(f"{process.name} has no child {word}")


def signal_process(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)


assert sys.platform.startswith("linux"), "these tests look into /proc"


def test_a_worker_that_waits_says_for_what(lab: Lab) -> None:
    nobody = lab.worker("tcp://127.0.0.1:9")
    nobody.says(
        "no connection to tcp://127.0.0.1:9 for 2 s, still trying: does a coordinator run there"
    )
    (lab.place / "keys").mkdir()
    keyless = lab.worker("tcp://127.0.0.1:9", "--curve", "keys")
    keyless.says("waiting for keys/coordinator.key")
    keyless.says("there is no keys/coordinator.key yet: a coordinator that is started with --curve")
