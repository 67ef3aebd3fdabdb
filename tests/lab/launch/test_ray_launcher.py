"""The launcher for Ray and its driver, with real workers, but without a Ray cluster."""

from __future__ import annotations

import os
import queue
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.run.directory_owner import OwnedRunDir
from lab.conditions import Conditions
from lab.launch.children import AtWork, Child, NewsQueue
from lab.launch.launchers import ray_launcher
from lab.launch.launchers.base import Place, WorkerRequest, WorkerStatus
from lab.launch.launchers.ray_launcher import RayLauncher
from lab.launch.surroundings import Surroundings
from microgpt.support.cli import UserError
from tests.processes import PATIENCE, Lab, eventually


class Supervised:
    """A launcher in the hands of something like the supervisor."""

    def __init__(self, address: str, directory: OwnedRunDir, workers: str, count: int) -> None:
        self.launcher = RayLauncher(address, {})
        self._news: NewsQueue = queue.SimpleQueue()
        self._place = Place(directory, Surroundings(Conditions(), 1), self._news, lambda at: None)
        flags = ("--engine", "scalar", "--patience", "60")
        self._request = WorkerRequest("0123456789abcdef", directory.path, workers, count, flags)

    def start(self) -> None:
        self.launcher.start(self._request, self._place)

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Do what a supervisor does until then. Raises UserError as the launcher does."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, what
            self.launcher.tend(time.monotonic())
            try:
                news = self._news.get(timeout=0.02)
            except queue.Empty:
                continue
            if isinstance(news, AtWork | Child):
                self.launcher.hear(news)

    def running(self, *names: str) -> None:
        def there() -> bool:
            handles = self.launcher.list_workers()
            return tuple(h.name for h in handles if h.status is WorkerStatus.RUNNING) == names

        self.until(there, f"{names} run")


@pytest.fixture
def supervised(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Supervised]]:
    """Makes a launcher, which has ended after the test."""
    monkeypatch.setattr(ray_launcher, "DRIVER", "tests.lab.launch.fake_ray_driver")
    made: list[Supervised] = []
    with OwnedRunDir.take(tmp_path / "launched") as directory:

        def make(
            address: str, workers: str = "ipc:///nowhere/at-all", count: int = 1
        ) -> Supervised:
            made.append(Supervised(address, directory, workers, count))
            made[-1].start()
            return made[-1]

        try:
            yield make
        finally:
            for each in made:
                each.launcher.stop()


def worker_processes(lab: Lab) -> list[int]:
    """Of this test: the address of its coordinator is in their command lines."""
    address = lab.run_dir().endpoint().encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdecimal() else []
        except OSError:
            continue
        if address in words and b"worker" in words:
            found.append(int(entry.name))
    return found


def test_workers_compute_scale_die_and_leave(
    lab: Lab, supervised: Callable[..., Supervised], capsys: pytest.CaptureFixture[str]
) -> None:
    lab.coordinator("--data", str(lab.data), "--n-embd", "2", "--n-head", "2", "--block-size", "2",
                    "--steps", "100000", "--batch-size", "4")  # fmt: skip
    ours = supervised("fake:1", lab.run_dir().endpoint(), 2)
    ours.running("worker-1", "worker-2")
    log = lab.place / "launched/logs/worker-2.log"
    ours.until(lambda: log.exists() and "is welcome" in log.read_text(), "its words have come")
    assert ours.launcher.scale(3) == "3 workers, after 2"
    ours.running("worker-1", "worker-2", "worker-3")
    os.kill(worker_processes(lab)[0], signal.SIGKILL)
    ours.until(lambda: sum(h.restarts for h in ours.launcher.list_workers()) == 1, "one death")
    ours.running("worker-1", "worker-2", "worker-3")
    assert ours.launcher.scale(1) == "1 workers, after 3"
    ours.running("worker-1")
    eventually(lambda: len(worker_processes(lab)) == 1, "the others have left")
    assert "worker-2 offers itself to" in next(ours.launcher.logs("worker-2", False))
    ours.launcher.stop()
    ours.launcher.stop()
    assert worker_processes(lab) == []
    said = capsys.readouterr().err
    assert "an earlier launch of this run has left" in said
    assert "was killed (SIGKILL); Ray starts it again" in said


def test_a_driver_that_loses_its_cluster_is_replaced(
    supervised: Callable[..., Supervised], capsys: pytest.CaptureFixture[str]
) -> None:
    ours = supervised("lost:1")
    ours.running("worker-1")
    ours.launcher.scale(2)
    ours.running("worker-1", "worker-2")
    assert "the cluster is lost; connecting to lost:1 again" in capsys.readouterr().err


def test_where_no_cluster_is_one_line_says_so(supervised: Callable[..., Supervised]) -> None:
    ours = supervised("no:1")
    with pytest.raises(UserError, match=r"^no Ray cluster at no:1: Connection refused$"):
        ours.until(lambda: False, "it fails")


def test_what_never_answers_is_waited_for_only_so_long(
    supervised: Callable[..., Supervised], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_launcher, "CONNECT_SECONDS", 0.1)
    ours = supervised("silent:1")
    with pytest.raises(UserError, match=r"no Ray cluster has answered at silent:1 within 0\.1 s"):
        ours.until(lambda: False, "it fails")


def test_more_workers_than_a_coordinator_takes_are_refused(
    supervised: Callable[..., Supervised],
) -> None:
    ours = supervised("silent:1")
    with pytest.raises(UserError, match="a run has at most 4,096 workers"):
        ours.launcher.scale(4097)
    assert ours.launcher.scale(2) == "2 workers, after 1"
