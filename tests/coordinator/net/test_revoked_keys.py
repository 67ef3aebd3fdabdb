"""A key that is taken off the list of a coordinator at work locks out whoever has come with it."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from coordinator.core.events import Assigned, Cause, Expelled, Joined
from coordinator.core.inputs import Disconnected, Input, KeyRevoked, Received
from coordinator.net.allow_list import AllowList
from coordinator.net.curve import make_keys
from coordinator.net.router import Transport
from microgpt.checkpoint import format as checkpoint_format
from microgpt.protocol.messages import Goodbye, encode
from tests.conftest import Reference
from tests.processes import TINY, Lab, Process, eventually
from worker.curve import Keys, load_keys

pytestmark = pytest.mark.timeout(300)

WORD = encode(Goodbye("run", "epoch"))


def new_worker(keys: Path, folder: Path) -> Keys:
    """A worker's keys in a folder of its own; the public one is on the list of ``keys``."""
    folder.mkdir()
    shutil.copy(keys / "coordinator.key", folder)
    made = load_keys(folder)
    shutil.copy(made.public_file, keys / "workers" / f"{folder.name}.key")
    return made


# --- the list ------------------------------------------------------------------------------------


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    make_keys(tmp_path / "keys")
    return tmp_path / "keys"


def test_what_is_no_file_with_a_key_lets_nobody_in_and_stops_nobody(
    keys: Path, tmp_path: Path
) -> None:
    one = new_worker(keys, tmp_path / "one")
    listed = keys / "workers"
    os.mkfifo(listed / "pipe.key")  # to read it would wait for ever
    (listed / "folder.key").mkdir()
    (listed / "zero.key").symlink_to("/dev/zero")
    (listed / "nowhere.key").symlink_to("missing")
    (listed / "loop.key").symlink_to("loop.key")
    (listed / "half.key").write_text("curve\n    public-key")
    (listed / "empty.key").touch()
    (listed / "long.key").write_bytes(b"#" * (1 << 20) + b"\n" + one.public_file.read_bytes())
    (listed / "\udcff.key").write_bytes(b"\xff\n")
    allowed = AllowList(listed)
    assert allowed.callback("", one.public)
    (listed / "one.key").unlink()
    assert not allowed.callback("", one.public), "the long file does not count"
    (listed / "one.key").symlink_to(one.public_file)  # as secrets of Kubernetes are
    assert allowed.callback("", one.public)


def test_files_by_the_thousand_are_read_once(keys: Path, tmp_path: Path) -> None:
    one = new_worker(keys, tmp_path / "one")
    old = time.time() - 60
    for number in range(2000):
        path = keys / "workers" / f"{number}.key"
        path.write_text(f'curve\n    public-key = "{number:040}"\n')
        os.utime(path, (old, old))
    allowed = AllowList(keys / "workers")
    assert allowed.callback("", one.public)
    assert allowed.callback("", b"%040d" % 1999)
    (keys / "workers" / "7.key").unlink()
    began = time.process_time()
    for _ in range(2):
        allowed.look()
    assert time.process_time() - began < 0.5, "2000 files that are old and have been read"
    assert allowed.revoked == {b"%040d" % 7}


def test_a_key_is_revoked_when_it_is_missed_twice_and_lets_in_again_when_it_is_back(
    keys: Path, tmp_path: Path
) -> None:
    one = new_worker(keys, tmp_path / "one")
    path = keys / "workers" / "one.key"
    allowed = AllowList(keys / "workers")
    assert allowed.callback("", one.public)
    for _ in range(2):  # a file that is being written anew
        path.write_text("curve\n")
        allowed.look()
        assert not allowed.callback("", one.public), "nobody new comes in meanwhile"
        shutil.copy(one.public_file, path)
        allowed.look()
        assert allowed.revoked == frozenset()
    path.unlink()
    allowed.look()
    allowed.look()
    assert allowed.revoked == {one.public}
    shutil.copy(one.public_file, path)
    assert allowed.callback("", one.public)
    assert allowed.revoked == frozenset(), "also before the next look"


def test_the_key_of_another_in_the_same_file_revokes_the_first(keys: Path, tmp_path: Path) -> None:
    one, two = (new_worker(keys, tmp_path / name) for name in ("one", "two"))
    (keys / "workers" / "two.key").unlink()
    allowed = AllowList(keys / "workers")
    assert allowed.callback("", one.public)
    shutil.copy(two.public_file, keys / "workers" / "one.key")  # as many bytes, the same file
    assert allowed.callback("", two.public)
    allowed.look()
    allowed.look()
    assert allowed.revoked == {one.public}


def test_a_folder_that_cannot_be_read_lets_nobody_in_and_revokes_nothing(
    keys: Path, tmp_path: Path
) -> None:
    one = new_worker(keys, tmp_path / "one")
    listed = keys / "workers"
    allowed = AllowList(listed)
    assert allowed.callback("", one.public)
    listed.rename(tmp_path / "away")
    listed.symlink_to(listed)  # to look into it is an error
    for _ in range(3):
        allowed.look()
    assert not allowed.callback("", one.public)
    assert allowed.revoked == frozenset()
    listed.unlink()  # now there is none: nobody is on the list
    for _ in range(2):
        allowed.look()
    assert one.public in allowed.revoked


