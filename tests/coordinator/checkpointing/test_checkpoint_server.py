"""Questions about checkpoints at a coordinator's socket: bounded, whoever asks how often."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.checkpointing import server as libraries
from coordinator.checkpointing.index import CheckpointIndex
from coordinator.checkpointing.server import QUESTIONS_OF_ONE, SLOTS, CheckpointServer
from coordinator.checkpointing.writer import step_path
from coordinator.core.inputs import Input, Received
from coordinator.net import router
from coordinator.net.router import Transport
from lab.faults import hostile, zmtp
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    MAX_PART,
    CheckpointList,
    CheckpointPart,
    FetchCheckpoint,
    ListCheckpoints,
    Message,
    NoCheckpoint,
    Question,
    Reply,
)
from tests.processes import eventually

FILE = bytes(range(256)) * (64 * MAX_PART // 256)


class SlowShelf(CheckpointIndex):
    """Stands on a disk that may hang."""

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir, "run", "epoch")
        self.newest = 1
        self.spins = threading.Event()
        self.spins.set()
        self.asked = 0

    def reply(self, question: Question) -> Reply:
        self.asked += 1
        self.spins.wait(60)
        return super().reply(question)


class Desk:
    """A library behind a socket, and what the server does with both."""

    def __init__(self, place: Path) -> None:
        (place / "checkpoints").mkdir()
        step_path(place, 1).write_bytes(FILE)
        self.transport = Transport("tcp://127.0.0.1:*", 1 << 24)
        self.checkpoint_index = SlowShelf(place)
        self.checkpoint_server = CheckpointServer(self.checkpoint_index, self.transport)
        self.others: list[Input] = []
        self.peers: list[Peer] = []

    def work(self) -> bool:
        """One round of the server's loop."""
        self.transport.wait(0.001)
        for event in self.transport.receive():
            if isinstance(event, Received) and isinstance(event.message, Question):
                self.checkpoint_server.ask(event.peer, event.message, time.monotonic())
            else:
                self.others.append(event)
        self.checkpoint_server.hand_out(time.monotonic())
        for peer in self.checkpoint_server.stuck(time.monotonic()):
            self.transport.cut_off(peer)
        return True

    def connect(self, name: bytes) -> Peer:
        port = int(self.transport.endpoint.rpartition(":")[2])
        self.peers.append(Peer(self, hostile.connect(("127.0.0.1", port)), name))
        return self.peers[-1]

    def close(self) -> None:
        self.checkpoint_index.spins.set()
        self.checkpoint_server.close(10)
        for peer in self.peers:
            peer.socket.close()
        self.transport.close()


