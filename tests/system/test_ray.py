"""``--launcher ray`` on a real Ray, with several nodes on this machine: ``make test-clusters``."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.launch.launch_record import read_launch
from lab.launch.launchers.base import WorkerHandle, WorkerStatus
from lab.launch.launchers.ray_launcher import owner_of
from lab.launch.launchers.registry import attach
from microgpt.checkpoint.format import load
from microgpt.support.cli import INTERRUPTED
from tests.processes import (
    ENDLESS,
    ROOT,
    TINY,
    Lab,
    Process,
    crowded,
    die_with_us,
    eventually,
    session_members,
)

pytest.importorskip("ray", reason="needs Ray: pip install '.[ray]'")
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

NOTICED = 3.0  # seconds until a worker's death has been noticed; Ray takes 15 for a node's


class RayNodes:
    """A cluster with a head of ``cpus`` processors; see ``ray_nodes.py``."""

    def __init__(self, lab: Lab, cpus: int) -> None:
        # Ray makes sockets in it, whose paths must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
        lab.env["RAY_TMPDIR"] = str(self.folder)
        lab.env["RAY_worker_niceness"] = "0"  # else they wait for all others of a busy machine
        self._errors = open(self.folder / "nodes.err", "wb")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/system/ray_nodes.py"), str(cpus)],
            env=lab.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
            preexec_fn=die_with_us,
            text=True,
        )
        self.address, head = self._line().split()
        self.head = int(head)

    def ask(self, *words: object) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return int(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            assert line, (self.folder / "nodes.err").read_text()
            if re.match(r"(\d[\d.]*:\d+ )?\d+$", line):  # Ray may print more
                return line.strip()

    def close(self) -> None:
        """All of its processes end."""
        for number in session_members(self._process.pid):
            with suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self._process.communicate()
        eventually(lambda: not session_members(self._process.pid), "all nodes end")
        self._errors.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def nodes(lab: Lab) -> Iterator[RayNodes]:
    """A head with two processors, on which a launcher's driver will be."""
    lab.slow_down(0.01)
    nodes = RayNodes(lab, 2)
    try:
        yield nodes
    finally:
        lab.close()  # before its cluster
        nodes.close()


def train(lab: Lab, nodes: RayNodes, *flags: str, workers: int) -> Process:
    return lab.train(
        "--launcher", "ray", "--ray-address", nodes.address, "--workers", str(workers),
        "--data", str(lab.data), "--batch-size", "8", "--quiet", "--engine", "scalar",
        *TINY, *ENDLESS, *flags,
    )  # fmt: skip


def workers(lab: Lab, *words: str) -> str:
    """What ``microgpt workers`` says about the run."""
    process = lab.start(
        sys.executable, "-m", "lab.command_line", "workers", "runs/it", *words, name="workers"
    )
    assert process.wait() == 0, process.err
    return process.out


def handles(lab: Lab) -> tuple[WorkerHandle, ...]:
    """The workers of the run, as soon as they have been asked for."""
    path = lab.place / "runs/it"
    if not (path / "launch.json").exists():
        return ()
    return attach(path, read_launch(path)).list_workers()


def running(lab: Lab, count: int) -> None:
    """Wait until so many work, which may take a minute on a machine with much to do."""

    def there() -> bool:
        states = [handle.status for handle in handles(lab)]
        return states.count(WorkerStatus.RUNNING) == count

    eventually(there, f"{count} workers run", 240.0)


