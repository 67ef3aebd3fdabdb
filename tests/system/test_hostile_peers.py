"""Thousands of hostile messages and connections at a training: it goes on to the same bits."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import msgpack
import pytest

from coordinator.core.events import Difference, Foreign
from coordinator.core.inputs import Disconnected, Input
from coordinator.net import door, router
from coordinator.net.limits import MAX_CONNECTIONS, OWN_FILES, connection_limit
from coordinator.net.router import Transport
from lab.faults import hostile, zmtp
from lab.faults.hostile import Capture, malformed, silent_connections, throw
from lab.faults.proxy import Proxy
from microgpt.protocol import messages
from tests.conftest import Reference
from tests.processes import TINY, Lab, Process, RunDir, eventually
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)
STEPS, SMALL = 40, 4
#: Messages of a flood; those of the second only in make test-all.
THROWN = [2_000, pytest.param(20_000, marks=pytest.mark.soak)]
MOST_LINES = 100  # about foreign messages, however many there are
MOST_GROWTH = 100 << 20  # bytes, with thousands of connections
FLOOD_GROWTH = 32 << 20  # bytes; without limits twenty thousand messages take 100 MiB


class Target:
    """A training with one honest worker, whose traffic is recorded."""

    def __init__(self, lab: Lab, *more: str) -> None:
        size = ("--steps", str(STEPS), "--batch-size", str(SMALL), "--data", str(lab.data))
        self.coordinator = lab.coordinator(*TINY, *size, *more)
        self.run: RunDir = lab.run_dir()
        host, _, port = self.run.endpoint().removeprefix("tcp://").rpartition(":")
        self.address = host, int(port)
        self.capture = Capture()
        self.proxy = Proxy(self.address, observer=self.capture.observer())
        lab.slow_down(0.01)
        self.worker: Process = lab.worker(self.proxy.address, "--name", "honest")
        self.run.reaches(6)

    @property
    def captured(self) -> list[bytes]:
        return [*self.capture.upwards, *self.capture.downwards]

    def memory(self) -> int:
        """Resident bytes of the coordinator."""
        pages = Path(f"/proc/{self.coordinator.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    def hold(self) -> None:
        """Let the run wait for its worker, so that it is still there when we are done."""
        self.worker.send(signal.SIGSTOP)

    def goes_on(self, reference: Reference) -> None:
        self.worker.send(signal.SIGCONT)
        assert self.coordinator.wait() == 0, self.coordinator.err[-2000:]
        ends_alike(self.run, reference(STEPS, SMALL))
        assert self.worker.wait() == 0, self.worker.err
        assert "Traceback" not in self.coordinator.out + self.coordinator.err


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    target = Target(lab)
    try:
        yield target
    finally:
        target.proxy.close()


@pytest.mark.soak
def test_what_is_thrown_is_malformed_or_a_replay(target: Target) -> None:
    captured = target.captured
    kinds = {messages.decode(message).__class__.__name__ for message in captured}
    assert {"Hello", "ShardResult", "Welcome", "Weights", "Task"} <= kinds
    rng = random.Random(1)
    thrown = [malformed(rng, captured) for _ in range(2_000)]
    assert 0.05 < sum(message in captured for message in thrown) / len(thrown) < 0.3
    assert thrown[:50] != thrown[50:100]
    rng = random.Random(1)
    assert [malformed(rng, captured) for _ in range(2_000)] == thrown, "repeats by seed"


@pytest.mark.parametrize("thrown", THROWN)
def test_thousands_of_malformed_messages(target: Target, reference: Reference, thrown: int) -> None:
    done = len(target.run.metrics)
    throw(target.address, target.captured, 200, seed=1)  # while it trains
    eventually(lambda: len(target.run.metrics) > done, "steps are done under fire")
    target.hold()
    before = target.memory()
    assert throw(target.address, target.captured, thrown, seed=2) >= thrown
    assert target.memory() - before < FLOOD_GROWTH
    target.goes_on(reference)
    about = target.run.events(Foreign)
    assert 0 < len(about) <= MOST_LINES
    assert len(target.coordinator.err.splitlines()) <= 2 * MOST_LINES


@pytest.mark.soak
@pytest.mark.parametrize("thrown", THROWN)
def test_a_flood_of_questions_about_checkpoints(
    target: Target, reference: Reference, thrown: int
) -> None:
    done = len(target.run.metrics)
    throw(target.address, [], 200, seed=4, spoil=hostile.question)  # while it trains
    eventually(lambda: len(target.run.metrics) > done, "steps are done under fire")
    target.hold()
    before = target.memory()
    assert throw(target.address, [], thrown, seed=5, spoil=hostile.question) >= thrown
    # And those who ask for whole files, and take nothing in.
    hoarders = [hostile.connect(target.address) for _ in range(50)]
    fetch = [messages.FetchCheckpoint("", "", n, 0, 0, None) for n in range(400)]
    asked = b"".join(zmtp.frame(messages.encode(question)) for question in fetch)
    try:
        for number, peer in enumerate(hoarders):
            with contextlib.suppress(OSError):  # it may be hung up on at any time
                zmtp.shake_hands(peer, b"hoarder%d" % number)
                peer.sendall(asked)

        def is_answered() -> bool:
            """Ask once, as a client does again and again while the coordinator is flooded."""
            with contextlib.suppress(OSError), hostile.connect(target.address) as last:
                zmtp.shake_hands(last, b"last")
                last.sendall(zmtp.frame(messages.encode(messages.ListCheckpoints("", "", 1))))
                reply = receive(last, zmtp.Reader(greeted=True), messages.Message)
                return isinstance(reply, messages.CheckpointList | messages.NoCheckpoint)
            return False

        eventually(is_answered, "a question is answered")
        assert target.memory() - before < FLOOD_GROWTH
        target.goes_on(reference)
    finally:
        for peer in hoarders:
            peer.close()
    assert target.run.kinds().count("foreign") <= MOST_LINES  # who asks without a pause is cut off


@pytest.mark.soak
def test_spoiled_answers_of_a_member(target: Target, reference: Reference) -> None:
    """Whoever is welcomed and then answers with wrong shapes, formats or no numbers is cut off."""
    plain = msgpack.unpackb(next(m for m in target.capture.upwards if b"gradient" in m))
    target.hold()
    rng = random.Random(3)
    for number in range(10):
        with hostile.connect(target.address) as peer:
            zmtp.shake_hands(peer, b"member%d" % number)
            reader = zmtp.Reader(greeted=True)
            hello = messages.Hello("", "", f"member {number}", "scalar", "")
            peer.sendall(zmtp.frame(messages.encode(hello)))
            welcome = receive(peer, reader, messages.Welcome)
            ready = messages.Heartbeat(welcome.run, welcome.epoch, ready=True)
            peer.sendall(zmtp.frame(messages.encode(ready)))
            task = receive(peer, reader, messages.Task)
            assert isinstance(task, messages.Task)
            gradient = dict(plain["gradient"])
            hostile.spoil_gradient(rng, gradient)
            losses = bytes(8 * task.count)
            answer = messages.ShardResult(
                task.run,
                task.epoch,
                task.step,
                task.start,
                task.count,
                0.1,
                losses,
                gradient,
                True,
                round=task.round,
            )
            peer.sendall(zmtp.frame(messages.encode(answer)))
            with contextlib.suppress(ConnectionError):  # whatever comes first
                assert isinstance(receive(peer, reader, messages.Refuse), messages.Refuse)
    target.run.happens("expelled", 10)
    target.goes_on(reference)


def receive(
    peer: socket.socket, reader: zmtp.Reader, kind: type[messages.Message]
) -> messages.Message:
    """The next message of a kind."""
    while True:
        received = peer.recv(1 << 16)
        if not received:
            raise ConnectionError("the coordinator has hung up")
        for data in reader.feed(received):
            message = messages.decode(data)
            if isinstance(message, kind):
                return message


def pour(peer: socket.socket, data: bytes, times: int) -> None:
    for _ in range(times):
        peer.sendall(data)


def test_a_message_that_does_not_end(target: Target, reference: Reference) -> None:
    """No limit of ZeroMQ is for all parts of a message together."""
    target.hold()
    before, most = target.memory(), 0
    part = zmtp.frame(bytes(1 << 16), zmtp.MORE)
    for number in range(3):
        with hostile.connect(target.address) as peer:
            zmtp.shake_hands(peer, b"endless%d" % number)
            with pytest.raises(ConnectionError):
                pour(peer, part, 1 << 16)  # 4 GiB
            most = max(most, target.memory() - before)
    assert most < 5 * MOST_GROWTH, "of 4 GiB that were sent, or would have been"
    eventually(lambda: target.memory() - before < FLOOD_GROWTH, "the memory is given back")
    target.goes_on(reference)


@pytest.mark.parametrize("opened", [300, pytest.param(2_000, marks=pytest.mark.soak)])
def test_thousands_of_connections_that_say_nothing(
    target: Target, reference: Reference, opened: int
) -> None:
    target.hold()
    before = target.memory()
    crowd = list(silent_connections(target.address, opened))
    try:
        assert len(crowd) > 0.75 * opened
        # With all of them there, a new worker is welcomed and the honest one works.
        done = len(target.run.metrics)
        target.worker.send(signal.SIGCONT)
        eventually(lambda: len(target.run.metrics) > done, "steps are done among the silent")
        assert target.memory() - before < MOST_GROWTH
        target.goes_on(reference)
    finally:
        for peer in crowd:
            peer.close()


@pytest.mark.soak
def test_an_oversized_frame_is_not_taken_in(target: Target, reference: Reference) -> None:
    target.hold()
    before = target.memory()
    for _ in range(4):
        with hostile.connect(target.address) as peer:
            zmtp.shake_hands(peer, b"large")
            peer.sendall(bytes([zmtp.LONG]) + (1 << 40).to_bytes(8, "big"))
            # It hangs up: an end or a reset, but no patience.
            with pytest.raises(ConnectionError):
                send_forever(peer)
    assert target.memory() - before < MOST_GROWTH
    target.goes_on(reference)


def send_forever(peer: socket.socket) -> None:
    """Until the other side hangs up."""
    while True:
        peer.sendall(bytes(1 << 16))


# --- connections in the transport itself ---------------------------------------------------------


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport("tcp://127.0.0.1:*", 1 << 20)
    try:
        yield transport
    finally:
        transport.close()


def listen(transport: Transport, heard: list[Input], count: int) -> None:
    """Until so many events have come."""

    def enough() -> bool:
        heard.extend(transport.receive())
        return len(heard) >= count

    eventually(enough, f"{count} events")


@pytest.mark.parametrize("spare", [0, 1], ids=["even", "odd"])
def test_a_failed_handshake_is_nobody_elses_end(
    transport: Transport, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libzmq reports it with an error number, which may be the descriptor of somebody else."""
    # Nobody is there to open the door again, and who is turned away in a crowd does not come again.
    monkeypatch.setattr(router, "FLOOD_SECONDS", 60.0)
    monkeypatch.setattr(door, "CROWD", 1000)
    address = "127.0.0.1", int(transport.endpoint.rpartition(":")[2])
    reserved = [os.dup(0) for _ in range(spare)]  # our ends take every other descriptor
    peers: list[socket.socket] = []
    heard: list[Input] = []
    for number in range(60):
        peer = hostile.connect(address)
        zmtp.shake_hands(peer, b"peer%d" % number)
        peer.sendall(zmtp.frame(messages.encode(messages.Heartbeat("", "", ready=True))))
        peers.append(peer)
    listen(transport, heard, 60)
    for _ in range(5):
        hostile.connect(address).close()
    last = hostile.connect(address)
    zmtp.shake_hands(last, b"last")
    last.sendall(zmtp.frame(b"?"))
    after: list[Input] = []
    listen(transport, after, 1)
    assert not [event for event in after if isinstance(event, Disconnected)]
    for peer in (*peers, last):
        peer.close()
    for descriptor in reserved:
        os.close(descriptor)


