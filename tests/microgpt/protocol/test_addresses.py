"""Addresses: which texts are one, and who may have the file of an ``ipc`` address."""

from __future__ import annotations

import signal
import socket
import stat
from pathlib import Path

import pytest

from coordinator.net.ipc_socket import IpcClaim
from microgpt.protocol.addresses import check_address
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import TINY, Lab
from tests.system.test_system_input import complaint
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)

GOOD = ["tcp://127.0.0.1:5555", "tcp://[::1]:65535", "tcp://host.example:1", "ipc:///tmp/x"]
FREE_PORTS = ["tcp://*:0", "tcp://127.0.0.1:*", "tcp://eth0:0"]
BAD = [
    "nonsense", "", "tcp://", "tcp://host", "tcp://:5555", "tcp://host:", "tcp://host:99999",
    "tcp://host:65536", "tcp://host:-1", "tcp://host:1e3", "tcp://host:5_5", "tcp://host:\u0665",
    "inproc://x", "udp://127.0.0.1:5555", "ipc://", "ipc://*", "ipc://" + "x" * 108,
    "TCP://127.0.0.1:5555",
]  # fmt: skip


def test_what_is_an_address() -> None:
    for address in GOOD:
        check_address(address)
        check_address(address, binding=True)
    check_address("ipc://" + "x" * 107)
    for address in FREE_PORTS:
        check_address(address, binding=True)
        with pytest.raises(ValueError, match="is no port"):
            check_address(address)


@pytest.mark.parametrize("address", BAD)
def test_what_is_none(address: str) -> None:
    for binding in (False, True):
        with pytest.raises(ValueError, match=r"\w+") as caught:
            check_address(address, binding=binding)
        assert address in str(caught.value)


@pytest.mark.parametrize("address", [soak("inproc://x"), "tcp://127.0.0.1:99999"])
def test_every_program_refuses_it_in_a_line(lab: Lab, address: str) -> None:
    flags = (*TINY, "--data", str(lab.data), "--bind", address)
    started = [
        lab.coordinator(*flags, run=""),
        lab.train(*flags, "--workers", "1", run=""),
        lab.worker(address),
    ]
    if address.startswith("tcp://"):
        started += [lab.script("sample", address), lab.script("checkpoint", "list", address)]
    for process in started:
        assert process.wait(20) == 1
        assert address in complaint(process.err)


# --- ipc: the file is one process's -----------------------------------------------------------


@pytest.mark.soak
def test_a_file_is_never_replaced(lab: Lab) -> None:
    (lab.place / "letter").write_text("dear")
    (lab.place / "link").symlink_to("letter")
    for name in ("letter", "link"):
        flags = (*TINY, "--data", str(lab.data), "--bind", f"ipc://{name}")
        for process in (lab.coordinator(*flags, run=""), lab.train(*flags, run="")):
            assert process.wait() == 1
            assert complaint(process.err) == (
                f"error: --bind ipc://{name} fails: there is a file already, which is no socket; "
                "choose another address"
            )
    assert (lab.place / "letter").read_text() == "dear"
    assert (lab.place / "link").is_symlink()
    assert not list(lab.place.glob("*.lock"))
    assert not (lab.place / "runs").exists()


def test_a_second_run_on_one_path_is_told_so_and_takes_no_worker_away(
    lab: Lab, reference: Reference
) -> None:
    bind = f"ipc://{lab.place}/socket"
    flags = (*TINY, "--steps", "3", "--batch-size", "3", "--data", str(lab.data), "--bind", bind)
    first = lab.coordinator(*flags)
    run = lab.run_dir()
    assert run.endpoint() == bind
    second = lab.train(*flags, "--workers", "2", "--engine", "scalar", run="runs/other")
    assert second.wait() == 1
    assert complaint(second.err) == (
        f"error: --bind {bind} is in use already; choose another address"
    )
    assert run.kinds().count("joined") == 0, "its workers have not joined the first run"
    assert not (lab.place / "runs" / "other").exists()
    lab.worker(bind)
    assert first.wait() == 0, first.err
    ends_alike(run, reference(3, 3))
    assert not (lab.place / "socket").exists()
    assert not (lab.place / "socket.lock").exists()


def test_the_socket_of_a_killed_coordinator_is_taken_over(lab: Lab) -> None:
    bind = f"ipc://{lab.place}/socket"
    flags = (*TINY, "--data", str(lab.data), "--bind", bind)
    first = lab.coordinator(*flags)
    lab.run_dir().endpoint()
    first.send(signal.SIGKILL)
    first.wait()
    assert stat.S_ISSOCK((lab.place / "socket").stat().st_mode)
    second = lab.coordinator(*flags, run="runs/second")
    second.says("waiting for workers")
    second.send(signal.SIGINT)
    assert second.wait() == 130
    assert not (lab.place / "socket").exists()
    assert not (lab.place / "socket.lock").exists()


def test_one_process_has_a_path_and_gives_back_its_own_socket_alone(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    first, second = IpcClaim(f"ipc://{path}"), IpcClaim(f"ipc://{path}")
    first.take()
    with pytest.raises(OSError, match="Address already in use"):
        second.take()
    with socket.socket(socket.AF_UNIX) as ours:
        ours.bind(str(path))
        ours.listen()
        first.bound()
    path.unlink()
    path.write_text("somebody else's")
    first.release()
    assert path.read_text() == "somebody else's"
    path.unlink()
    second.take()
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_that_somebody_listens_at_without_a_lock_is_in_use(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match="Address already in use"):
            IpcClaim(f"ipc://{path}").take()
        assert path.is_socket()
    IpcClaim(f"ipc://{path}").take()
    assert not path.exists()