def processes_of(lab: Lab) -> list[str]:
    """Command lines of actors and workers that are ours: they know the address of our run."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            environment = (entry / "environ").read_bytes() if entry.name.isdecimal() else b""
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            ours = os.fsencode(lab.place) in environment
            if ours and ("WorkerActor" in command or "\0worker\0" in command):
                found.append(f"{entry.name} {command}")
    return found


def worker_pids(lab: Lab) -> list[int]:
    """The processes that compute."""
    return [int(text.split()[0]) for text in processes_of(lab) if "\0worker\0" in text]


def sha256(lab: Lab, run: str = "runs/it") -> str:
    return load(lab.run_dir(run).newest).state_sha256


def finished(lab: Lab, *flags: str, run: str) -> str:
    """The ``state_sha256`` of a run that goes to its end with quick workers of this machine."""
    process = lab.train(
        "--workers", "2", "--data", str(lab.data), "--batch-size", "8", "--quiet", *TINY, *ENDLESS,
        *flags, run=run, SECONDS_PER_DOCUMENT="0",
    )  # fmt: skip
    assert process.wait() == 0, process.err
    return sha256(lab, run)


def test_the_same_bits_while_nodes_and_workers_come_and_go(lab: Lab, nodes: RayNodes) -> None:
    second = nodes.ask("add", 2)
    run = train(lab, nodes, workers=3)
    running(lab, 3)
    assert workers(lab, "scale", "5") == "5 workers, after 3\n"
    run.says("1 of 5 workers wait for room on the Ray cluster: it has 4 CPUs, 0 of them free")
    nodes.ask("add", 2)
    running(lab, 5)
    os.kill(second, signal.SIGKILL)
    began = time.monotonic()
    lab.run_dir().happens("lost")
    assert time.monotonic() - began < NOTICED * crowded()
    lab.run_dir().reaches(
        len(lab.run_dir().metrics) + 5
    )  # Ray believes for a while that all is well
    assert workers(lab, "scale", "2") == "2 workers, after 5\n"
    running(lab, 2)
    assert "is welcome in run" in workers(lab, "logs", "worker-1")
    run.send(signal.SIGINT)
    assert run.wait() == INTERRUPTED
    eventually(lambda: not processes_of(lab), "nothing is left")
    assert finished(lab, "--resume", "auto", run="runs/it") == finished(lab, run="runs/local")


def test_a_killed_worker_comes_back_alone(lab: Lab, nodes: RayNodes) -> None:
    run = train(lab, nodes, workers=2)
    running(lab, 2)
    (first, second) = sorted(worker_pids(lab))
    os.kill(first, signal.SIGKILL)
    run.says("was killed (SIGKILL); Ray starts it again")
    running(lab, 2)
    assert second in worker_pids(lab)
    assert sorted(handle.restarts for handle in handles(lab)) == [0, 1]
    run.send(signal.SIGKILL)
    eventually(lambda: not processes_of(lab), "nothing is left though the launcher was killed")


def test_the_node_of_the_driver_dies(lab: Lab, nodes: RayNodes) -> None:
    """Ray ends all that a driver has started on any node; a new driver begins a new epoch."""
    nodes.ask("add", 2)
    run = train(lab, nodes, workers=2)
    running(lab, 2)
    os.kill(nodes.head, signal.SIGKILL)
    run.says("its node of the Ray cluster has died; connecting to")
    running(lab, 2)
    step = len(lab.run_dir().metrics)
    lab.run_dir().reaches(step + 5)
    assert len(worker_pids(lab)) == 2, "those of the first epoch are gone"
    assert workers(lab, "stop") == ""
    assert run.wait() == INTERRUPTED
    eventually(lambda: not processes_of(lab), "nothing is left")


def test_what_an_earlier_launch_of_the_run_has_left_is_removed(lab: Lab, nodes: RayNodes) -> None:
    name = f"{owner_of(lab.place / 'runs/it')}/0123456789abcdef-1/worker-1"
    old = nodes.ask("leave", name)
    other = nodes.ask("leave", f"{owner_of(lab.place / 'runs/other')}/0123456789abcdef-1/worker-1")
    run = train(lab, nodes, workers=1)
    run.says(f"an earlier launch of this run has left {name}; it is removed")
    eventually(lambda: not Path(f"/proc/{old}").exists(), "the old actor ends")
    assert Path(f"/proc/{other}").exists()
    running(lab, 1)
    run.send(signal.SIGTERM)
    assert run.wait() == 143


def test_a_cluster_of_its_own(lab: Lab) -> None:
    """``--ray-address local``: nothing is left of it."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as short:
        run = lab.train(
            "--launcher", "ray", "--ray-address", "local", "--workers", "1", "--steps", "3",
            "--quiet", "--data", str(lab.data), *TINY, TMPDIR=short,
        )  # fmt: skip
        assert run.wait() == 0, run.err
        assert not session_members(run.pid)
        assert not list(Path(short).iterdir())


def test_where_no_cluster_is(lab: Lab) -> None:
    run = lab.train(
        "--launcher", "ray", "--ray-address", "127.0.0.1:1", "--data", str(lab.data), *TINY
    )
    assert run.wait() == 1
    assert run.err.splitlines()[-1] == (
        "error: no Ray cluster at 127.0.0.1:1: [Errno 111] Connection refused"
    )
