"""Connections that bring more and more bytes without a complete message, over real sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coordinator.inflow import LOOKED_AT, Inflow, received
from tests.processes import eventually

LIMIT = 1000
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def connections() -> Iterator[list[Ends]]:
    """Twice as many as are looked at in one go: (our end, theirs)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        made = []
        for _ in range(2 * LOOKED_AT):
            theirs = stack.enter_context(socket.create_connection(listener.getsockname()))
            ours = stack.enter_context(listener.accept()[0])
            made.append((ours, theirs))
        yield made


def brings(ends: Ends, count: int) -> None:
    ours, theirs = ends
    before = received(ours.fileno())
    assert before is not None
    theirs.sendall(bytes(count))
    eventually(lambda: received(ours.fileno()) == before + count, "the bytes are there")


def test_what_is_over_the_limit_without_a_message_is_found(connections: list[Ends]) -> None:
    inflow = Inflow(LIMIT)
    ours = [ours.fileno() for ours, _ in connections]
    for descriptor in ours:
        inflow.opened(descriptor)
    for ends in connections[1:3]:
        brings(ends, LIMIT)
    looks = [inflow.endless(ours) for _ in range(4)]
    assert looks == [[]] * 4
    for ends in connections[1:3]:
        brings(ends, 1)
    inflow.complete(ours[2])
    found = [descriptor for _ in range(4) for descriptor in inflow.endless(ours)]
    assert set(found) == {ours[1]}
    brings(connections[2], LIMIT)
    assert {d for _ in range(4) for d in inflow.endless(ours)} == {ours[1]}
    brings(connections[2], 1)
    assert {d for _ in range(4) for d in inflow.endless(ours)} == {ours[1], ours[2]}


def test_a_new_connection_with_an_old_descriptor_begins_anew(connections: list[Ends]) -> None:
    inflow = Inflow(LIMIT)
    ends = connections[0]
    brings(ends, 5 * LIMIT)
    inflow.complete(ends[0].fileno())
    inflow.endless([ends[0].fileno()])
    inflow.opened(ends[0].fileno())
    assert inflow.endless([ends[0].fileno()]) == [ends[0].fileno()]


def test_what_is_no_tcp_connection_is_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other, open(__file__, "rb") as file:
        other.sendall(bytes(100))
        assert received(one.fileno()) is None
        assert received(file.fileno()) is None
        closed = one.fileno()
    assert received(closed) is None
    assert Inflow(1).endless([closed]) == []


def test_nobody_is_there() -> None:
    assert Inflow(1).endless([]) == []
