"""What connections bring without being read, over real sockets and by the rules alone."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from coordinator.net import packet_filter
from coordinator.net.connections import (
    FLOOD,
    MEMBER_HURRIES,
    MEMBER_SAYS,
    MEMBER_WINDOW,
    MOST_DROPPED,
    NEWCOMER_WINDOW,
    SLACK,
    STRANGER_SAYS,
    STRANGER_UNREAD,
    STRANGER_WINDOW,
    STRANGERS_UNREAD,
    UNREAD,
    WINDOW_SECONDS,
    Connections,
)
from coordinator.net.silent_connections import MAX_SILENT, SILENT_SECONDS
from microgpt.support import tcp
from tests.processes import eventually

LARGEST = 1000
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Of a TCP connection: ours, theirs."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        theirs = stack.enter_context(socket.create_connection(listener.getsockname()))
        yield stack.enter_context(listener.accept()[0]), theirs


# --- what the system counts ----------------------------------------------------------------------


def test_bytes_count_when_they_have_left_the_systems_queue(ends: Ends) -> None:
    ours, theirs = ends
    theirs.sendall(bytes(500))
    assert ours.recv(200, socket.MSG_WAITALL) == bytes(200)
    eventually(lambda: tcp.taken_in(ours.fileno()) == 200, "200 of 500 bytes are taken in")
    assert ours.recv(300, socket.MSG_WAITALL) == bytes(300)
    assert tcp.taken_in(ours.fileno()) == 500
    before = tcp.acknowledged(ours.fileno())
    assert before is not None
    ours.sendall(bytes(70))
    eventually(lambda: tcp.acknowledged(ours.fileno()) == before + 70, "70 bytes have arrived")


def test_what_is_no_tcp_connection_has_no_counts() -> None:
    one, other = socket.socketpair()
    with one, other, open(__file__, "rb") as file:
        other.sendall(bytes(100))
        assert tcp.taken_in(one.fileno()) is None
        assert tcp.taken_in(file.fileno()) is None
        assert tcp.acknowledged(file.fileno()) is None
        closed = one.fileno()
    assert tcp.taken_in(closed) is None
    assert tcp.address_of(closed) is None


def test_a_connection_broken_off_delivers_nothing_more(ends: Ends) -> None:
    ours, theirs = ends
    theirs.sendall(bytes(500))
    tcp.abort(ours.fileno(), ("127.0.0.1", 1))
    assert ours.recv(100) == bytes(100), "it is another's connection, and is left alone"
    tcp.abort(ours.fileno(), theirs.getsockname())
    with pytest.raises(OSError):  # noqa: PT011 - not connected, or reset if there was more to read
        ours.recv(100)
    with pytest.raises(ConnectionResetError):
        theirs.recv(1)


def test_a_local_connection_is_broken_off_as_well() -> None:
    one, other = socket.socketpair()
    with one, other:
        tcp.abort(one.fileno(), tcp.address_of(one.fileno()))
        assert other.recv(1) == b""
        assert one.recv(1) == b""


@pytest.mark.parametrize(
    ("sizes", "plain", "encrypted"),
    [((0,), 2, 35), ((222,), 224, 257), ((223,), 225, 265), ((255, 256), 522, 595)],
)
def test_frames_on_the_wire(sizes: tuple[int, ...], plain: int, encrypted: int) -> None:
    assert tcp.frame_bytes(sizes, encrypted=False) == plain
    assert tcp.frame_bytes(sizes, encrypted=True) == encrypted


# --- the rules -----------------------------------------------------------------------------------


class Crowd(Connections):
    """Connections of which we say what has come."""

    def __init__(self) -> None:
        self.came: dict[int, int] = {}
        super().__init__(LARGEST, self.came.get)
        self.members = {b"member"}

    def joins(self, descriptor: int, peer: bytes | None = None) -> None:
        assert [*self.opened(descriptor)] == []
        self.came[descriptor] = 0
        if peer is not None:
            self.says(descriptor, peer)

    def says(self, descriptor: int, peer: bytes) -> str:
        self.came[descriptor] += 12
        return self.heard(descriptor, peer, (10,))

    def brings(self, descriptor: int, count: int) -> None:
        self.came[descriptor] += count


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [(b"stranger", STRANGER_UNREAD), (None, STRANGER_UNREAD), (b"member", 2 * LARGEST + SLACK)],
)
def test_unread_bytes_of_one(peer: bytes | None, allowed: int) -> None:
    crowd = Crowd()
    crowd.joins(5, peer)
    crowd.brings(5, allowed)
    assert crowd.look() == []
    crowd.brings(5, 1)
    assert crowd.look() == [(5, UNREAD)]


def test_what_has_been_read_does_not_count() -> None:
    crowd = Crowd()
    crowd.joins(5, b"stranger")
    for _ in range(2 * STRANGER_UNREAD // 12):
        assert crowd.says(5, b"stranger") in ("", FLOOD)
        if crowd.look():
            raise AssertionError("all of it has been read")
    assert crowd.look() == []


def test_signs_of_life_do_not_add_up_but_a_message_without_an_end_does() -> None:
    crowd = Crowd()
    crowd.joins(5, b"talks")
    crowd.joins(6, b"never ends")
    for _ in range(10):
        for descriptor in (5, 6):
            crowd.brings(descriptor, STRANGER_UNREAD // 4)
        crowd.says(5, b"talks")
        found = crowd.look()
        crowd.drained()
        if found:
            break
    assert found == [(6, UNREAD)]
    crowd.brings(5, STRANGER_UNREAD)
    assert (5, UNREAD) not in crowd.look()
    crowd.brings(5, 1)
    assert (5, UNREAD) in crowd.look()


def test_nobody_saves_up_for_later() -> None:
    """Bytes forgiven in the middle of a message are not taken off again at its end."""
    crowd = Crowd()
    crowd.joins(5, b"saves")
    for _ in range(50):
        crowd.says(5, b"saves")
        crowd.brings(5, 50_000)
        assert crowd.look() == []
        crowd.drained()
        crowd.heard(5, b"saves", (50_000 - 9,))
        assert crowd.look() == []
        crowd.drained()
    crowd.brings(5, STRANGER_UNREAD + 1)
    assert crowd.look() == [(5, UNREAD)]


def test_all_strangers_together_the_worst_first() -> None:
    crowd = Crowd()
    crowd.joins(99, b"member")
    crowd.brings(99, STRANGERS_UNREAD)
    part = STRANGERS_UNREAD // 20
    for descriptor in range(5, 25):
        crowd.joins(descriptor)
        crowd.brings(descriptor, part)
    assert crowd.look() == []
    crowd.brings(8, part)
    crowd.brings(9, part // 2)
    assert crowd.look() == [(8, UNREAD)]


def test_a_member_that_says_much_may_bring_no_more_than_a_stranger() -> None:
    crowd = Crowd()
    crowd.joins(5, b"member")
    crowd.brings(5, STRANGER_UNREAD + 1)
    for _ in range(MEMBER_HURRIES - 1):
        crowd.says(5, b"member")
    assert crowd.look() == []
    crowd.says(5, b"member")
    assert crowd.look() == [(5, UNREAD)]
    crowd.drained()
    assert crowd.look() == []


@pytest.mark.parametrize(
    ("peer", "allowed"), [(b"stranger", STRANGER_SAYS), (b"member", MEMBER_SAYS)]
)
def test_messages_without_a_pause(peer: bytes, allowed: int) -> None:
    crowd = Crowd()
    crowd.joins(5, peer)
    crowd.drained()
    assert {crowd.says(5, peer) for _ in range(allowed)} == {""}
    assert crowd.says(5, peer) == FLOOD
    crowd.drained()
    assert crowd.says(5, peer) == ""


def test_an_honest_member_in_a_flood_that_never_ends_is_not_cut() -> None:
    """Ten minutes of results, small words and signs of life, and never a moment of quiet."""
    crowd = Crowd()
    crowd.joins(5, b"member")
    crowd.joins(6, b"stranger")
    for tick in range(10 * 60 * 20):
        crowd.pass_time(tick * 0.05)
        for _ in range(20):
            assert crowd.says(5, b"member") == ""
        crowd.brings(5, LARGEST + 9)
        if tick % 10 == 0:
            crowd.brings(5, 40)  # a PING
            crowd.brings(6, 40)
            assert crowd.says(6, b"stranger") == ""
        assert crowd.look() == []
        assert crowd.heard(5, b"member", (LARGEST,)) == ""
    crowd.brings(6, STRANGER_UNREAD + 1)
    assert crowd.look() == [(6, UNREAD)]


def test_floods_are_counted_by_the_time_where_nothing_is_ever_drained() -> None:
    crowd = Crowd()
    crowd.joins(5)
    crowd.pass_time(100.0)
    assert {crowd.says(5, b"stranger") for _ in range(STRANGER_SAYS)} == {""}
    crowd.pass_time(100.0 + WINDOW_SECONDS / 2)
    assert crowd.says(5, b"stranger") == FLOOD
    crowd.pass_time(100.0 + WINDOW_SECONDS)
    assert crowd.says(5, b"stranger") == ""


def test_who_is_looked_at_closely() -> None:
    crowd = Crowd()
    assert not crowd.has_unlimited
    crowd.joins(5, b"member")
    crowd.look()
    assert (crowd.has_unlimited, crowd.flow) == (False, False)
    crowd.joins(6)
    crowd.brings(6, STRANGER_UNREAD // 2)
    crowd.look()
    assert (crowd.has_unlimited, crowd.flow) == (True, True)
    crowd.closed(6)
    crowd.look()
    assert (crowd.has_unlimited, crowd.flow) == (False, False)


def test_who_was_a_member_may_end_what_it_has_begun() -> None:
    crowd = Crowd()
    crowd.joins(5, b"member")
    crowd.members = set()
    crowd.brings(5, STRANGER_UNREAD + 1)
    assert crowd.look() == []


def test_the_oldest_of_too_many_that_say_nothing_goes() -> None:
    crowd = Crowd()
    crowd.joins(3, b"talks")
    for descriptor in range(10, 10 + MAX_SILENT):
        crowd.joins(descriptor)
    assert [*crowd.opened(9)] == [10]
    crowd.closed(11)
    assert [*crowd.opened(11)] == []
    assert [*crowd.opened(8)] == [12]


def test_who_says_nothing_for_long_goes() -> None:
    crowd = Crowd()
    for descriptor in range(5, 9):
        assert [*crowd.opened(descriptor, 100.0 + descriptor)] == []
    crowd.came[5] = 0
    crowd.says(5, b"talks")
    crowd.closed(7)
    assert [*crowd.silent.late(106.0 + SILENT_SECONDS - 0.001)] == []
    assert [*crowd.silent.late(106.0 + SILENT_SECONDS)] == [6]
    assert [*crowd.silent.late(200.0)] == [8]


def test_a_new_connection_with_an_old_descriptor_begins_anew() -> None:
    crowd = Crowd()
    crowd.joins(5, b"old")
    crowd.brings(5, STRANGER_UNREAD)
    assert crowd.closed(5) == b"old"
    assert crowd.closed(5) is None
    crowd.joins(5)
    crowd.brings(5, STRANGER_UNREAD)
    assert crowd.heard(5, b"new", (10,)) == ""
    assert crowd.heard(5, b"old", (STRANGER_UNREAD,)) == "", "its last words: not the new one's"
    assert crowd.by_peer == {b"new": 5}
    crowd.brings(5, 13)
    assert crowd.look() == [(5, UNREAD)]


@pytest.mark.parametrize("first", [1, (1 << 32) - 1])
def test_a_descriptor_is_that_of_the_newer_name(first: int) -> None:
    crowd = Crowd()
    older, newer = (b"\0" + (n % (1 << 32)).to_bytes(4) for n in (first, first + 1))
    crowd.joins(5)
    assert crowd.taken_for(5, older) is None
    crowd.says(5, older)
    crowd.garbled(5)
    assert crowd.taken_for(5, older) is None
    assert crowd.taken_for(5, newer) == older
    assert crowd.taken_for(5, newer) is None
    assert crowd.taken_for(5, older) is None, "its last words"
    assert not crowd.is_garbled(5), "that was the other one"
    crowd.says(5, newer)
    crowd.says(5, older)
    assert crowd.by_peer == {newer: 5}
    assert crowd.closed(5) == newer
    assert crowd.by_peer == {}


def test_nobody_is_there() -> None:
    assert Connections(LARGEST).look() == []


def test_the_beginning_may_be_told_of_another_one_before() -> None:
    """One that had gone before we heard of it, and whose descriptor is this one's already."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        packet_filter.keep_beginnings(listener.fileno())
        with (
            socket.create_connection(listener.getsockname()),
            listener.accept()[0] as ours,
        ):
            connections = Connections(LARGEST)
            assert not [*connections.opened(ours.fileno())]
            first = connections.open[ours.fileno()].first
            assert first is not None
            connections.closed(ours.fileno())
            assert not [*connections.opened(ours.fileno())]
            assert connections.open[ours.fileno()].first == first
            assert not connections.has_unlimited


