"""The actor around a worker, without Ray: it is an object like any other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zmq.auth

from lab.launch.launchers.base import WorkerKeys
from lab.launch.launchers.ray_worker import NOTHING_SEEN, Report, WorkerActor
from tests.processes import PATIENCE, ROOT, eventually

NOWHERE = ["--connect", "ipc:///nowhere/at-all", "--engine", "scalar", "--name", "worker-1"]


def until_it_ends(actor: WorkerActor) -> tuple[str, Report]:
    """All that the worker prints, and the last report."""
    text, report = b"", actor.report(NOTHING_SEEN, False)
    while True:
        text += report.output
        if report.code is not None:
            return text.decode(), report
        report = actor.report(report.seen, report.ready)


def test_its_words_and_its_end_are_told() -> None:
    text, report = until_it_ends(WorkerActor(["--connect", "nonsense"], None))
    assert report.code == 1
    assert text.startswith("error: --connect ")
    assert report.seen == len(text)


def test_a_worker_that_is_killed_is_told_of_by_its_signal() -> None:
    actor = WorkerActor(NOWHERE, None)
    actor.report(0, False)  # it has said something
    actor._process.kill()
    text, report = until_it_ends(actor)
    assert report.code == -signal.SIGKILL
    assert "worker-1 offers itself" in text


def test_a_worker_leaves_when_it_is_asked_to() -> None:
    actor = WorkerActor(NOWHERE, None)
    actor.report(0, False)
    actor.leave(PATIENCE)
    assert until_it_ends(actor)[1].code == 128 + signal.SIGINT


def test_keys_are_gone_when_the_worker_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text, _ = until_it_ends(WorkerActor(NOWHERE, WorkerKeys(b"no", b"key", b"at all")))
    assert "holds no key" in text
    eventually(lambda: not list(tmp_path.iterdir()), "the keys are removed")


def test_keys_are_gone_when_the_actor_is_killed(tmp_path: Path) -> None:
    """Before they have been read: this worker has no coordinator that would let it begin."""
    pair, folder = tmp_path / "pair", tmp_path / "t"
    pair.mkdir()
    folder.mkdir()
    for name in ("coordinator", "worker"):
        zmq.auth.create_certificates(pair, name)
    program = (
        "import pathlib, time; from lab.launch.launchers.base import WorkerKeys; "
        "from lab.launch.launchers.ray_worker import WorkerActor; "
        f"a = WorkerActor({NOWHERE}, WorkerKeys.read(pathlib.Path({str(pair)!r}))); "
        "a.report(0, False); time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert "offers itself" in process.stdout.readline()
        assert len(list(folder.iterdir())) == 1
        process.kill()
        eventually(lambda: not list(folder.iterdir()), "the keys are removed")


def test_a_worker_ends_with_its_actor_and_the_actor_with_rays_process(tmp_path: Path) -> None:
    """As when Ray's process on a node is killed: the actor would go on for good."""
    actor = (
        "import sys, os, time; from lab.launch.launchers.ray_worker import WorkerActor; "
        f"a = WorkerActor({NOWHERE}, None); a.report(0, False); "
        "print(os.getpid(), a._process.pid, flush=True); time.sleep(600)"
    )
    raylet = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {actor!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", raylet], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        words: list[str] = []
        while len(words) != 2 or not words[0].isdecimal():  # the worker's words go by, too
            words = process.stdout.readline().split()
        process.kill()
        for pid in map(int, words):
            eventually(lambda pid=pid: not is_there(pid), f"{pid} ends")  # type: ignore[misc]


def is_there(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
