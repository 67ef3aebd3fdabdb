"""What may come and is not read: at a socket that hostile peers reach, and at a client's."""

from __future__ import annotations

import os
import resource
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from coordinator.core.inputs import Disconnected, Input, Peer, Received
from coordinator.net import door, packet_filter
from coordinator.net import router as transports
from coordinator.net.connections import STRANGER_WINDOW
from coordinator.net.limits import connection_limit
from coordinator.net.router import Transport
from lab.faults import hostile, zmtp
from lab.faults.machine import memory
from microgpt.protocol import messages
from microgpt.protocol.receive_limit import MAX_WAITING, ReceiveLimit, TooMuchError
from microgpt.support import tcp
from tests.marks import soak
from tests.processes import Lab, eventually

pytestmark = pytest.mark.timeout(300)
BEAT = zmtp.frame(messages.encode(messages.Heartbeat("", "", ready=True)))
PING = zmtp.frame(b"\x04PING\0\0", zmtp.COMMAND)
RESET = struct.pack("ii", 1, 0)

#: A coordinator's socket in a process of its own: it may be aborted.
RECEIVER = """
import sys, time
from coordinator.net.limits import connection_limit
from coordinator.net.router import Transport
transport = Transport("tcp://127.0.0.1:*", 1 << 20)
print(transport.endpoint, flush=True)
sys.stdin.close()
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until:
    transport.wait(0.05)
    for event in transport.receive():
        time.sleep(0.0005)  # work: what comes meanwhile waits
transport.close()
print("lived", flush=True)
"""


def port(endpoint: str) -> tuple[str, int]:
    return "127.0.0.1", int(endpoint.rpartition(":")[2])


def flood(address: tuple[str, int], names: list[bytes], until: float) -> None:
    """Send messages and signs of life, and break off in the middle, again and again."""
    while time.monotonic() < until:
        with suppress(OSError), ExitStack() as stack:
            peers = [stack.enter_context(hostile.connect(address)) for _ in names]
            for peer, name in zip(peers, names, strict=True):
                zmtp.shake_hands(peer, name)
            for _ in range(3):
                for peer in peers:
                    peer.sendall((BEAT * 60 + PING * 3) * 20)
            for peer in peers:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


@pytest.mark.parametrize("same", [soak(True, id="one name"), pytest.param(False, id="many names")])
def test_no_flood_that_breaks_off_ends_the_process(lab: Lab, same: bool) -> None:
    seconds = 7 if same else 3
    receiver = lab.start(sys.executable, "-c", RECEIVER, f"{seconds + 1}", name="receiver")
    receiver.says("tcp://")
    address = port(receiver.out.strip())
    until = time.monotonic() + seconds
    crowd = [
        threading.Thread(
            target=flood,
            args=(address, [b"same" if same else b"%d %d" % (k, n) for n in range(8)], until),
        )
        for k in range(3)
    ]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    assert receiver.wait() == 0, receiver.err
    assert receiver.out.endswith("lived\n")


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport("tcp://127.0.0.1:*", 1 << 20)
    try:
        yield transport
    finally:
        transport.close()


def hears(transport: Transport, count: int) -> list[Input]:
    heard: list[Input] = []

    def enough() -> bool:
        transport.wait(0.01)
        heard.extend(transport.receive())
        return len(heard) >= count

    eventually(enough, f"{count} events")
    return heard


def speaker(transport: Transport) -> Peer:
    """Whose message is the next event."""
    (event,) = hears(transport, 1)
    assert isinstance(event, Received)
    return event.peer


def test_a_stranger_brings_little_however_long_nobody_looks(transport: Transport) -> None:
    """A message of ever more parts of a byte; libzmq keeps each in 64 bytes of memory."""
    with hostile.connect(port(transport.endpoint)) as peer:
        zmtp.shake_hands(peer, b"name")
        peer.sendall(BEAT)
        hears(transport, 1)  # so that we have heard of the connection
        (descriptor,) = transport._connections.open
        part = zmtp.frame(b"x", zmtp.MORE)
        peer.setblocking(False)
        came, since = tcp.taken_in(descriptor), time.monotonic()
        while time.monotonic() - since < 1.0:  # nobody looks
            with suppress(BlockingIOError):
                peer.send(part * 100)
            if (now := tcp.taken_in(descriptor)) != came:
                came, since = now, time.monotonic()
        assert came is not None
        assert came <= STRANGER_WINDOW + 1000  # and the handshake