def test_strangers_leave_files_for_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = [(50, 1024)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: limits.append(new))
    assert connection_limit() == 1024 - OWN_FILES
    assert limits[-1] == (1024, 1024)
    limits.append((10**6, 10**6))
    assert connection_limit() == MAX_CONNECTIONS
    assert limits[-1] == (10**6, 10**6)


# --- a member that lies --------------------------------------------------------------------------

LIAR = """
import sys
from dataclasses import replace
from microgpt.support import cli
from microgpt.engine.scalar import ScalarEngine

honest = ScalarEngine.gradients

def gradients(self, params, documents):
    result = honest(self, params, documents)
    gradient = result.gradient.copy()
    gradient.view("u8")[7] ^= 1  # the last bit of one number
    return replace(result, gradient=gradient)

ScalarEngine.gradients = gradients
from worker.__main__ import main
cli.run(main, args=sys.argv[1:])
"""


def test_two_answers_that_differ_in_a_bit_are_reported_with_both_names(lab: Lab) -> None:
    size = ("--steps", str(STEPS), "--batch-size", str(SMALL), "--data", str(lab.data))
    coordinator = lab.coordinator(*TINY, *size, "--verify-fraction", "1.0")
    run = lab.run_dir()
    connect = ("--connect", run.endpoint(), "--engine", "scalar")
    lab.slow_down(0.03)  # neither has done it all before the other is there
    lab.start(sys.executable, "-c", LIAR, *connect, "--name", "liar", name="liar")
    lab.worker(run.endpoint(), "--name", "honest")
    run.happens("difference")
    assert set(run.events(Difference)[0].names) == {"liar", "honest"}
    coordinator.says("one of them is broken")
    coordinator.send(signal.SIGTERM)
    coordinator.wait()


def test_threads_of_this_test_end() -> None:
    assert [t.name for t in threading.enumerate() if t.name == "proxy"] == []
