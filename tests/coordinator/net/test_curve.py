"""Who may join a run, and what keys it takes."""

from __future__ import annotations

import multiprocessing
import shutil
import signal
import stat
import subprocess
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import zmq.auth

from coordinator.net.allow_list import AllowList
from coordinator.net.curve import make_keys
from coordinator.net.safe_bind import is_local
from lab.launch.supervisor import Endpoint
from microgpt.checkpoint import format as checkpoint_format
from microgpt.protocol.keys import check_private
from microgpt.support.cli import UserError
from tests.conftest import Reference
from tests.processes import ROOT, TINY, Lab
from worker.curve import load_keys

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize(
    ("bind", "local"),
    [
        ("ipc:///tmp/x", True),
        ("tcp://127.0.0.1:5555", True),
        ("tcp://127.9.9.9:*", True),
        ("tcp://localhost:5555", True),
        ("tcp://[::1]:5555", True),
        ("tcp://0.0.0.0:5555", False),
        ("tcp://*:5555", False),
        ("tcp://eth0:5555", False),
        ("tcp://[::]:5555", False),
        ("tcp://192.168.1.4:5555", False),
        ("tcp://localhost.example.org:5555", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_only_this_machine_can_reach(bind: str, local: bool) -> None:
    assert is_local(bind) is local


def test_where_workers_find_a_coordinator_on_every_interface() -> None:
    assert Endpoint("").address("tcp://*:5555") == "tcp://127.0.0.1:5555"
    assert Endpoint("").address("tcp://0.0.0.0:5555") == "tcp://127.0.0.1:5555"
    assert Endpoint("").address("tcp://10.0.0.1:5555") == "tcp://10.0.0.1:5555"


def test_an_open_bind_without_keys_is_refused(lab: Lab) -> None:
    coordinator = lab.coordinator("--bind", "tcp://0.0.0.0:0", *TINY, "--data", str(lab.data))
    assert coordinator.wait() == 1
    assert coordinator.err.startswith("error: --bind tcp://0.0.0.0:0 can be reached from other")
    assert coordinator.err.count("\n") == 1
    assert "--insecure" in coordinator.err
    assert not lab.run_dir().path.exists()


def test_keys_are_made_once_and_private_ones_are_private(tmp_path: Path) -> None:
    make_keys(tmp_path / "keys")
    files = {path.name: path for path in (tmp_path / "keys").rglob("*.key*")}
    pairs = [name + end for name in ("coordinator", "worker") for end in (".key", ".key_secret")]
    assert sorted(files) == pairs
    for name, path in files.items():
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o600 if name.endswith("_secret") else 0o644)
    before = {name: path.read_bytes() for name, path in files.items()}
    make_keys(tmp_path / "keys")
    assert {name: path.read_bytes() for name, path in files.items()} == before


def key(path: Path) -> bytes:
    return zmq.auth.load_certificate(path)[0]


def make_at_once(directory: str, all_ready: Barrier) -> None:
    all_ready.wait(60)
    make_keys(Path(directory))


@pytest.mark.soak
def test_keys_that_several_starts_make_at_once_belong_together(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("fork")
    for number in range(20):
        folder, all_ready = tmp_path / str(number), spawn.Barrier(3)
        makers = [
            spawn.Process(target=make_at_once, args=(str(folder), all_ready)) for _ in range(3)
        ]
        for maker in makers:
            maker.start()
        for maker in makers:
            maker.join()
            assert maker.exitcode == 0
        for name in ("coordinator", "worker"):
            assert key(folder / f"{name}.key") == key(folder / f"{name}.key_secret")
        assert key(folder / "workers" / "worker.key") == key(folder / "worker.key")


def test_keys_half_made_by_a_killed_process_are_completed(tmp_path: Path) -> None:
    make_keys(tmp_path / "whole")
    for missing in ("worker.key", "worker.key_secret", "workers/worker.key"):
        folder = tmp_path / missing.replace("/", "-")
        shutil.copytree(tmp_path / "whole", folder)
        (folder / missing).unlink()
        (folder / "coordinator.key").unlink()
        make_keys(folder)
        assert key(folder / "coordinator.key") == key(tmp_path / "whole" / "coordinator.key")
        keys = load_keys(folder)
        assert key(keys.public_file) == keys.public
        assert AllowList(folder / "workers").callback("", keys.public)
        assert b"secret" not in keys.public_file.read_bytes()


def test_a_folder_made_for_keys_is_private_and_hidden_from_git(tmp_path: Path) -> None:
    make_keys(tmp_path / "new" / "keys")
    made = tmp_path / "new" / "keys"
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    assert (made / ".gitignore").read_text() == "*\n"
    git = ["git", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "-q"], check=True)
    listed = subprocess.run(
        [*git, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    )
    assert listed.stdout == ""


def test_a_folder_of_the_user_keeps_its_mode_and_gets_keys_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").write_text("mine")
    make_keys(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "coordinator.key", "coordinator.key_secret", "notes.txt", "worker.key",
        "worker.key_secret", "workers",
    ]  # fmt: skip


@pytest.mark.parametrize("name", [".gitignore", ".dockerignore"])
def test_the_folder_that_the_readme_names_is_left_out_of_git_and_images(name: str) -> None:
    lines = (ROOT / name).read_text().splitlines()
    assert {"keys/", "**/keys"} & set(lines)


def test_a_private_key_open_to_others_is_refused(tmp_path: Path) -> None:
    make_keys(tmp_path)
    secret = tmp_path / "worker.key_secret"
    secret.chmod(0o640)
    with pytest.raises(UserError, match="open to others: chmod 600"):
        check_private(secret)
    with pytest.raises(UserError, match="open to others"):
        load_keys(tmp_path)


def test_files_that_hold_no_key(tmp_path: Path) -> None:
    make_keys(tmp_path)
    (tmp_path / "coordinator.key").write_text("not a key\n")
    with pytest.raises(UserError, match="holds no key"):
        load_keys(tmp_path)


def test_the_list_is_read_for_every_connection(tmp_path: Path) -> None:
    make_keys(tmp_path / "one")
    make_keys(tmp_path / "two")
    stranger = load_keys(tmp_path / "two")
    allowed = AllowList(tmp_path / "one" / "workers")
    assert allowed.callback("", load_keys(tmp_path / "one").public)
    assert not allowed.callback("", stranger.public)
    (tmp_path / "one" / "workers" / "half.key").write_text("curve\n")
    assert not allowed.callback("", stranger.public)
    shutil.copy(stranger.public_file, tmp_path / "one" / "workers" / "two.key")
    assert allowed.callback("", stranger.public)


def test_only_known_workers_join_an_encrypted_run(lab: Lab, reference: Reference) -> None:
    common = [*TINY, "--steps", "6", "--data", str(lab.data)]
    early = lab.worker("tcp://127.0.0.1:1", "--curve", "keys")
    early.says("waiting for keys/coordinator.key")
    early.send(signal.SIGINT)
    assert early.wait() == 130

    coordinator = lab.coordinator("--curve", "keys", *common)
    run = lab.run_dir()
    address = run.endpoint()
    stranger_keys = lab.place / "stranger"
    stranger_keys.mkdir()
    shutil.copy(lab.place / "keys" / "coordinator.key", stranger_keys)
    stranger = lab.worker(address, "--curve", "stranger")
    assert stranger.wait() == 1
    assert "error: the coordinator does not know this worker: copy stranger/worker.key" in (
        stranger.err
    )
    naked = lab.worker(address)
    assert naked.wait() == 1
    assert naked.err == "error: the coordinator wants keys: give --curve DIR\n"
    assert run.kinds().count("joined") == 0

    shutil.copy(stranger_keys / "worker.key", lab.place / "keys" / "workers" / "stranger.key")
    workers = [lab.worker(address, "--curve", "stranger"), lab.worker(address, "--curve", "keys")]
    assert coordinator.wait() == 0
    assert [worker.wait() for worker in workers] == [0, 0]
    assert checkpoint_format.load(run.newest).state_sha256 == reference(6).state_sha256


@pytest.mark.soak
def test_a_worker_trusts_no_other_coordinator(lab: Lab) -> None:
    """A coordinator with other keys cannot read what the worker says, nor give it work."""
    coordinator = lab.coordinator("--curve", "keys", *TINY, "--data", str(lab.data))
    address = lab.run_dir().endpoint()
    make_keys(lab.place / "other")
    shutil.copy(lab.place / "other" / "worker.key", lab.place / "keys" / "workers" / "other.key")
    worker = lab.worker(address, "--curve", "other")
    worker.says("offers itself")
    coordinator.says("waiting for workers")
    known = lab.worker(address, "--curve", "keys")
    lab.run_dir().happens("joined")  # the known one, though the other began before it
    known.send(signal.SIGINT)
    lab.run_dir().happens("left")
    assert lab.run_dir().kinds().count("joined") == 1
    assert "welcomed" not in worker.out


def test_train_with_keys(lab: Lab, reference: Reference) -> None:
    flags = ["--workers", "2", "--engine", "scalar", "--steps", "4", "--data", str(lab.data)]
    train = lab.train("--bind", "tcp://0.0.0.0:0", "--curve", "keys", *TINY, *flags)
    assert train.wait() == 0, train.err
    saved = checkpoint_format.load(lab.run_dir().newest)
    assert saved.state_sha256 == reference(4).state_sha256