def test_who_has_no_known_beginning_is_looked_at() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        packet_filter.attach(listener.fileno(), packet_filter.short_packets())
        with (
            socket.create_connection(listener.getsockname()) as theirs,
            listener.accept()[0] as ours,
        ):
            connections = Connections(LARGEST)
            assert not [*connections.opened(ours.fileno())]
            assert connections.has_unlimited
            theirs.sendall(bytes(5000))
            ours.settimeout(20.0)
            assert ours.recv(5000, socket.MSG_WAITALL) == bytes(5000)


def test_what_a_lossy_link_drops_costs_nobody_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    dropped = 0
    monkeypatch.setattr(packet_filter, "attach", lambda descriptor, program: True)
    monkeypatch.setattr(packet_filter, "first_sequence_number", lambda descriptor: 1)
    monkeypatch.setattr(tcp, "address_of", lambda descriptor: ("127.0.0.1", descriptor))
    monkeypatch.setattr(tcp, "dropped", lambda descriptor: dropped)
    crowd = Crowd()
    crowd.joins(5, b"asker")
    crowd.members = set()
    crowd.open[5].known = False
    for _ in range(10):
        dropped += MOST_DROPPED
        assert crowd.look() == []
        assert crowd.says(5, b"asker") == ""
    dropped += MOST_DROPPED + 1
    assert crowd.look() == [(5, UNREAD)]


def test_a_member_may_bring_more_once_its_answers_are_accepted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        packet_filter.keep_beginnings(listener.fileno())
        with socket.create_connection(listener.getsockname()), listener.accept()[0] as ours:
            crowd, proven = Connections(LARGEST, usual=500), set[bytes]()
            crowd.proves = proven.__contains__
            assert not [*crowd.opened(ours.fileno())]
            connection = crowd.open[ours.fileno()]
            assert connection.window == STRANGER_WINDOW
            crowd.members = {b"member"}
            crowd.heard(ours.fileno(), b"member", (STRANGER_WINDOW,))
            assert connection.window - connection.read == 2 * 500 + NEWCOMER_WINDOW
            proven.add(b"member")
            crowd.heard(ours.fileno(), b"member", (NEWCOMER_WINDOW,))
            assert connection.window - connection.read == 4 * 500 + MEMBER_WINDOW