def test_small_messages_that_come_one_by_one_take_little_memory(transport: Transport) -> None:
    """Each is read for itself, and libzmq may keep all that it has for one reading."""
    word = zmtp.frame(bytes(40))
    with ExitStack() as stack:
        address = port(transport.endpoint)
        peers = [stack.enter_context(hostile.connect(address)) for _ in range(10)]
        for peer in peers:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            zmtp.shake_hands(peer)
            peer.sendall(BEAT)
        hears(transport, len(peers))  # so that we have heard of the connections
        came = {each: tcp.taken_in(each) or 0 for each in transport._connections.open}
        before = memory(os.getpid())
        for _ in range((STRANGER_WINDOW - 1000) // len(word)):  # nobody looks
            for peer in peers:
                peer.sendall(word)
            for each in came:
                came[each] += len(word)
            eventually(lambda: all(tcp.taken_in(d) == n for d, n in came.items()), "it is read")
        assert memory(os.getpid()) - before < 5 << 20


def test_in_a_crowd_nobody_stays_without_a_limit(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the system answers a flood with SYN cookies, and keeps no beginnings."""
    monkeypatch.setattr(packet_filter, "first_sequence_number", lambda descriptor: None)
    address = port(transport.endpoint)
    with hostile.connect(address) as peer:
        zmtp.shake_hands(peer)
        peer.sendall(BEAT)
        assert [type(event) for event in hears(transport, 1)] == [Received]
        monkeypatch.setattr(door, "CROWD", 0)
        with hostile.connect(address) as late:
            eventually(lambda: hears_nothing(transport) and has_ended(late), "it is broken off")
        peer.sendall(BEAT)
        assert [type(event) for event in hears(transport, 1)] == [Received], "it was here before"


def hears_nothing(transport: Transport) -> bool:
    transport.wait(0.01)
    return not [*transport.receive()]


def has_ended(peer: socket.socket) -> bool:
    """Whether the other side has broken off."""
    peer.settimeout(0.01)
    try:
        return peer.recv(1 << 10) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_flood_shuts_the_door_for_a_moment(
    transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = port(transport.endpoint)
    with hostile.connect(address) as peer:
        zmtp.shake_hands(peer)
        peer.sendall(BEAT * 20)
        hears(transport, 1)  # the door's own news, too
        peer.sendall(BEAT * 40)
        time.sleep(0.2)
        monkeypatch.setattr(transports, "FLOOD_SECONDS", 0.0)
        events = transport.receive()
        next(events), next(events)
        with socket.socket() as late:
            late.settimeout(0.3)
            with pytest.raises(TimeoutError):
                late.connect(address)
        assert len([*events]) > 30
        eventually(lambda: not [*transport.receive()], "all is read")
        with hostile.connect(address) as welcome:
            zmtp.shake_hands(welcome)


def test_who_does_not_read_is_cut_off(transport: Transport) -> None:
    with hostile.connect(port(transport.endpoint)) as peer:
        zmtp.shake_hands(peer)
        peer.sendall(BEAT)
        deaf = speaker(transport)
        weights = [bytes([n]) * (1 << 20) for n in range(40)]
        for data in weights:
            transport.send(deaf, data)
        assert isinstance(hears(transport, 1)[-1], Disconnected)
        assert transport.bytes_sent < 30 << 20


def test_few_files_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (101, 101))
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: None)
    assert connection_limit() == 1
    assert "101 open files (ulimit -n) leaves 1 connection" in capsys.readouterr().err
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, 1024))
    assert connection_limit() == 924
    assert capsys.readouterr().err == ""


def pose_as_coordinator(peer: socket.socket) -> None:
    """The NULL handshake of a server. Raises OSError if it fails."""
    peer.sendall(zmtp.greeting() + zmtp.ready(kind=b"ROUTER"))
    zmtp.read_exactly(peer, zmtp.GREETING_BYTES)
    _, size = zmtp.read_exactly(peer, 2)
    zmtp.read_exactly(peer, size)


# --- clients -------------------------------------------------------------------------------------


def test_bytes_and_messages_that_a_client_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microgpt.protocol.receive_limit.LOOK_SECONDS", 0.0)
    came = 0
    monkeypatch.setattr(tcp, "taken_in", lambda descriptor: came)
    limit = ReceiveLimit(1000, encrypted=False)
    limit.look()  # nobody is there
    limit.connected(-1)
    came = 1012
    limit.heard(10)
    limit.look()
    limit.drained()
    came += 1001
    with pytest.raises(TooMuchError):
        limit.look()
    limit.connected(-1)
    for _ in range(MAX_WAITING):
        limit.heard(10)
    with pytest.raises(TooMuchError):
        limit.heard(10)


def test_where_the_system_counts_nothing_it_is_asked_once_for_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("microgpt.protocol.receive_limit.LOOK_SECONDS", 0.0)
    asked: list[int] = []
    monkeypatch.setattr(tcp, "taken_in", asked.append)
    limit = ReceiveLimit(1000, encrypted=False)
    for descriptor in (3, 4):
        limit.connected(descriptor)
        limit.look()
        limit.look()
    assert asked == [3, 4]


@pytest.mark.parametrize("endless", [True, False], ids=["without an end", "small ones"])
def test_a_worker_leaves_a_coordinator_that_floods(lab: Lab, endless: bool) -> None:
    part = zmtp.frame(bytes(1 << 16), zmtp.MORE) if endless else BEAT * 1000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        worker = lab.worker(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        peer, _ = listener.accept()
        with peer:
            pose_as_coordinator(peer)
            with suppress(OSError):
                while True:
                    peer.sendall(part)
    assert worker.wait() == 1
    assert worker.err.splitlines()[-1] == (
        "error: the coordinator sends more than anybody could read: is it one?"
    )
    assert "Traceback" not in worker.err


@pytest.mark.soak
def test_an_asker_lives_through_floods_that_break_off(lab: Lab) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        asker = lab.script("sample", f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        listener.settimeout(0.2)
        until = time.monotonic() + 60
        while asker.popen.poll() is None and time.monotonic() < until:
            with suppress(OSError):
                peer, _ = listener.accept()
                with peer:
                    pose_as_coordinator(peer)
                    peer.sendall((BEAT * 60 + PING * 3) * 5)
                    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert asker.wait() == 1
        assert len(asker.err.splitlines()) == 1
        assert os.path.basename(__file__) not in asker.err