class Peer:
    """Somebody who asks over a bare connection, and reads only when told to."""

    def __init__(self, desk: Desk, connection: socket.socket, name: bytes) -> None:
        self._desk, self.socket, self._reader = desk, connection, zmtp.Reader(greeted=True)
        self.replies: list[Message] = []
        self.ended = False
        zmtp.shake_hands(connection, name)
        connection.settimeout(0.001)

    def ask(self, *questions: Question) -> None:
        self.socket.settimeout(10)
        self.socket.sendall(b"".join(zmtp.frame(messages.encode(q)) for q in questions))
        self.socket.settimeout(0.001)

    def read(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return
        except ConnectionError:
            data = b""
        self.ended = not data
        self.replies += map(messages.decode, self._reader.feed(data))

    def has_ended(self) -> bool:
        """Whether the coordinator has hung up, having read on until then."""
        self._desk.work()
        self.read()
        return self.ended

    def hears(self, count: int) -> list[Message]:
        """Its replies, as soon as it has so many."""

        def enough() -> bool:
            self._desk.work()
            self.read()
            return len(self.replies) >= count

        eventually(enough, f"{count} replies")
        return self.replies


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(router, "FLOOD_SECONDS", 60.0)  # nobody is there to open a shut door
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.close()


def part(number: int, offset: int = 0) -> FetchCheckpoint:
    return FetchCheckpoint("", "", number, 1, offset, None)


def numbers(replies: list[Message]) -> list[tuple[type[Message], int]]:
    assert all(isinstance(reply, Reply) for reply in replies)
    return [(type(reply), reply.number) for reply in replies if isinstance(reply, Reply)]


def test_questions_are_answered_in_turn(desk: Desk) -> None:
    asker = desk.connect(b"asker")
    asker.ask(ListCheckpoints("", "", 5))
    assert numbers(asker.hears(1)) == [(CheckpointList, 5)]
    for number in range(1, 20):
        offset = number * MAX_PART
        asker.ask(part(number, offset))
        data = FILE[offset : offset + MAX_PART]
        expected = CheckpointPart("run", "epoch", number, 1, len(FILE), offset, data)
        assert asker.hears(number + 1)[-1] == expected
    assert desk.others == []


def test_while_the_disk_hangs_few_questions_wait(desk: Desk) -> None:
    desk.checkpoint_index.spins.clear()
    impatient = desk.connect(b"impatient")
    impatient.ask(*[part(1)] * 20, *map(part, range(2, 60)))
    impatient.socket.sendall(zmtp.frame(messages.encode(messages.Goodbye("", ""))))
    eventually(lambda: desk.work() and desk.others, "all of it is heard")
    crowd = [desk.connect(b"crowd %d" % n) for n in range(SLOTS)]
    for peer in crowd:
        peer.ask(part(1))

    def heard() -> int:
        desk.work()
        for peer in crowd:
            peer.read()
        return sum(len(peer.replies) for peer in crowd)

    eventually(lambda: heard() == QUESTIONS_OF_ONE, "so many hear that it is busy")
    busy = NoCheckpoint("", "", 1, "the coordinator is busy", again=True)
    assert [reply for peer in crowd for reply in peer.replies] == [busy] * QUESTIONS_OF_ONE
    assert desk.checkpoint_index.asked == 1

    desk.checkpoint_index.spins.set()
    eventually(lambda: heard() == SLOTS, "everybody hears something")
    answered = [(CheckpointPart, number) for number in range(1, QUESTIONS_OF_ONE + 1)]
    assert numbers(impatient.hears(QUESTIONS_OF_ONE)) == answered, "what is too much is not"
    assert desk.checkpoint_index.asked == SLOTS


def test_who_does_not_read_is_given_little_and_cut_off(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    hoarders = [desk.connect(b"hoarder %d" % n) for n in range(4)]
    asked_for = 0

    def hoard() -> bool:
        nonlocal asked_for
        for hoarder in hoarders:
            hoarder.ask(part(asked_for))
        asked_for += 1
        return desk.work()

    reader, asked = desk.connect(b"reader"), 0

    def told(kind: type[Message]) -> bool:
        nonlocal asked
        asked += 1
        reader.ask(part(asked))
        return isinstance(reader.hears(asked)[-1], kind)

    eventually(lambda: hoard() and told(NoCheckpoint), "the hoarders occupy all there is")
    occupied = desk.checkpoint_index.asked
    for _ in range(40):
        hoard()
    assert desk.checkpoint_index.asked < occupied + SLOTS, "they are given no more"

    monkeypatch.setattr(libraries, "STUCK_SECONDS", 2.0)  # who reads takes less
    eventually(lambda: told(CheckpointPart), "who reads is served again")
    for hoarder in hoarders:
        eventually(hoarder.has_ended, "the hoarder is cut off")


def test_who_is_gone_occupies_nothing(desk: Desk) -> None:
    for turn in range(3 * SLOTS):
        peer = desk.connect(b"short %d" % turn)
        peer.ask(*map(part, range(30)))
        peer.socket.close()
        desk.work()
    last = desk.connect(b"last")
    asked = 0

    def served() -> bool:
        nonlocal asked
        asked += 1
        last.ask(part(asked))
        return isinstance(last.hears(asked)[-1], CheckpointPart)

    eventually(served, "the last one is served")


def test_whoever_has_asked_lately_looks_on(desk: Desk) -> None:
    now = time.monotonic()
    assert not desk.checkpoint_server.watched(now)
    desk.checkpoint_server.ask(b"nobody", part(1), now)
    assert desk.checkpoint_server.watched(now + 0.9 * libraries.WATCHED_SECONDS)
    assert not desk.checkpoint_server.watched(now + 1.1 * libraries.WATCHED_SECONDS)


def test_a_hanging_disk_does_not_hold_up_the_end(desk: Desk) -> None:
    desk.checkpoint_index.spins.clear()
    desk.checkpoint_server.ask(b"nobody", part(1), 0.0)
    eventually(lambda: desk.checkpoint_index.asked, "the disk hangs")
    began = time.monotonic()
    desk.checkpoint_server.close(0.1)
    assert time.monotonic() - began < 5
