"""Garbage, foreign and hostile messages at the port of a training: it ends with the same bits."""

from __future__ import annotations

import os
import random
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import msgpack
import pytest
import zmq

from coordinator.core.events import Expelled
from lab.faults import hostile, zmtp
from microgpt.data.packed import PackedDocuments
from microgpt.protocol import messages
from tests.conftest import Reference
from tests.marks import soak
from tests.processes import TINY, Lab, Process, eventually
from tests.system.test_system_workers import ends_alike

pytestmark = pytest.mark.timeout(300)
STEPS, SMALL = 40, 4


class Target:
    """A training with one honest worker, which must not be done before the test is."""

    def __init__(self, lab: Lab, *more: str) -> None:
        size = ("--steps", str(STEPS), "--batch-size", str(SMALL), "--shard-size", "2")
        self.coordinator = lab.coordinator(*TINY, *size, "--data", str(lab.data), *more)
        self.run = lab.run_dir()
        self.address = self.run.endpoint()
        lab.slow_down(0.01)
        self.worker: Process = lab.worker(self.address, "--name", "honest")
        self.run.reaches(2)
        self.greeted = ("", "")  # run and epoch
        self._context = zmq.Context()
        self._held = False

    def pace(self) -> None:
        """Stop the honest worker if half of the run is done. To be called while throwing."""
        if not self._held and len(self.run.metrics) >= STEPS // 2:
            self.worker.send(signal.SIGSTOP)
            self._held = True

    def let_go(self) -> None:
        """Let the honest worker finish the run."""
        self.worker.send(signal.SIGCONT)

    def dealer(self) -> zmq.Socket[bytes]:
        dealer: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 1000)
        dealer.setsockopt(zmq.RCVTIMEO, 10_000)
        dealer.connect(self.address)
        return dealer

    def hello(self, dealer: zmq.Socket[bytes], name: str = "stranger") -> None:
        dealer.send(messages.encode(messages.Hello("", "", name, "scalar", "")))
        welcome = self.receive(dealer, messages.Welcome)
        self.greeted = (welcome.run, welcome.epoch)
        dealer.send(messages.encode(messages.Heartbeat(welcome.run, welcome.epoch, ready=True)))

    def receive(self, dealer: zmq.Socket[bytes], kind: type[Any]) -> Any:
        while True:
            message = messages.decode(dealer.recv())
            if isinstance(message, kind):
                return message

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def target(lab: Lab) -> Iterator[Target]:
    target = Target(lab)
    try:
        yield target
    finally:
        target.close()


def trains_on(target: Target, reference: Reference, complaints: int = 40) -> None:
    target.let_go()
    assert target.coordinator.wait() == 0, target.coordinator.err
    ends_alike(target.run, reference(STEPS, SMALL))
    shown = target.coordinator.err.splitlines()
    assert "Traceback" not in target.coordinator.err
    assert len(shown) <= complaints, "the log is flooded"
    assert target.worker.wait() == 0


def test_garbage_on_the_bare_port(target: Target, reference: Reference) -> None:
    host, port = target.address.removeprefix("tcp://").split(":")
    rng = random.Random(1)
    greeting = b"\xff\0\0\0\0\0\0\0\1\x7f\3\0NULL" + bytes(48)
    for attempt in range(60):
        target.pace()
        with socket.create_connection((host, int(port))) as sock:
            prefix = [b"", b"GET / HTTP/1.1\r\n\r\n", greeting, greeting[:20]][attempt % 4]
            sock.sendall(prefix + rng.randbytes(rng.randrange(3000)))
            if attempt % 2:  # hang up with a reset
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    trains_on(target, reference)


FOREIGN = [
    b"", b"\xc1", b"\x80", b"\xc0", b"\x01", b"hello", b"\x93\x01\x02\x03", b"\x91" * 5000,
    b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x81\xc0\xc0",
    msgpack.packb({"protocol": 3}), msgpack.packb({"protocol": 3, "kind": "launch"}),
    msgpack.packb({"protocol": 3, "kind": ["hello"]}), msgpack.packb({"protocol": "\x1b[2Jx"}),
    messages.encode(messages.Hello(1, "", "", "", "")),  # type: ignore[arg-type]  # on purpose
    msgpack.packb({"protocol": 3, "kind": "goodbye", "run": "", "epoch": "", "more": 0}),
    messages.encode(messages.Hello("", "", "old", "scalar", ""), protocol=0),
]  # fmt: skip


