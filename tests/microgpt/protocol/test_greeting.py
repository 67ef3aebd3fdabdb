"""What a coordinator wants, keys or none, is learnt also where it hangs up before saying why."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import zmq

from lab.faults import zmtp
from lab.remote.client import CheckpointClient
from lab.terminal import UserError
from microgpt.protocol.greeting import ENCRYPTED, GREETING_BYTES, KEYLESS, mechanism_of
from microgpt.protocol.messages import ListCheckpoints
from tests.processes import Lab

pytestmark = pytest.mark.timeout(60)
SHORT = 11  # bytes: the beginning of a greeting, without a mechanism


@pytest.mark.parametrize("mechanism", [KEYLESS, ENCRYPTED])
def test_what_zeromq_says(mechanism: str) -> None:
    with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
        if mechanism == ENCRYPTED:
            _, router.curve_secretkey = zmq.curve_keypair()
            router.curve_server = True
        port = router.bind_to_random_port("tcp://127.0.0.1")
        assert mechanism_of(f"tcp://127.0.0.1:{port}") == mechanism


def test_who_is_not_there_or_says_nothing_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        began = time.monotonic()
        assert mechanism_of(address, 0.1) == ""
        assert time.monotonic() - began < 10
    assert mechanism_of(address) == ""
    assert mechanism_of("ipc:///nowhere") == ""


@contextmanager
def hasty() -> Iterator[str]:
    """A coordinator with keys that hangs up when it sees a mechanism, before it tells its own."""
    server = socket.create_server(("127.0.0.1", 0))

    def meet(peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.sendall(zmtp.greeting(b"CURVE")[:SHORT])
            zmtp.read_exactly(peer, SHORT)
            peer.settimeout(0.2)
            try:
                peer.recv(1)
            except TimeoutError:  # who asks first, and waits, is answered
                peer.sendall(zmtp.greeting(b"CURVE")[SHORT:GREETING_BYTES])

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=meet, args=server.accept()[:1], daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()


def test_who_is_hung_up_on_is_told_of_keys(lab: Lab) -> None:
    with hasty() as address:
        worker = lab.worker(address)
        assert worker.wait() == 1
        assert worker.err == "error: the coordinator wants keys: give --curve DIR\n"
        with (
            CheckpointClient(address) as client,
            pytest.raises(UserError, match="the coordinator wants keys: give --curve"),
        ):
            client.ask(ListCheckpoints("", "", client.next_number()))
