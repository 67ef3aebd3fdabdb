"""The door for new connections, at a real listening socket and by the rules of time alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from coordinator.net.door import KNOCKS, OPEN_SECONDS, SHUT_SECONDS, Door


class At:
    """A clock that we set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
def at() -> At:
    return At()


@pytest.fixture
def door(listener: socket.socket, at: At) -> Door:
    door = Door(at)
    door.listens(listener.fileno())
    return door


def comes_in(listener: socket.socket) -> bool:
    with socket.socket() as peer:
        peer.settimeout(0.3)
        try:
            peer.connect(listener.getsockname())
        except TimeoutError:
            return False
    return True


def test_it_is_shut_for_a_moment_and_then_open_for_one(
    door: Door, at: At, listener: socket.socket
) -> None:
    assert comes_in(listener)
    door.shut()
    assert not comes_in(listener)
    at.now += SHUT_SECONDS / 2
    door.tend()
    assert door.is_shut
    at.now += SHUT_SECONDS
    door.tend()
    assert comes_in(listener)
    door.shut()
    assert not door.is_shut, "not again at once: a flood may last"
    at.now += 2 * OPEN_SECONDS
    door.shut()
    assert door.is_shut


def test_it_stays_shut_while_there_is_no_room_and_in_the_end(door: Door, at: At) -> None:
    door.shut()
    at.now += 10
    door.tend(full=True)
    assert door.is_shut
    door.tend()
    assert not door.is_shut
    door.shut(for_good=True)
    at.now += 10
    door.tend()
    assert door.is_shut


def test_too_many_that_knock_wait_and_are_let_in_at_the_permitted_pace(door: Door, at: At) -> None:
    for _ in range(KNOCKS):
        door.knocked()
    assert not door.is_shut
    door.knocked()
    assert door.is_shut
    at.now += 2 * SHUT_SECONDS
    door.tend()
    assert not door.is_shut
    for _ in range(int(KNOCKS * 2 * SHUT_SECONDS) - 2):
        door.knocked()
    assert not door.is_shut
    for _ in range(3):
        door.knocked()
    assert door.is_shut