def test_foreign_and_mutated_messages(target: Target, reference: Reference) -> None:
    rng = random.Random(2)
    models = [
        messages.Heartbeat("run", "epoch", ready=True),
        messages.Status("run", "epoch", "text"),
        messages.Goodbye("run", "epoch"),
        messages.ShardResult("run", "epoch", 3, 0, 2, 0.1, bytes(16), {"wte": bytes(8)}, round=0),
        messages.Task("run", "epoch", 1, 0, 1, *PackedDocuments.pack([[1, 2]]).to_bytes(), round=0),
    ]
    dealers = [target.dealer() for _ in range(5)]
    for frame in FOREIGN * 5:
        target.pace()
        rng.choice(dealers).send(frame)
    for _ in range(1000):
        target.pace()
        data = bytearray(messages.encode(rng.choice(models)))
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        rng.choice(dealers).send(bytes(data))
        rng.choice(dealers).send(rng.randbytes(rng.randrange(200)))
    for dealer in dealers:
        dealer.send_multipart([b"two", b"parts"])
        dealer.send_multipart([b"x"] * 500)
    # All of it has been looked at when the one who comes after it is answered.
    target.hello(target.dealer(), "late")
    target.run.happens("foreign")
    trains_on(target, reference)
    assert "\x1b" not in target.coordinator.out + target.coordinator.err


@pytest.mark.soak
def test_a_huge_frame_is_not_taken_in(target: Target, reference: Reference) -> None:
    target.worker.send(signal.SIGSTOP)
    dealer = target.dealer()
    dealer.send(bytes(20 << 20))
    dealer.send_multipart([bytes(1 << 20)] * 8)
    before = memory(target.coordinator)
    trains_on(target, reference)
    assert before < 600 << 20


def memory(process: Process) -> int:
    with open(f"/proc/{process.pid}/statm") as file:
        return int(file.read().split()[1]) * 4096


def answers(task: messages.Task) -> dict[str, Any]:
    """The fields of a well-formed answer to a task, but for the gradient."""
    return {
        "run": task.run,
        "epoch": task.epoch,
        "round": task.round,
        "step": task.step,
        "start": task.start,
        "count": task.count,
        "seconds": 0.0,
        "losses": struct.pack("<d", 1.0) * task.count,
    }


def spoiled(fields: dict[str, Any], weights: dict[str, bytes], how: str) -> messages.ShardResult:
    """An answer with a gradient of zeros and something wrong with it."""
    gradient = {name: bytes(len(part)) for name, part in weights.items()}
    nan = struct.pack("<d", float("nan"))
    if how == "nan":
        gradient["wte"] = nan + gradient["wte"][8:]
    elif how == "infinite loss":
        fields["losses"] = struct.pack("<d", float("inf")) * fields["count"]
    elif how == "short":
        gradient["wte"] = gradient["wte"][8:]
    elif how == "unknown name":
        gradient["\x1b[2J"] = b""
    elif how == "missing name":
        del gradient["wpe"]
    elif how == "losses":
        fields["losses"] = b""
    return messages.ShardResult(gradient=gradient, **fields)


@pytest.mark.parametrize(
    "how",
    ["nan", *map(soak, ("unknown name", "short", "infinite loss", "missing name", "losses"))],
)
def test_a_worker_whose_answers_are_spoiled_is_cut_off(
    target: Target, reference: Reference, how: str
) -> None:
    target.worker.send(signal.SIGSTOP)  # so that the stranger is sure to get a shard
    dealer = target.dealer()
    target.hello(dealer)
    weights = target.receive(dealer, messages.Weights)
    task = target.receive(dealer, messages.Task)
    answer = spoiled(answers(task), dict(weights.weights), how)
    dealer.send(messages.encode(answer))
    target.run.happens("expelled")
    trains_on(target, reference)
    (expelled,) = target.run.events(Expelled)
    assert expelled.name == "stranger"
    assert "\x1b" not in target.coordinator.out + target.coordinator.err


