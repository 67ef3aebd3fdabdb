"""The proxy does to connections what it says, and the reader of ZMTP finds the messages."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import zmq

from lab.conditions import DOWN, UP, Link
from lab.faults import zmtp
from lab.faults.proxy import Proxy
from tests.processes import eventually

pytestmark = pytest.mark.timeout(300)
HOST = "127.0.0.1"


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends everything back."""

    def serve(peer: socket.socket) -> None:
        with peer, contextlib.suppress(OSError):
            while data := peer.recv(4096):
                peer.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()

    with socket.create_server((HOST, 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        yield HOST, server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def proxy(echo: tuple[str, int]) -> Iterator[Proxy]:
    with Proxy(echo) as proxy:
        yield proxy


def connect(proxy: Proxy) -> socket.socket:
    client = socket.create_connection((HOST, int(proxy.address.rpartition(":")[2])), timeout=10)
    eventually(lambda: proxy.connections > 0, "the proxy takes the connection")
    return client


def ask(client: socket.socket, data: bytes) -> float:
    """Send and wait until all has come back; returns the seconds it took."""
    began = time.monotonic()
    client.sendall(data)
    back = b""
    while len(back) < len(data):
        back += client.recv(1 << 16)
    assert back == data
    return time.monotonic() - began


def test_what_goes_in_comes_out(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client, b"hello")
        threading.Thread(target=client.sendall, args=(bytes(3_000_000),), daemon=True).start()
        back = 0
        while back < 3_000_000:
            back += len(client.recv(1 << 16))
    eventually(lambda: proxy.connections == 0, "a closed connection is forgotten")


def test_cut_is_a_reset_and_new_connections_are_welcome(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client, b"hello")
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    with connect(proxy) as client:
        ask(client, b"again")


def test_partitioned_means_open_and_silent_until_it_is_calm(proxy: Proxy) -> None:
    with connect(proxy) as client:
        ask(client, b"hello")
        proxy.partition()
        client.sendall(b"late")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        proxy.calm()
        client.settimeout(10)
        assert client.recv(100) == b"late"


@pytest.mark.parametrize("up", [True, False])
def test_one_way(echo: tuple[str, int], up: bool) -> None:
    passed: list[bool] = []
    with (
        Proxy(echo, observer=lambda number, upwards, data: passed.append(upwards)) as proxy,
        connect(proxy) as client,
    ):
        proxy.partition(frozenset((UP if up else DOWN,)))
        client.sendall(b"x")
        if not up:
            eventually(lambda: passed == [True], "the question has passed")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert passed == ([] if up else [True])
        proxy.calm()
        client.settimeout(10)
        assert client.recv(100) == b"x"


def test_delay_counts_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.delay(0.15)
        assert ask(client, b"hello") >= 0.3


def test_throttle(proxy: Proxy) -> None:
    with connect(proxy) as client:
        proxy.throttle(20_000)
        # The first 2,000 bytes may be saved up; the rest takes its time, up and down at once.
        assert ask(client, bytes(8_000)) >= 0.25


def test_nobody_there() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    with Proxy((HOST, port)) as proxy:
        number = int(proxy.address.rpartition(":")[2])
        with socket.create_connection((HOST, number), timeout=10) as client:
            assert client.recv(1) == b""


def test_messages_are_read_off_a_real_connection() -> None:
    context = zmq.Context()
    router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = router.bind_to_random_port(f"tcp://{HOST}")
    readers = {True: zmtp.Reader(), False: zmtp.Reader()}
    read: dict[bool, list[bytes]] = {True: [], False: []}

    def observer(number: int, upwards: bool, data: bytes) -> None:
        read[upwards] += readers[upwards].feed(data)

    try:
        with Proxy((HOST, port), observer=observer) as proxy:
            dealer.connect(proxy.address)
            sent = [b"a", bytes(255), bytes(300), bytes(200_000), b""]
            for message in sent:
                dealer.send(message)
            received = [router.recv_multipart() for _ in sent]
            assert [body for _, body in received] == sent
            peer = received[0][0]
            router.send_multipart((peer, b"one", b"two"))
            assert dealer.recv_multipart() == [b"one", b"two"]
        assert read[True] == sent
        assert read[False] == [b"onetwo"]
    finally:
        context.destroy(linger=0)


def test_what_we_say_by_hand_is_understood() -> None:
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.RCVTIMEO, 10_000)
    port = router.bind_to_random_port(f"tcp://{HOST}")
    try:
        with socket.create_connection((HOST, port), timeout=10) as peer:
            zmtp.shake_hands(peer, b"me")
            peer.sendall(zmtp.frame(bytes(300)))
            assert router.recv_multipart() == [b"me", bytes(300)]
    finally:
        context.destroy(linger=0)


def test_a_link_is_slow_and_lossy_and_keeps_bytes_and_their_order(echo: tuple[str, int]) -> None:
    link = Link(delay=0.03, jitter=0.03, loss=0.2)
    passed = {True: b"", False: b""}

    def watch(connection: int, upwards: bool, data: bytes) -> None:
        passed[upwards] += data

    sent = b"".join(b"%05d" % number for number in range(4000))
    with Proxy(echo, observer=watch, link=link, seed=3) as proxy, connect(proxy) as client:
        for first in range(0, len(sent), 2000):  # in several pieces, so that one might overtake
            client.sendall(sent[first : first + 2000])
        back = b""
        while len(back) < len(sent):
            back += client.recv(1 << 16)
    assert back == sent
    assert passed == {True: sent, False: sent}


def test_a_link_takes_its_time_each_way_also_after_bad_weather(echo: tuple[str, int]) -> None:
    with Proxy(echo, link=Link(delay=0.1)) as proxy, connect(proxy) as client:
        assert ask(client, b"x") >= 0.2
        proxy.delay(0.0)
        proxy.calm()
        assert ask(client, b"x") >= 0.2
