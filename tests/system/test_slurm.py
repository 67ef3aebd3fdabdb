"""``--launcher slurm`` on a Slurm of four nodes on this machine: ``make test-clusters``."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.core.events import Joined
from lab.launch.launch_record import read_launch
from lab.launch.launchers.base import WorkerHandle, WorkerStatus, from_json
from microgpt.checkpoint.format import load
from tests.conftest import Reference
from tests.processes import TINY, Lab, eventually
from tests.slurm_cluster import NODES, SlurmCluster, environments, missing

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.skipif(bool(missing()), reason=missing()),
]
STEPS, BATCH = 300, 8
RUN = "runs/it"


@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    with SlurmCluster() as cluster:
        yield cluster


@pytest.fixture
def user(lab: Lab, slurm: SlurmCluster) -> Iterator[Lab]:
    """Somebody with Slurm's commands. Their jobs are gone after the test."""
    lab.env.update(slurm.variables)
    yield lab
    slurm.run("scancel", "--user=root")
    eventually(lambda: not slurm.run("squeue", "--noheader"), "no job is left")


def submit(user: Lab, *flags: str, steps: int = STEPS, workers: int = 4, nodes: int = 4) -> str:
    """Submit a run with workers that take their time; the number of its job."""
    size = (*TINY, "--steps", str(steps), "--batch-size", str(BATCH), "--data", str(user.data))
    work = ("--workers", str(workers), "--engine", "scalar", "--launcher", "slurm")
    spread = ("--launcher-option", f"nodes={nodes}")
    train = user.train(*size, *work, *spread, "--checkpoint-every", "20", *flags)
    assert train.wait() == 0, train.err
    job = read_launch(user.place / RUN).known_as["job"]
    assert (
        train.out.splitlines()[0] == f"job {job} is submitted: {workers} workers, writing to {RUN}"
    )
    return job


def ask(user: Lab, *words: str) -> str:
    """What ``microgpt workers`` prints."""
    asked = user.script("workers", RUN, *words)
    assert asked.wait() == 0, asked.err
    return asked.out


def workers(user: Lab) -> dict[str, WorkerHandle]:
    return {each.name: each for each in from_json(ask(user, "list", "--json"))}


def log(user: Lab) -> str:
    path = user.place / RUN / "logs" / "coordinator.log"
    return path.read_text() if path.exists() else ""


def pid_of(user: Lab, name: str) -> int:
    """The process of a worker, not what has started it."""
    for pid, variables in environments():
        if f"PYTHONPATH={user.env['PYTHONPATH']}" in variables and "SLURM_PROCID=0" in variables:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"--name" in words and name.encode() in words and b"python" in words[0]:
                return pid
    raise AssertionError(f"{name} does not run")


def processes_of(user: Lab) -> list[list[bytes]]:
    """The command lines of whatever still works in the user's folder."""
    found = []
    for pid, variables in environments():
        if (
            f"MICROGPT_CACHE_DIR={user.env['MICROGPT_CACHE_DIR']}" in variables
            and pid != os.getpid()
        ):
            found.append(Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))
    return found


def test_a_job_that_meets_every_fault_ends_with_the_same_bits(
    user: Lab, slurm: SlurmCluster, reference: Reference
) -> None:
    user.slow_down(0.02)
    job = submit(user)
    run = user.run_dir(RUN)
    run.reaches(5)
    assert set(workers(user)) == {f"worker-{number}" for number in range(1, 5)}

    # A worker is killed: it alone is started again.
    others = {name: pid_of(user, name) for name in ("worker-1", "worker-3", "worker-4")}
    os.kill(pid_of(user, "worker-2"), signal.SIGKILL)
    eventually(lambda: workers(user)["worker-2"].restarts == 1, "worker-2 is started again")
    run.happens("joined", times=5)
    assert {name: pid_of(user, name) for name in others} == others

    # A node dies, which is not that of the coordinator: the others go on.
    first = slurm.field(job, "BatchHost")
    where = {each.name: each.where for each in workers(user).values()}
    lost = next(node for node in NODES if node != first and node in where.values())
    steps = len(run.metrics)
    slurm.crash(lost)
    run.reaches(steps + 5)
    assert slurm.state(job) == "RUNNING"

    # The time limit is near: the coordinator saves, and the job is queued again.
    slurm.run("scancel", "--batch", "--signal=TERM", job)
    eventually(lambda: slurm.state(job) == "PENDING", "the job is queued again")
    saved = load(run.newest).step
    assert saved >= steps
    slurm.boot(lost)
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    eventually(lambda: slurm.state(job) == "COMPLETED", "the job is done", timeout=300)

    assert slurm.field(job, "Restarts") == "1"
    assert f"stopped after step {saved}; to go on" in log(user)
    assert [line["step"] for line in run.metrics] == [*range(1, STEPS + 1)]
    assert load(run.newest).state_sha256 == reference(STEPS, BATCH).state_sha256
    assert not processes_of(user)
    assert ask(user, "stop") == "", "what has ended may be stopped"