# --- connections ---------------------------------------------------------------------------------


@pytest.fixture
def transport(keys: Path) -> Iterator[Transport]:
    transport = Transport("tcp://127.0.0.1:*", 1 << 20, keys)
    yield transport
    transport.close()


def heard(transport: Transport, kind: type[Input]) -> list[Input]:
    """All that has come in until something of a kind has."""
    inputs: list[Input] = []

    def enough() -> bool:
        transport.wait(0.01)
        inputs.extend(transport.receive())
        return any(isinstance(each, kind) for each in inputs)

    eventually(enough, kind.__name__)
    return inputs


def dealer(context: zmq.Context[zmq.Socket[bytes]], keys: Keys) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    keys.apply(socket)
    return socket


def tells(monitor: zmq.Socket[bytes], transport: Transport, what: str) -> None:
    """Wait until a socket's monitor has something to tell, while the transport is at work."""

    def told() -> int:
        transport.wait(0.01)
        return monitor.poll(0)

    eventually(told, what)


def test_who_ignores_that_its_key_is_revoked_is_heard_no_more(
    keys: Path, tmp_path: Path, transport: Transport
) -> None:
    good, bad, silent = (new_worker(keys, tmp_path / name) for name in ("good", "bad", "silent"))
    with zmq.Context() as context:
        sockets = [dealer(context, each) for each in (good, bad, silent)]
        success, failure = zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_HANDSHAKE_FAILED_AUTH
        let_in = sockets[2].get_monitor_socket(success)
        turned_away = sockets[1].get_monitor_socket(failure)
        for socket in sockets:
            socket.connect(transport.endpoint)
        peers = []
        for socket in sockets[:2]:
            socket.send(WORD)
            peers += [each.peer for each in heard(transport, Received) if type(each) is Received]
        tells(let_in, transport, "the third is let in")
        for name in ("bad", "silent"):
            (keys / "workers" / f"{name}.key").unlink()
        told = [each for each in heard(transport, KeyRevoked) if type(each) is not Received]
        reason = f"its key is no longer in {keys / 'workers'}"
        assert told == [KeyRevoked(peers[1], reason)]

        sockets[1].send(WORD)
        sockets[2].send(WORD)  # its first one
        inputs = heard(transport, KeyRevoked)
        sockets[0].send(WORD)
        inputs += heard(transport, Received)
        kinds = [(type(each), each.peer == peers[0]) for each in inputs if hasattr(each, "peer")]
        assert kinds == [(KeyRevoked, False), (Received, True)]

        transport.cut_off(peers[1])
        assert Disconnected(peers[1]) in heard(transport, Disconnected)
        tells(turned_away, transport, "it is not let in again")
        for socket in sockets:
            socket.disable_monitor()
            socket.close(linger=0)


# --- whole runs ----------------------------------------------------------------------------------


def test_a_removed_key_locks_its_worker_out_of_a_run_that_goes_on(
    lab: Lab, reference: Reference
) -> None:
    steps = 120
    lab.slow_down(0.02)
    flags = ["--steps", str(steps), "--batch-size", "2", "--worker-timeout", "200"]
    flags += ["--events", "full", "--data", str(lab.data)]
    coordinator = lab.coordinator("--curve", "keys", *TINY, *flags)
    run = lab.run_dir()
    address, listed = run.endpoint(), lab.place / "keys" / "workers"
    new_worker(lab.place / "keys", lab.place / "other")
    other = lab.worker(address, "--curve", "other", "--name", "other")
    run.happens("ready")
    stays = lab.worker(address, "--curve", "keys", "--name", "stays")
    run.happens("ready", 2)
    stays.send(signal.SIGSTOP)  # the run is not to be over before we are
    other.expected = True
    (listed / "other.key").unlink()
    removed = time.time()
    assert other.wait() == 1
    reason = "its key is no longer in keys/workers"
    told = f"error: the coordinator refuses this worker: {reason}\n"
    # Where it takes longer to be read than the connection lasts, it hears why when it comes again.
    assert other.err == told or "the coordinator does not know this worker" in other.err
    run.happens("expelled")
    (expelled,) = run.events(Expelled)
    assert expelled == Expelled(1, "other", expelled.unfinished, Cause.KEY, reason)
    assert f"other is cut off: {reason}" in coordinator.err + coordinator.out
    (when,) = [each.time for each in run.recorded if each.event == expelled]
    print(f"cut off {when - removed:.2f} s after its key was removed")

    again = refused(lab.worker(address, "--curve", "other", "--name", "other"))
    assert "copy other/worker.key into the folder workers/" in again.err
    stays.send(signal.SIGCONT)
    assert coordinator.wait() == 0
    # Who has been frozen may have to connect anew; the other one never comes in again.
    assert [joined.name for joined in run.events(Joined)][:2] == ["other", "stays"]
    assert {joined.name for joined in run.events(Joined)[2:]} <= {"stays"}
    late = [each.event for each in run.recorded if each.time > when]
    assert 1 not in {event.worker for event in late if isinstance(event, Assigned)}
    assert (
        checkpoint_format.load(run.newest).state_sha256
        == reference(steps, batch_size=2).state_sha256
    )


def refused(worker: Process) -> Process:
    worker.expected = True
    assert worker.wait() == 1
    return worker
