"""Asking a coordinator for checkpoints when it is none, broken, hostile or not there at all."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
import zmq

from microgpt.checkpoint import format as checkpoint_format
from microgpt.checkpoint.format import CheckpointError
from microgpt.protocol import messages
from microgpt.protocol.messages import (
    MAX_PART,
    CheckpointList,
    CheckpointPart,
    FetchCheckpoint,
    Heartbeat,
    ListCheckpoints,
    Message,
    NoCheckpoint,
    Refuse,
    Stored,
)
from tests.processes import ROOT
from tests.tiny import make_tiny

if TYPE_CHECKING:
    from lab.remote import client as lines
    from lab.remote import fetch as fetching
    from lab.terminal import UserError
else:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        from lab.remote import client as lines
        from lab.remote import fetch as fetching
        from lab.terminal import UserError

pytestmark = pytest.mark.timeout(300)
#: What a server says to a question: messages, or raw parts of messages.
Says: TypeAlias = Callable[[Message], list[Message | bytes | list[bytes]]]
TINY = make_tiny()
DATA = checkpoint_format.encode(TINY)
assert len(DATA) < MAX_PART


@dataclass
class Server:
    """Says what it is told to, and keeps the questions."""

    says: Says = lambda question: []
    questions: list[Message] = field(default_factory=list)
    address: str = ""
    over: threading.Event = field(default_factory=threading.Event)

    def serve(self, router: zmq.Socket[bytes]) -> None:
        while not self.over.is_set():
            if not router.poll(20):
                continue
            peer, data = router.recv_multipart()
            question = messages.decode(data)
            self.questions.append(question)
            for reply in self.says(question):
                parts = [messages.encode(reply)] if isinstance(reply, Message) else reply
                with contextlib.suppress(zmq.ZMQError):
                    router.send_multipart([peer, *([parts] if isinstance(parts, bytes) else parts)])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(lines, "CONNECT_SECONDS", 0.5)
    monkeypatch.setattr(lines, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(fetching, "PAUSE", 0.0)
    context = zmq.Context()
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.SNDTIMEO, 100)
    server = Server(address=f"tcp://127.0.0.1:{router.bind_to_random_port('tcp://127.0.0.1')}")
    thread = threading.Thread(target=server.serve, args=(router,))
    thread.start()
    try:
        yield server
    finally:
        server.over.set()
        thread.join()
        context.destroy(linger=0)


def part(question: Message, **changes: object) -> CheckpointPart:
    """The right reply, or one with other fields."""
    assert isinstance(question, FetchCheckpoint)
    right = CheckpointPart("r", "l", question.number, TINY.step, len(DATA), 0, DATA)
    return replace(right, **changes)  # type: ignore[arg-type]


def nothing(question: Message, reason: str, *, again: bool) -> NoCheckpoint:
    assert isinstance(question, FetchCheckpoint | ListCheckpoints)
    return NoCheckpoint("", "", question.number, reason, again)


def get(server: Server, step: int | None = None) -> fetching.Fetched:
    with lines.CheckpointClient(server.address) as line:
        return fetching.fetch(line, step)


def test_an_honest_server(server: Server) -> None:
    server.says = lambda question: [part(question)]
    assert get(server).data == DATA
    assert get(server, TINY.step).checkpoint == TINY


def test_replies_to_other_questions_are_passed_over(server: Server) -> None:
    server.says = lambda question: [
        part(question, number=99, data=b"late", total=4),
        Heartbeat("", "", ready=True),
        part(question),
    ]
    assert get(server).data == DATA


@pytest.mark.parametrize(
    ("says", "error"),
    [
        (lambda q: [b""], "cannot be understood: not msgpack"),
        (lambda q: [b"HTTP/1.1 400 Bad Request\r\n\r\n"], "cannot be understood"),
        (lambda q: [random.Random(1).randbytes(1000)], "cannot be understood"),
        (lambda q: [b"\xdd\xff\xff\xff\xff"], "cannot be understood"),
        (lambda q: [b"\x91" * 100_000], "cannot be understood"),
        (lambda q: [[messages.encode(part(q)), b"more"]], "a message of 2 parts"),
        (lambda q: [messages.encode(part(q), protocol=0)], "speaks protocol 0"),
        (lambda q: [], "does not reply"),
        (lambda q: [bytes(lines.MAX_MESSAGE + 1)], "does not reply|no coordinator answers"),
        (lambda q: [Heartbeat("", "", ready=True)] * 10_000, "does not reply|more than anybody"),
        (lambda q: [Refuse("", "", "no \x1b[2J\nreally")], r"refuses: no \\x1b\[2J\\nreally"),
        (lambda q: [nothing(q, "gone \x1b[2J", again=False)], r"gone \\x1b\[2J"),
        (lambda q: [nothing(q, "nothing yet", again=True)], "nothing yet"),
        (lambda q: [CheckpointList("", "", q.number, (), 0)], "replies to another question"),
        (lambda q: [part(q, total=1 << 62)], "no checkpoint has"),
        (lambda q: [part(q, total=0, data=b"")], "no checkpoint has"),
        (lambda q: [part(q, total=len(DATA) + 1)], "parts of a wrong size"),
        (lambda q: [part(q, total=len(DATA) - 1)], "parts of a wrong size"),
        (lambda q: [part(q, total=1 << 30, data=b"")], "parts of a wrong size"),
        (lambda q: [part(q, offset=5)], "not asked for"),
        (lambda q: [part(q, step=6)], "another step than it says"),
    ],
)
def test_whatever_is_wrong_is_one_plain_sentence(server: Server, says: Says, error: str) -> None:
    server.says = says
    began = time.monotonic()
    with pytest.raises(UserError, match=error) as caught:
        get(server)
    assert time.monotonic() - began < 8
    assert str(caught.value).isprintable()


def test_another_step_than_the_one_asked_for(server: Server) -> None:
    server.says = lambda question: [part(question)]
    with pytest.raises(UserError, match="sends another step than it was asked for"):
        get(server, TINY.step + 1)


def test_bytes_that_are_no_checkpoint(server: Server) -> None:
    server.says = lambda q: [part(q, data=b"x" * 100, total=100)]
    with pytest.raises(CheckpointError, match=f"step 5 at {server.address} is not a checkpoint"):
        get(server)
    assert len(server.questions) == 1
    broken = DATA[:-9] + b"?" + DATA[-8:]
    server.says = lambda q: [part(q, data=broken)]
    with pytest.raises(CheckpointError, match="its digest does not match its contents"):
        get(server)
    assert len(server.questions) == 1 + fetching.TRIES, "it might have been written anew meanwhile"


def test_a_lost_reply_is_asked_for_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "IMPATIENCE", 0.1)
    server.says = lambda question: [part(question)] if len(server.questions) == 3 else []
    assert get(server).data == DATA
    assert len(set(server.questions)) == 1


def test_what_changes_meanwhile_is_fetched_anew(server: Server) -> None:
    broken = DATA[:-9] + b"?" + DATA[-8:]
    replies: list[Callable[[Message], Message]] = [
        lambda q: nothing(q, "busy", again=True),
        lambda q: part(q, data=bytes(MAX_PART), total=MAX_PART + 5),
        lambda q: part(q, offset=MAX_PART, data=bytes(6), total=MAX_PART + 6),  # grown
        lambda q: part(q, data=broken),
        part,
    ]
    server.says = lambda question: [replies[len(server.questions) - 1](question)]
    assert get(server).data == DATA
    assert [q.offset for q in server.questions if isinstance(q, FetchCheckpoint)] == [
        0, 0, MAX_PART, 0, 0
    ]  # fmt: skip


def test_lists(server: Server) -> None:
    whole = Stored(5, 100, 2.5, None, None, "")
    unread = Stored(6, 100, None, None, None, messages.NOT_LOOKED_INTO)
    replies: list[Callable[[Message], Message]] = [
        lambda q: nothing(q, "busy", again=True),
        lambda q: CheckpointList("", "", 2, (whole, unread), 3),
        lambda q: CheckpointList("", "", 3, (whole, replace_problem(unread)), 3),
    ]
    server.says = lambda question: [replies[len(server.questions) - 1](question)]
    with lines.CheckpointClient(server.address) as line:
        entries, omitted = fetching.list_all(line)
    assert (entries, omitted) == ([whole, replace_problem(unread)], 3)
    assert entries[0].loss == 2.5


def replace_problem(entry: Stored) -> Stored:
    return entry._replace(problem="truncated")


def test_following(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, then newer ones, whatever happens in between."""
    monkeypatch.setattr(fetching, "FOLLOW_SECONDS", 0.0)
    later = replace(TINY, step=9)
    data = checkpoint_format.encode(later)
    replies: list[Callable[[Message], Message]] = [
        lambda q: nothing(q, "there is no checkpoint yet", again=True),
        part,
        lambda q: nothing(q, "step 5 is the newest still", again=True),
        lambda q: nothing(q, "the coordinator is busy", again=True),
        lambda q: part(q, step=9, data=data, total=len(data)),
    ]
    server.says = lambda question: [replies[len(server.questions) - 1](question)]
    with lines.CheckpointClient(server.address) as line:
        followed = fetching.follow(line)
        assert [next(followed).step, next(followed).step] == [5, 9]
    known = [q.known for q in server.questions if isinstance(q, FetchCheckpoint)]
    assert known == [None, None, 5, 5, 5]


