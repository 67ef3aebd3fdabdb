"""What the coordinator's socket makes of what comes in, over real connections."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from coordinator.core.inputs import Disconnected, Input, Misbehaved, Peer, Received
from coordinator.net.router import Transport
from lab.faults import hostile, zmtp
from microgpt.protocol.messages import Goodbye, Hello, encode
from tests.processes import eventually

LAST = Goodbye("run", "epoch")
WORD = zmtp.frame(encode(LAST))


@pytest.fixture
def transport() -> Iterator[Transport]:
    transport = Transport("tcp://127.0.0.1:*", 1 << 20)
    yield transport
    transport.close()


def heard(transport: Transport, kind: type[Input], number: int = 1) -> list[Input]:
    """All that has come in until so many of a kind have."""
    inputs: list[Input] = []

    def enough() -> bool:
        transport.wait(0.01)
        inputs.extend(transport.receive())
        return sum(isinstance(each, kind) for each in inputs) >= number

    eventually(enough, f"{number} of {kind.__name__}")
    return inputs


def dealer(context: zmq.Context[zmq.Socket[bytes]], transport: Transport) -> zmq.Socket[bytes]:
    socket = context.socket(zmq.DEALER)
    socket.setsockopt(zmq.IDENTITY, b"somebody")
    socket.setsockopt(zmq.LINGER, 1000)
    socket.connect(transport.endpoint)
    return socket


def test_what_is_garbled_is_told_once_for_each_connection(transport: Transport) -> None:
    with zmq.Context() as context:
        for _ in range(2):
            with dealer(context, transport) as socket:
                socket.send(encode(LAST))
                inputs = heard(transport, Received)
                for _ in range(5):
                    socket.send(b"garbage")
                    socket.send_multipart([b"two", b"parts"])
                    socket.send(encode(LAST))
            inputs += heard(transport, Disconnected)
            assert [type(each) for each in inputs] == [Received, Misbehaved, Disconnected]


# --- names ---------------------------------------------------------------------------------------


def comes(transport: Transport, claim: bytes = b"") -> socket.socket:
    """A new connection, which has said something. ``claim`` is the name that it would have."""
    peer = hostile.connect(("127.0.0.1", int(transport.endpoint.rpartition(":")[2])))
    zmtp.shake_hands(peer, claim)
    peer.sendall(WORD)
    return peer


def speaker(transport: Transport) -> Peer:
    """Whose message is heard next: the last one, if there are more."""
    return [event.peer for event in heard(transport, Received) if isinstance(event, Received)][-1]


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def test_nobody_has_the_name_that_it_claims_or_disturbs_who_has_it(transport: Transport) -> None:
    """Be it a member's or the next one to be given."""
    with ExitStack() as stack:
        member = stack.enter_context(comes(transport))
        name = speaker(transport)
        number = int.from_bytes(name[1:])
        peers = {name: member}
        for claim in (name, b"same", b"same", *(b"\0" + (number + n).to_bytes(4) for n in (5, 6))):
            peer = stack.enter_context(comes(transport, claim))
            own = speaker(transport)
            assert own not in (*peers, claim)
            peers[own] = peer
        for own, peer in peers.items():
            peer.sendall(WORD)
            assert speaker(transport) == own
            transport.send(own, own)
        for own, peer in peers.items():
            assert zmtp.read_exactly(peer, 2 + len(own))[2:] == own


def test_a_name_that_many_claim_leaves_no_descriptor_behind(transport: Transport) -> None:
    """Of connections that still say something after others have claimed their name."""
    with comes(transport) as member:
        name = speaker(transport)
        before = descriptors()
        for _ in range(50):
            with ExitStack() as stack:
                peers = []
                for _ in range(4):
                    peers.append(stack.enter_context(comes(transport, b"same")))
                    speaker(transport)
                for peer in peers:
                    with suppress(OSError):  # it has been broken off
                        peer.sendall(WORD)
        eventually(lambda: is_quiet(transport) and descriptors() <= before, "all are closed")
        member.sendall(WORD)
        assert speaker(transport) == name


def is_quiet(transport: Transport) -> bool:
    """Whether nothing comes for a moment."""
    transport.wait(0.01)
    return not [*transport.receive()]


def test_who_has_the_descriptor_of_one_that_spoke_and_went_is_heard(transport: Transport) -> None:
    """While we were busy: the words of that one are read when the descriptor is another's."""
    before = descriptors()
    comes(transport).close()
    eventually(lambda: descriptors() == before, "the other end is closed as well")
    with comes(transport) as peer:
        *_, second = heard(transport, Received, 2)
        assert isinstance(second, Received)
        peer.sendall(WORD)
        assert speaker(transport) == second.peer
    assert heard(transport, Disconnected) == [Disconnected(second.peer)]


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:*", "ipc://{}/socket"])
def test_what_goes_over_each_connection_is_counted_and_where_it_comes_from_is_told(
    tmp_path: Path, address: str
) -> None:
    hello = encode(Hello("", "", "anna", "stub", ""))
    transport = Transport(address.format(tmp_path), 1 << 20)
    with zmq.Context() as context:
        assert transport.traffic(b"somebody") is None
        sockets = [context.socket(zmq.DEALER) for _ in range(2)]
        for number, socket in enumerate(sockets):
            socket.connect(transport.endpoint)
            for _ in range(number + 1):
                socket.send(hello)
            socket.send(encode(LAST))
        given = [each for each in heard(transport, Received, 5) if isinstance(each, Received)]
        hosts = {(type(each.message).__name__, each.host) for each in given}
        host = "127.0.0.1" if address.startswith("tcp") else ""
        assert hosts == {("Hello", host), ("Goodbye", "")}
        counts = Counter(each.peer for each in given)
        data = [b"x" * 100, b"y" * 100_000]
        for peer, number in counts.items():
            for each in data[: number - 1]:
                transport.send(peer, each)
            sent, received = sum(map(len, data[: number - 1])), len(encode(LAST))
            assert transport.traffic(peer) == (sent, (number - 1) * len(hello) + received)
        assert sorted(counts.values()) == [2, 3]
        assert transport.bytes_sent == 100 + 100_100
        for socket in sockets:
            socket.close(linger=0)
        heard(transport, Disconnected, 2)
        assert [transport.traffic(peer) for peer in counts] == [None, None]
    transport.close()