@pytest.mark.parametrize(("workers", "nodes"), [(4, 4), (2, 1)])
def test_a_job_whose_first_node_dies_goes_on_by_itself(
    user: Lab, slurm: SlurmCluster, reference: Reference, workers: int, nodes: int
) -> None:
    """A worker elsewhere has no coordinator any more and queues the job again, or Slurm does."""
    user.slow_down(0.02)
    job = submit(user, workers=workers, nodes=nodes)
    run = user.run_dir(RUN)
    run.reaches(60)
    first = slurm.field(job, "BatchHost")
    slurm.crash(first)
    saved = load(run.newest).step
    eventually(lambda: slurm.state(job) == "PENDING", "the job is queued again", timeout=200)
    slurm.boot(first)
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    eventually(lambda: slurm.state(job) == "COMPLETED", "the job is done", timeout=200)
    assert slurm.field(job, "Restarts") != "0"
    assert f"resuming from {RUN}/checkpoint.msgpack after step {saved}" in log(user)
    assert load(run.newest).state_sha256 == reference(STEPS, BATCH).state_sha256
    assert not processes_of(user)


def test_a_job_saves_before_its_time_is_over_and_goes_on(
    user: Lab, slurm: SlurmCluster, reference: Reference
) -> None:
    """Slurm counts in minutes, and sends the signal up to one earlier than asked."""
    user.slow_down(0.06)
    limit = ("--launcher-option", "time=2", "--launcher-option", "grace=45")
    job = submit(user, *limit, steps=900)
    run = user.run_dir(RUN)
    run.reaches(5)
    eventually(lambda: slurm.state(job) == "PENDING", "its time is nearly over", timeout=200)
    saved = load(run.newest).step
    assert 0 < saved == len(run.metrics) < 900
    assert f"stopped after step {saved}; to go on" in log(user)
    slurm.run("scontrol", "update", f"JobId={job}", "StartTime=now", "TimeLimit=20")
    eventually(lambda: slurm.state(job) == "COMPLETED", "the job is done", timeout=300)
    assert load(run.newest).state_sha256 == reference(900, BATCH).state_sha256


def test_workers_are_scaled_read_and_stopped_from_elsewhere(user: Lab, slurm: SlurmCluster) -> None:
    user.slow_down(0.05)
    job = submit(user, steps=1900)
    run = user.run_dir(RUN)
    run.happens("ready", times=4)
    assert ask(user, "scale", "2") == "2 workers instead of 4\n"
    gone = eventually(
        lambda: {n for n, each in workers(user).items() if each.status is WorkerStatus.ENDED},
        "two are sent home",
    )
    assert gone <= {"worker-3", "worker-4"}
    assert ask(user, "scale", "4") == "4 workers instead of 2\n"
    run.happens("joined", times=6)
    assert {event.name for event in run.events(Joined)} >= {"worker-5", "worker-6"}
    refused = user.script("scale", RUN, "5")
    assert refused.wait() == 1
    assert refused.err == f"error: srun: job {job} has room for 4 workers, not for 5\n"
    assert "worker-1 offers itself to tcp://" in ask(user, "logs", "worker-1")
    assert ask(user, "stop") == ""
    assert slurm.state(job) == "CANCELLED"
    assert load(run.newest).step == len(run.metrics)
    assert not processes_of(user)


def test_a_job_that_waits_says_so_and_one_that_cannot_be_is_refused(
    user: Lab, slurm: SlurmCluster
) -> None:
    job = submit(user, "--launcher-option", "begin=now+1hour")

    def why() -> str:
        asked = user.script("workers", RUN)
        assert asked.wait() == 1
        return asked.err.removeprefix(f"error: job {job} waits in the queue: ")

    eventually(lambda: why() == "BeginTime\n", "Slurm has looked at the job")
    assert ask(user, "stop") == ""
    assert slurm.state(job) == "CANCELLED"
    wrong = user.train("--launcher", "slurm", "--launcher-option", "partition=no", run="runs/no")
    assert wrong.wait() == 1
    failed = "Batch job submission failed: Invalid partition name specified"
    assert wrong.err == f"error: sbatch: {failed}\n"
    assert not (user.place / "runs/no").exists()
