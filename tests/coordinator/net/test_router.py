"""What the coordinator's socket makes of what comes in, over real connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import zmq

from coordinator.core.inputs import Disconnected, Input, Misbehaved, Received
from coordinator.net.router import Transport
from microgpt.protocol.messages import Goodbye, encode
from tests.processes import eventually

LAST = Goodbye("run", "epoch")


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