def test_who_follows_bears_a_server_that_is_too_busy_to_reply(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For some time: the first question of all is given up sooner."""
    monkeypatch.setattr(fetching, "FOLLOW_SECONDS", 0.0)
    later = replace(TINY, step=9)
    data = checkpoint_format.encode(later)
    silent = False

    def says(question: Message) -> list[Message | bytes | list[bytes]]:
        nonlocal silent
        assert isinstance(question, FetchCheckpoint)
        if silent:
            silent = question.number < 4
            return []
        silent = question.known is None
        if silent:
            return [part(question)]
        return [part(question, step=9, data=data, total=len(data))] if question.number == 5 else []

    server.says = says
    with lines.CheckpointClient(server.address) as line:
        followed = fetching.follow(line)
        assert next(followed).step == 5
        assert next(followed).step == 9
        with pytest.raises(lines.SilentError, match="does not reply"):
            next(followed)
    numbers = [q.number for q in server.questions if isinstance(q, FetchCheckpoint)]
    assert numbers[-1] == 5 + fetching.MOST_UNHEARD


def test_nobody_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.over.set()
    for address in ("tcp://127.0.0.1:1", "ipc:///tmp/no-such-coordinator"):
        with (
            lines.CheckpointClient(address) as line,
            pytest.raises(lines.GoneError, match=f"no coordinator answers at {address}: is the"),
        ):
            next(fetching.follow(line))


@pytest.mark.parametrize("address", ["tcp://", "tcp://127.0.0.1", "tcp://127.0.0.1:x", "ipc://"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises(UserError, match="is no address"):
        lines.CheckpointClient(address)


def test_the_script_says_it_in_one_line(server: Server) -> None:
    server.says = lambda question: [b"\x1b[2J"]
    for script, *arguments in (("sample", server.address), ("checkpoint", "get", server.address)):
        done = subprocess.run(
            [sys.executable, str(ROOT / f"scripts/{script}.py"), *arguments],
            capture_output=True, text=True, check=False, timeout=30,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"error: the coordinator at {server.address} cannot be under")
        assert done.stderr.count("\n") == 1


def test_without_pyzmq(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    monkeypatch.delitem(sys.modules, "lab.remote.client")
    with pytest.raises(UserError, match="needs pyzmq: pip install pyzmq"):
        fetching.call("tcp://127.0.0.1:1", None)
