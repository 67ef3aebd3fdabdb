"""Limits that the system keeps for us, at real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from coordinator.net import packet_filter
from microgpt.support import tcp
from tests.processes import eventually

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture(params=["127.0.0.1", "::1"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    """Of a TCP connection whose listener keeps beginnings: ours, theirs (which never waits)."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server((request.param, 0), family=family))
        except OSError:
            pytest.skip("no IPv6 here")
        assert packet_filter.keep_beginnings(listener.fileno())
        assert packet_filter.attach(listener.fileno(), packet_filter.short_packets())
        theirs = stack.enter_context(socket.create_connection(listener.getsockname()[:2]))
        theirs.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        theirs.setblocking(False)
        yield stack.enter_context(listener.accept()[0]), theirs


def limit(ours: socket.socket, first: int, count: int) -> None:
    last = (first + count) % packet_filter.SEQUENCE_NUMBERS
    assert packet_filter.attach(ours.fileno(), packet_filter.until(last))


def bring(ours: socket.socket, theirs: socket.socket, size: int) -> int:
    """Send bytes one by one, so that no packet is too long; how many have come when it stalls."""
    with suppress(BlockingIOError):
        for _ in range(size):
            theirs.send(b"x")
    ours.settimeout(1.0)
    come = 0
    with suppress(TimeoutError):
        while come < size:
            come += len(ours.recv(size - come))
    return come


def test_a_limit_is_kept_to_the_byte_and_can_be_moved_on(ends: Ends) -> None:
    ours, theirs = ends
    first = packet_filter.first_sequence_number(ours.fileno())
    assert first is not None
    assert bring(ours, theirs, 3) == 3
    limit(ours, first, 10)
    assert bring(ours, theirs, 7) == 7
    assert bring(ours, theirs, 1) == 0
    limit(ours, first, 11)
    ours.settimeout(20.0)  # TCP sends it again
    assert ours.recv(10) == b"x"


def test_what_we_send_is_confirmed_by_who_is_at_the_limit(ends: Ends) -> None:
    ours, theirs = ends
    first = packet_filter.first_sequence_number(ours.fileno())
    assert first is not None
    limit(ours, first, 5)
    assert bring(ours, theirs, 5) == 5
    before = tcp.acknowledged(ours.fileno())
    assert before is not None
    ours.sendall(bytes(1000))
    eventually(lambda: tcp.acknowledged(ours.fileno()) == before + 1000, "1000 bytes arrive")
    theirs.setblocking(True)
    assert theirs.recv(1000, socket.MSG_WAITALL) == bytes(1000)
    theirs.close()
    ours.settimeout(20.0)
    assert ours.recv(1) == b""  # its end is heard, too


def test_until_a_limit_is_set_packets_must_be_short(ends: Ends) -> None:
    ours, theirs = ends
    theirs.send(bytes(packet_filter.GREETING_BYTES))
    ours.settimeout(20.0)
    size = packet_filter.GREETING_BYTES
    assert ours.recv(size, socket.MSG_WAITALL) == bytes(size)
    theirs.send(bytes(size + 1))
    ours.settimeout(0.5)
    with pytest.raises(TimeoutError):
        ours.recv(1)
    first = packet_filter.first_sequence_number(ours.fileno())
    assert first is not None
    limit(ours, first, 2 * size + 1)
    ours.settimeout(20.0)
    assert ours.recv(size + 1, socket.MSG_WAITALL) == bytes(size + 1)


def test_the_beginning_is_told_once(ends: Ends) -> None:
    ours, _ = ends
    assert packet_filter.first_sequence_number(ours.fileno()) is not None
    assert packet_filter.first_sequence_number(ours.fileno()) is None


def test_what_is_no_connection_is_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other, open(__file__, "rb") as file:
        for descriptor in (one.fileno(), file.fileno()):
            assert packet_filter.first_sequence_number(descriptor) is None
            assert not packet_filter.keep_beginnings(descriptor)
        assert not packet_filter.attach(file.fileno(), packet_filter.nothing())
    closed = os.dup(0)
    os.close(closed)
    assert not packet_filter.attach(closed, packet_filter.nothing())
    assert packet_filter.first_sequence_number(closed) is None


def test_who_goes_beyond_the_limit_is_counted(ends: Ends) -> None:
    ours, theirs = ends
    first = packet_filter.first_sequence_number(ours.fileno())
    assert first is not None
    limit(ours, first, 5)
    assert bring(ours, theirs, 5) == 5
    assert tcp.dropped(ours.fileno()) == 0
    theirs.send(b"x")
    eventually(lambda: tcp.dropped(ours.fileno()) > 2, "TCP tries again")
    assert tcp.dropped(0) == 0


def test_a_pipe_in_a_descriptors_place_is_not_kept_open() -> None:
    """Its reader waits for the end, as a judge does for that of its question."""
    reads, writes = os.pipe()
    tcp.address_of(writes)
    tcp.abort(writes, ("127.0.0.1", 1))
    tcp.dropped(writes)
    tcp.taken_in(writes)
    packet_filter.first_sequence_number(writes)
    packet_filter.keep_beginnings(writes)
    packet_filter.attach(writes, packet_filter.everything())
    os.close(writes)
    with open(reads, "rb") as reader:
        assert reader.read() == b""
