"""Whoever watches can do what they want: others see the run, and the page takes no more memory."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from uvicorn.server import ServerState

from lab.page import connection
from lab.page.connection import Connection
from lab.page.feed import MOST_VIEWERS
from tests.lab.page import records
from tests.lab.page.records import BEGIN
from tests.lab.page.serving import Served, Viewer, served
from tests.marks import soak
from tests.processes import PATIENCE, eventually


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return records.write(
        tmp_path_factory.mktemp("runs") / "it", records.epoch(1, 400, BEGIN), steps=400
    )


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[Served]:
    with served(run) as page:
        yield page


def ask(page: Served, path: str = "/", **headers: str) -> http.client.HTTPResponse:
    client = http.client.HTTPConnection(*page.address, timeout=PATIENCE)
    client.request("GET", path, headers=headers)
    return client.getresponse()


@pytest.mark.parametrize("come", [MOST_VIEWERS + 8, soak(200)])
def test_two_hundred_at_once_are_answered_or_refused(page: Served, come: int) -> None:
    with contextlib.ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(page)) for _ in range(come)]
        statuses = [viewer.status for viewer in viewers]
        assert statuses.count(200) <= MOST_VIEWERS
        assert statuses.count(200) + statuses.count(503) == come
        first = next(viewers[statuses.index(200)].messages())
        assert (first[1], first[2]["state"]["step"]) == ("snapshot", 400)
        assert ask(page).status == 200
    eventually(lambda: ask_stream(page) == 200, "there is room again")


def ask_stream(page: Served) -> int:
    with Viewer(page) as viewer:
        return viewer.status


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00" * 5000, b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 40_000,
        b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"a" * 40_000, b"\x16\x03\x01\x02\x00garbage\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    ],
)  # fmt: skip
def test_garbage_is_refused(page: Served, sent: bytes) -> None:
    with socket.create_connection(page.address, timeout=PATIENCE) as stranger:
        stranger.sendall(sent)
        answer = stranger.recv(100)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 421", b"HTTP/1.1 431")), answer
    assert ask(page).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:80", 200), ("127.0.0.1:8080", 200), ("[::1]:80", 200),
        ("192.168.1.7:8080", 200), ("localhost.", 200), ("evil.example", 421), ("", 421),
        ("evil.example:8080", 421), ("127.0.0.1.evil.example", 421), ("localhost:x", 421),
        ("[::1", 421), ("localhost.evil.example", 421),
    ],
)  # fmt: skip
def test_only_names_of_this_machine_are_served(page: Served, host: str, status: int) -> None:
    assert ask(page, "/api/stream" if status != 200 else "/", Host=host).status == status


def test_a_name_that_was_given_is_served(run: Path) -> None:
    with served(run, "--host", "localhost") as page:
        assert ask(page, Host="localhost:1").status == 200


def test_every_answer_carries_what_keeps_other_pages_out(page: Served) -> None:
    for path in ("/", "/static/nothing", "/nothing", "/api/round/1/1", "/api/stream"):
        headers = ask(page, path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"], path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"], path
        assert headers["X-Content-Type-Options"] == "nosniff", path
        assert headers["Access-Control-Allow-Origin"] is None, path
        if path.startswith("/api"):
            assert headers["Cache-Control"] == "no-store", path
    assert ask(page, "/static/../server.py").status == 404
    assert ask(page, "/static/%2e%2e/server.py").status == 404


def test_who_comes_back_goes_on_where_it_was(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 5, BEGIN), steps=5)
    with served(run) as page:
        with Viewer(page) as viewer:
            ident, name, data = next(viewer.messages())
            assert (name, data["steps"]["step"]) == ("snapshot", [1, 2, 3, 4, 5])
        with open(run / "metrics.jsonl", "a") as file:
            file.write(records.metrics(6, 8))
        with Viewer(page, f"Last-Event-ID: {ident}") as viewer:
            assert viewer.until("steps")["step"] == [6, 7, 8]
        with Viewer(page, path=f"/api/stream?last={ident}") as viewer:
            assert next(viewer.messages())[1] != "snapshot"
        boot, _, number = ident.partition("-")
        for other in (f"00000000-{number}", f"{boot}-999999", "nonsense", "-", f"{boot}-x"):
            with Viewer(page, f"Last-Event-ID: {other}") as viewer:
                _, name, data = next(viewer.messages())
                assert (name, data["steps"]["step"][-1]) == ("snapshot", 8), other


def test_who_does_not_read_costs_nobody_anything(tmp_path: Path) -> None:
    run = records.write(tmp_path / "it", records.epoch(1, 5, BEGIN, steps=10**6), steps=5)
    with served(run) as page, contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(Viewer(page)) for _ in range(20)]
        reader = stack.enter_context(Viewer(page))
        reader.until("snapshot")
        before = memory(page)
        for first in range(6, 8_006, 400):
            with open(run / "metrics.jsonl", "a") as file:
                file.write(records.metrics(first, first + 399))
            while reader.until("steps")["step"][-1] < first + 399:
                pass
        assert memory(page) - before < 30e6
        # Who has fallen behind is told all anew, and the newest.
        assert {stalled[0].status, stalled[-1].status} == {200}


def memory(page: Served) -> float:
    """Bytes that the page's process holds."""
    with open(f"/proc/{page.pid}/statm") as file:
        return 4096.0 * int(file.read().split()[1])


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CHECK_SECONDS", 0.05)


async def endless(scope: object, receive: object, send: object) -> None:
    """An application that sends as much as the peer takes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    while True:
        await asyncio.sleep(0)  # to one that has gone nothing is waited for
        await send(  # type: ignore[operator]
            {"type": "http.response.body", "body": b"x" * 65536, "more_body": True}
        )


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "sent",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n",
     b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf",
     b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"],
)  # fmt: skip
def test_who_neither_asks_nor_takes_is_hung_up_on(sent: bytes) -> None:
    async def main() -> None:
        config = uvicorn.Config(endless, ws="none", lifespan="off", log_config=None)
        state = ServerState()
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(config, state, {}), "127.0.0.1", 0)
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), limit=1)
        writer.write(sent)
        async with asyncio.timeout(PATIENCE):
            while not state.connections:
                await asyncio.sleep(0.01)
            while state.connections:
                await asyncio.sleep(0.01)
        writer.transport.abort()
        server.close()
        for task in state.tasks:
            task.cancel()

    asyncio.run(main())
