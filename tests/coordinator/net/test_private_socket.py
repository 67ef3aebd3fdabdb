"""The private folder of a run's socket: short enough, and not left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import tempfile
from pathlib import Path

import pytest

from coordinator.net import private_socket
from microgpt.support.cli import UserError
from tests.conftest import Reference
from tests.processes import ENDLESS, TINY, Lab, eventually, session_members
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path leaves room for that of a socket."""
    return tmp_path_factory.mktemp("t")


@pytest.fixture
def temporary(short: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(short))
    return short


def bound(folder: Path) -> Path:
    """A folder with a socket in it whose process is gone."""
    folder.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / private_socket.SOCKET))
    (folder / "coordinator.lock").touch()
    return folder


def test_it_is_ours_alone_and_gone_at_the_end(temporary: Path) -> None:
    with private_socket.private_address() as address:
        (folder,) = temporary.iterdir()
        assert address == f"ipc://{folder}/coordinator"
        assert folder.stat().st_mode & 0o777 == 0o700
        assert private_socket.private_parent(address) == temporary
        private_socket.remove_abandoned(temporary)
        assert folder.exists(), "a living owner's stays"
    assert list(temporary.iterdir()) == []
    assert private_socket.private_parent("tcp://127.0.0.1:5555") is None


def test_what_the_killed_have_left_is_removed_and_nothing_else(temporary: Path) -> None:
    left = bound(temporary / "microgpt-run-abcdefgh")
    (temporary / "microgpt-run-empty123").mkdir()
    held = bound(temporary / "microgpt-run-12345678")
    full = bound(temporary / "microgpt-run-87654321")
    (full / "letter").write_text("mine")
    (temporary / "microgpt-run-mine").mkdir()
    (temporary / "microgpt-run-linklink").symlink_to(temporary / "microgpt-run-mine")
    lock = os.open(held, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with private_socket.private_address():
        pass
    os.close(lock)
    assert not left.exists()
    assert {path.name for path in temporary.iterdir()} == {
        "microgpt-run-12345678", "microgpt-run-87654321", "microgpt-run-mine",
        "microgpt-run-linklink",
    }  # fmt: skip
    assert (full / "letter").read_text() == "mine"


def test_where_no_path_is_short_enough(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = temporary / ("x" * 90)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with private_socket.private_address() as address:
        assert not address.startswith(f"ipc://{deep}")
        assert len(os.fsencode(address.removeprefix("ipc://"))) <= private_socket.LONGEST
    monkeypatch.setattr(private_socket, "ELSEWHERE", ())
    with pytest.raises(UserError, match="may have 107 bytes"), private_socket.private_address():
        pass


def test_a_long_path_of_temporary_files(lab: Lab, reference: Reference) -> None:
    deep = lab.place / ("x" * 90)
    deep.mkdir()
    size = ("--steps", "3", "--batch-size", "2", "--data", str(lab.data))
    train = lab.train(*TINY, *size, "--workers", "1", "--engine", "scalar", TMPDIR=str(deep))
    assert train.wait() == 0, train.err
    ends_alike(lab.run_dir(), reference(3, 2))


def test_a_killed_train_py_leaves_nothing_behind(lab: Lab, short: Path) -> None:
    lab.slow_down(0.02)
    endless = (*ENDLESS, "--batch-size", "4", "--data", str(lab.data), "--workers", "1")
    train = lab.train(*TINY, *endless, "--engine", "scalar", TMPDIR=str(short))
    lab.run_dir().reaches(3)
    assert len(list(short.iterdir())) == 1
    train.send(signal.SIGKILL)
    eventually(lambda: not session_members(train.pid), "coordinator and worker leave, too")
    assert list(short.iterdir()) == []
