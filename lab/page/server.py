"""The web server of the page: where it listens, what it takes from strangers, how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn

from lab.page.app import make_app
from lab.page.connection import Connection
from lab.page.control import Control
from lab.page.feed import Feed
from lab.page.follower import Follower
from lab.page.sampler import look_once_more
from lab.page.until import Until, wait
from microgpt.support import signals
from microgpt.support.cli import UserError, say

BACKLOG = 64
END_SECONDS = 1  # for streams to end


def listen(host: str, port: int, *, exactly: bool) -> socket.socket:
    """A socket that listens at the port, or unless ``exactly`` at a free one. Raises UserError."""
    if not host:  # for the system that would be every address
        raise UserError("an address to listen at is wanted: 0.0.0.0 is every one of this machine")
    for tried in (port,) if exactly or port == 0 else (port, 0):
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, tried), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            number = getattr(error, "errno", 0) or 0
            said = getattr(error, "strerror", None) or str(error)
            reason = os.strerror(number) if number > 0 else said.partition(" (while")[0]
    raise UserError(f"cannot listen at {host}, port {port}: {reason}")


def url_of(listening: socket.socket) -> str:
    """The address to open on this machine."""
    host, port = listening.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "::1" if ":" in host else "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(listening: socket.socket) -> bool:
    """Whether nobody but this machine can reach it."""
    return ipaddress.ip_address(listening.getsockname()[0]).is_loopback


def serve(
    run_dir: Path, listening: socket.socket, host: str, until: Until, control: Control | None
) -> None:
    """Serve until a signal comes, or as long as is told.

    Raises UserError for an error of this program, without which the page would stand still.
    """
    asyncio.run(_serve(run_dir, listening, host, until, control))


async def _serve(
    run_dir: Path, listening: socket.socket, host: str, until: Until, control: Control | None
) -> None:
    feed = Feed(
        Follower(run_dir, control=control is not None),
        lambda text: say(f"warning: {text}", error=True),
    )
    config = uvicorn.Config(
        make_app(feed, frozenset([host.lower()]), control),
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=END_SECONDS,
        h11_max_incomplete_event_size=16 * 1024,
    )
    server, ended = _Server(config), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in signals.SIGNALS:
        loop.add_signal_handler(number, ended.set)
    watching = [
        loop.create_task(_end_when(ended, feed, server)),
        loop.create_task(wait(until, feed, ended)),
    ]
    await server.serve([listening])
    for task in watching:
        task.cancel()
    if feed.failure is not None:
        raise UserError(f"the page cannot go on: {feed.failure!r}") from feed.failure


class _Server(uvicorn.Server):
    """One whose signals are ours: viewers are told the end before the server ends."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Takes none."""
        yield


async def _end_when(ended: asyncio.Event, feed: Feed, server: uvicorn.Server) -> None:
    waiting = [asyncio.create_task(event.wait()) for event in (ended, feed.failed)]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    try:
        if feed.failure is None:
            await look_once_more(feed)
            await feed.close()
    finally:
        server.should_exit = True