@pytest.mark.soak
@pytest.mark.parametrize(
    "change",
    [
        {"step": 0},
        *map(soak, ({"epoch": "other"}, {"start": 1}, {"step": 1 << 40}, {"run": "other"})),
    ],
    ids=str,
)
def test_answers_to_what_was_not_asked_are_dropped(
    target: Target, reference: Reference, change: dict[str, Any]
) -> None:
    target.worker.send(signal.SIGSTOP)  # so that the stranger is sure to get a shard
    dealer = target.dealer()
    target.hello(dealer)
    weights = target.receive(dealer, messages.Weights)
    task = target.receive(dealer, messages.Task)
    fields = {**answers(task), **change}
    for _ in range(50):
        dealer.send(messages.encode(spoiled(dict(fields), dict(weights.weights), "no")))
    dealer.send(messages.encode(messages.Goodbye(task.run, task.epoch)))
    trains_on(target, reference)


def test_somebody_who_takes_work_and_never_answers(lab: Lab, reference: Reference) -> None:
    target = Target(lab, "--worker-timeout", "0.5")
    try:
        dealer = target.dealer()
        target.hello(dealer)
        target.receive(dealer, messages.Task)
        eventually(lambda: {"silent", "lost"} & set(target.run.kinds()), "it is given up")
        trains_on(target, reference)
    finally:
        target.close()


@pytest.mark.soak
def test_crowds_that_join_and_leave(target: Target, reference: Reference) -> None:
    for _ in range(3):
        crowd = []
        for number in range(100):
            target.pace()
            crowd.append(dealer := target.dealer())
            dealer.send(messages.encode(messages.Hello("", "", f"crowd {number}", "scalar", "")))
        target.receive(crowd[-1], messages.Welcome)
        for dealer in crowd:
            dealer.close(linger=0)
    trains_on(target, reference, complaints=700)


@pytest.mark.soak
def test_a_name_that_many_claim_costs_no_descriptors(target: Target, reference: Reference) -> None:
    """Connections that still say something after others have claimed their name."""
    host, _, port = target.address.removeprefix("tcp://").partition(":")
    hello = zmtp.frame(messages.encode(messages.Hello("", "", "same", "scalar", "")))
    before = descriptors(target.coordinator)
    for _ in range(30):
        target.pace()
        with ExitStack() as stack:
            peers = [stack.enter_context(hostile.connect((host, int(port)))) for _ in range(4)]
            for peer in peers:
                zmtp.shake_hands(peer, b"same")
                peer.sendall(hello)
                zmtp.read_exactly(peer, 100)  # it is welcome, and the others are not what they were
            for peer in peers:
                with suppress(OSError):
                    peer.sendall(hello)
    eventually(lambda: descriptors(target.coordinator) <= before + 3, "they are closed")
    trains_on(target, reference, complaints=300)


def descriptors(process: Process) -> int:
    """How many it has open."""
    return len(os.listdir(f"/proc/{process.pid}/fd"))


def test_who_is_told_to_stop_is_not_cut_off_with_that_word(target: Target) -> None:
    """What a connection brings is lost if it is closed before the other side has read it."""
    dealer = target.dealer()
    target.hello(dealer)
    target.coordinator.send(signal.SIGINT)
    target.receive(dealer, messages.Stop)
    target.hello(dealer)  # who is still there is still heard
    target.receive(dealer, messages.Stop)
    dealer.close(linger=0)
    assert (target.coordinator.wait(), target.worker.wait()) == (130, 0)


def test_a_worker_of_another_version_is_refused(lab: Lab) -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    worker = lab.worker(f"tcp://127.0.0.1:{port}")
    try:
        assert router.poll(60_000), "the worker says nothing"
        peer, _hello = router.recv_multipart()
        welcome = messages.Welcome("run", "epoch", 1, 1.5, {"vocab_size": 5})
        router.send_multipart([peer, messages.encode(welcome, protocol=1)])
        assert worker.wait(10) == 1
    finally:
        context.destroy(linger=0)
    (line,) = worker.err.splitlines()
    assert line.startswith("error: ")
    assert (
        f"protocol 1, this program {messages.PROTOCOL}: run the same version on both sides" in line
    )


@pytest.mark.soak
def test_the_coordinator_tells_a_worker_of_another_version(
    target: Target, reference: Reference
) -> None:
    target.worker.send(signal.SIGSTOP)
    dealer = target.dealer()
    hello = messages.Hello("", "", "from the future", "scalar", "")
    dealer.send(messages.encode(hello, protocol=1))
    refusal = target.receive(dealer, messages.Refuse)
    assert f"protocol 1, this program {messages.PROTOCOL}" in refusal.reason
    trains_on(target, reference)
